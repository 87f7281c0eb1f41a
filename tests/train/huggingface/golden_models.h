// The models that transformers wrote and can run: the case folders of TOROID_GOLDEN_DIR, or of the project's
// own copy, but those of parallel layers, which are refused.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid::huggingface {

inline std::vector<std::filesystem::path> golden_models() {
  const char* from = std::getenv("TOROID_GOLDEN_DIR");
  const std::filesystem::path root = from != nullptr && *from != '\0' ? from : "tests/golden";
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!std::filesystem::exists(entry.path() / "model.safetensors")) continue;
    if (read_file(entry.path() / "config.json", 1 << 20).find("parallel_layers") == std::string::npos)
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace toroid::huggingface
