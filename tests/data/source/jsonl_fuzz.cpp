// Any bytes as a JSONL file, plain or compressed: documents of clean UTF-8, or one UserError.
#include <stdlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "data/data.pb.h"
#include "data/source/registry.h"

namespace {

void read(const std::filesystem::path& path) {
  toroid::config::SourceConfig config;
  config.set_name("fuzz");
  config.set_path(path.string());
  config.set_format(toroid::config::SourceConfig::JSONL);
  config.set_maximum_megabytes(1);
  const auto source = toroid::builtin_sources().make(config, "");
  for (size_t part = 0; part < source->parts(); ++part) {
    toroid::read_filtered(*source, part, source->cleaning(), [](toroid::Document&& document) {
      if (!toroid::valid_utf8(document.text)) std::abort();
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string directory = [] {
    std::string name = (std::filesystem::temp_directory_path() / "toroid-fuzz-XXXXXX").string();
    return ::mkdtemp(name.data()) == nullptr ? std::string(".") : name;
  }();
  for (const char* name : {"/a.jsonl", "/a.jsonl.gz", "/a.jsonl.zst"}) {
    std::ofstream(directory + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    try {
      read(directory + name);
    } catch (const toroid::UserError&) {  // what a bad file is answered with
    }
  }
  return 0;
}
