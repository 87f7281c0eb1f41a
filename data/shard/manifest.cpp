#include "data/shard/manifest.h"

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/text.h"
#include "data/shard/shard.h"

namespace toroid {
namespace {

constexpr const char* kShardFormat = "toroid token shard";
constexpr int64_t kMostExact = int64_t{1} << 53;  // JSON's integers are exact up to here

nlohmann::ordered_json file_entry(const ShardManifest::File& file) {
  return {{"bytes", file.bytes}, {"xxh3", hex(file.hash)}};
}

ShardManifest::File file_entry(const JsonView& view) {
  return {view.at("bytes").as_integer(0, kMostExact), from_hex(view.at("xxh3"))};
}

}  // namespace

uint64_t from_hex(const JsonView& view) {
  const std::string text = view.as_string();
  if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    view.refuse("is not a hash of 16 hexadecimal digits");
  }
  return std::stoull(text, nullptr, 16);
}

void write_shard_manifest(const Path& prefix, const ShardManifest& manifest) {
  nlohmann::ordered_json provenance = nlohmann::ordered_json::object();
  for (const auto& [name, value] : manifest.provenance) provenance[name] = value;
  const nlohmann::ordered_json json = {{"format", kShardFormat},
                                       {"version", 1},
                                       {"vocab", manifest.vocab},
                                       {"documents", manifest.documents},
                                       {"tokens", manifest.tokens},
                                       {"text_bytes", manifest.text_bytes},
                                       {"tokenizer", hex(manifest.tokenizer_hash)},
                                       {"bin", file_entry(manifest.bin)},
                                       {"idx", file_entry(manifest.idx)},
                                       {"list", file_entry(manifest.list)},
                                       {"provenance", provenance}};
  // Provenance may be any bytes: invalid UTF-8 is replaced instead of thrown at the caller.
  write_file(with_suffix(prefix, ".json"),
             json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

ShardManifest read_shard_manifest(const Path& prefix) {
  const JsonDocument document = JsonDocument::read(with_suffix(prefix, ".json"));
  const JsonView root = document.root();
  if (root.at("format").as_string() != kShardFormat)
    root.at("format").refuse("is not the manifest of a token shard");
  if (root.at("version").as_integer() != 1)
    root.at("version").refuse("is a version that this program cannot read");
  ShardManifest manifest;
  manifest.vocab = static_cast<int32_t>(root.at("vocab").as_integer(1, int64_t{1} << 30));
  manifest.documents = root.at("documents").as_integer(0, kMostExact);
  manifest.tokens = root.at("tokens").as_integer(0, kMostExact);
  manifest.text_bytes = root.at("text_bytes").as_integer(0, kMostExact);
  manifest.tokenizer_hash = from_hex(root.at("tokenizer"));
  manifest.bin = file_entry(root.at("bin"));
  manifest.idx = file_entry(root.at("idx"));
  manifest.list = file_entry(root.at("list"));
  const JsonView provenance = root.at("provenance");
  for (const std::string& name : provenance.keys()) {
    manifest.provenance.emplace_back(name, provenance.at(name).as_string());
  }
  return manifest;
}

}  // namespace toroid
