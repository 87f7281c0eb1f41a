// For the differential test. Reads lines "read PATH" (answers "accepted" or "refused: why") and "copy FROM
// TO" (reads all tensors and writes them again).
#include <iostream>
#include <sstream>

#include "core/base/error.h"
#include "core/base/io/safetensors.h"

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, from, to;
    words >> verb >> from >> to;
    try {
      const toroid::SafetensorsFile file(from);
      if (verb == "copy") {
        std::vector<toroid::TensorSource> sources;
        for (const toroid::TensorInfo& info : file.tensors()) {
          toroid::TensorSource source;
          source.name = info.name;
          source.type = info.type;
          source.shape = info.shape;
          source.fill = [&file, &info](int64_t first, std::span<std::byte> out) {
            file.read(info, out, first);
          };
          sources.push_back(std::move(source));
        }
        toroid::write_safetensors(to, std::move(sources), file.metadata());
      }
      std::cout << "accepted" << std::endl;
    } catch (const toroid::UserError& error) {
      std::cout << "refused: " << error.what() << std::endl;
    }
  }
}
