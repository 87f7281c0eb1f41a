#include "data/prepare/contents.h"

#include <set>

#include "core/base/text.h"
#include "data/data.pb.h"
#include "data/shard/shard.h"

namespace toroid {
namespace {

std::string text(const ShardManifest& shard) {
  return hex(shard.bin.hash) + hex(shard.idx.hash) + " (" + with_commas(shard.documents) + " documents, " +
         with_commas(shard.tokens) + " tokens)";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> prepared_contents(const config::DataConfig& data) {
  const Path directory = data.directory();
  std::vector<std::pair<std::string, std::string>> out(1);
  std::set<std::string> tokenizers;  // one, unless the directory was put together from several
  for (const config::SourceConfig& source : data.source()) {
    const std::string name = "data.source[" + source.name() + "].";
    for (const Split split : {Split::train, Split::validation}) {
      const ShardManifest shard = read_shard_manifest(shard_prefix(directory, source.name(), split));
      tokenizers.insert(hex(shard.tokenizer_hash));
      out.emplace_back(name + (split == Split::train ? "train_tokens" : "validation_tokens"), text(shard));
    }
  }
  std::string hashes;
  for (const std::string& hash : tokenizers) hashes += (hashes.empty() ? "" : " ") + hash;
  out[0] = {"tokenizer", hashes};
  return out;
}

}  // namespace toroid
