#include "tests/malformed/readers.h"

#include "core/base/io/json.h"
#include "core/base/io/safetensors.h"
#include "core/model/model.pb.h"
#include "data/data.pb.h"
#include "data/shard/format.h"
#include "data/source/registry.h"
#include "data/tokenizer/tokenizer.h"
#include "optim/schedule/registry.h"
#include "parallel/comm/side_channel/snapshot.h"
#include "simulate/draw/loss_curves.h"
#include "simulate/play/chips.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/report_text.h"
#include "train/config/load.h"
#include "train/huggingface/model_config.h"

namespace toroid {

namespace {

void read_config(const Path& path) {
  const config::Resolved resolved = config::load(path);
  optim::builtin_schedules().make(
      resolved.run.optim().schedule());  // whose names are known to the registry alone
}

void read_jsonl(const Path& path) {
  config::SourceConfig config;
  config.set_name("refused");
  config.set_path(path.string());
  config.set_format(config::SourceConfig::JSONL);
  const auto source = builtin_sources().make(config, "");
  for (size_t part = 0; part < source->parts(); ++part) {
    read_filtered(*source, part, source->cleaning(), [](Document&&) {});
  }
}

void read_shard_index(const Path& path) {
  decode_index(read_file(path, int64_t{1} << 20), 1000, path.string());
}

}  // namespace

std::vector<MalformedReader> malformed_readers() {
  return {
      {"safetensors", [](const Path& path) { SafetensorsFile{path}; }},
      {"index", [](const Path& path) { SafetensorsModel{path}; }},
      {"json", [](const Path& path) { JsonDocument::read(path); }},
      {"manifest",
       [](const Path& path) { parse_manifest(read_file(path, int64_t{64} << 20), path.string()); }},
      {"report",
       [](const Path& path) {
         parse_report(read_file(path, int64_t{64} << 20), {1, 4});
       }},
      {"board", [](const Path& path) { decode_snapshot(read_file(path, int64_t{1} << 20)); }},
      {"checkpoint", [](const Path& path) { CheckpointReader{path}; }},
      {"huggingface_config", [](const Path& path) { huggingface::read_model_config(path); }},
      {"config", read_config},
      {"chip", [](const Path& path) { train::read_chip(path.string(), {}); }},
      {"schedule", [](const Path& path) { train::read_schedule(path.string(), {}); }},
      {"metrics", [](const Path& path) { train::read_loss_curve("", path); }},
      {"jsonl", read_jsonl},
      {"shard_index", read_shard_index},
      {"tokenizer", [](const Path& path) { Tokenizer::load(path); }},
  };
}

}  // namespace toroid
