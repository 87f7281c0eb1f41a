#include <xxhash.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/shard/format.h"
#include "data/shard/manifest.h"
#include "data/shard/shard.h"

namespace toroid {
namespace {

constexpr size_t kBuffer = size_t{1} << 20;

// A file that is hashed and buffered on its way out.
class HashedFile {
 public:
  explicit HashedFile(const Path& path) : file_(path), state_(XXH3_createState(), XXH3_freeState) {
    require(state_ != nullptr && XXH3_64bits_reset(state_.get()) == XXH_OK, "xxHash gives a state");
  }

  void write(const void* bytes, size_t count) {
    buffer_.append(static_cast<const char*>(bytes), count);
    if (buffer_.size() >= kBuffer) flush();
  }

  ShardManifest::File commit() {
    flush();
    const ShardManifest::File entry{file_.size(), XXH3_64bits_digest(state_.get())};
    file_.commit();
    return entry;
  }

 private:
  void flush() {
    XXH3_64bits_update(state_.get(), buffer_.data(), buffer_.size());
    file_.write(std::string_view(buffer_));
    buffer_.clear();
  }

  OutputFile file_;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
  std::string buffer_;
};

}  // namespace

class ShardWriter::State {
 public:
  State(const Path& given, int32_t vocab, uint64_t tokenizer_hash)
      : prefix(given), bin(with_suffix(given, ".bin")), list(with_suffix(given, ".documents")) {
    manifest.vocab = vocab;
    manifest.tokenizer_hash = tokenizer_hash;
  }

  Path prefix;
  HashedFile bin, list;
  ShardManifest manifest;
  std::vector<int32_t> lengths;
  std::vector<uint16_t> narrow;
  bool finished = false;
};

ShardWriter::ShardWriter(const Path& prefix, int32_t vocab, uint64_t tokenizer_hash) {
  if (prefix.has_parent_path()) make_directories(prefix.parent_path());
  state_ = std::make_unique<State>(prefix, vocab, tokenizer_hash);
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::add(std::span<const int32_t> ids, const ShardDocument& document) {
  State& s = *state_;
  require(!s.finished, "no document is added to a finished shard");
  require(!ids.empty(), "a document has tokens");
  if (ids.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw UserError("document '" + document.name + "' has " + std::to_string(ids.size()) +
                    " tokens, but a shard's documents have fewer than 2^31");
  }
  for (const int32_t id : ids)
    require(id >= 0 && id < s.manifest.vocab, "a shard's ids are below its vocabulary");
  if (token_width(s.manifest.vocab) == 2) {
    s.narrow.assign(ids.begin(), ids.end());
    s.bin.write(s.narrow.data(), s.narrow.size() * 2);
  } else {
    s.bin.write(ids.data(), ids.size_bytes());
  }
  const nlohmann::ordered_json line = {
      {"name", document.name}, {"hash", hex(document.hash)}, {"bytes", document.text_bytes}};
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  s.list.write(text.data(), text.size());
  s.lengths.push_back(static_cast<int32_t>(ids.size()));
  ++s.manifest.documents;
  s.manifest.tokens += static_cast<int64_t>(ids.size());
  s.manifest.text_bytes += document.text_bytes;
}

ShardManifest ShardWriter::finish(std::vector<std::pair<std::string, std::string>> provenance) {
  State& s = *state_;
  require(!s.finished, "a shard is finished once");
  s.finished = true;
  // An older manifest must not vouch for new files while they are put in its place.
  std::error_code ignored;
  std::filesystem::remove(with_suffix(s.prefix, ".json"), ignored);
  s.manifest.provenance = std::move(provenance);
  s.manifest.bin = s.bin.commit();
  s.manifest.list = s.list.commit();
  HashedFile index(with_suffix(s.prefix, ".idx"));
  const std::string bytes = encode_index(s.lengths, s.manifest.vocab);
  index.write(bytes.data(), bytes.size());
  s.manifest.idx = index.commit();
  write_shard_manifest(s.prefix, s.manifest);
  return s.manifest;
}

}  // namespace toroid
