#include "tests/malformed/readers.h"

#include "core/base/io/json.h"
#include "core/base/io/safetensors.h"
#include "core/model/model.pb.h"
#include "data/tokenizer/tokenizer.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/config/load.h"
#include "train/huggingface/model_config.h"

namespace toroid {

std::vector<MalformedReader> malformed_readers() {
  return {
      {"safetensors", [](const Path& path) { SafetensorsFile{path}; }},
      {"index", [](const Path& path) { SafetensorsModel{path}; }},
      {"json", [](const Path& path) { JsonDocument::read(path); }},
      {"manifest",
       [](const Path& path) { parse_manifest(read_file(path, int64_t{64} << 20), path.string()); }},
      {"checkpoint", [](const Path& path) { CheckpointReader{path}; }},
      {"huggingface_config", [](const Path& path) { huggingface::read_model_config(path); }},
      {"config", [](const Path& path) { config::load(path); }},
      {"tokenizer", [](const Path& path) { Tokenizer::load(path); }},
  };
}

}  // namespace toroid
