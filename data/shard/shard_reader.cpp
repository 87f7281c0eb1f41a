#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/text.h"
#include "data/shard/format.h"
#include "data/shard/manifest.h"
#include "data/shard/shard.h"

namespace toroid {

Path shard_prefix(const Path& directory, std::string_view source, Split split) {
  return directory / source / (split == Split::train ? "train" : "validation");
}

Path tokenizer_path(const Path& directory) {
  return directory / "tokenizer.model";
}

Split split_of(uint64_t content_hash, double validation_fraction) {
  // The hash is mixed once more, so that a share of it may also have served to find duplicates or to cut
  // files.
  const uint64_t mixed = XXH3_64bits_withSeed(&content_hash, sizeof content_hash, 0x746f726f6964ULL);
  return static_cast<double>(mixed >> 11) * 0x1p-53 < validation_fraction ? Split::validation : Split::train;
}

namespace {

constexpr int64_t kReadBlock = int64_t{1} << 20;

void check_size(const InputFile& file, const ShardManifest::File& entry) {
  if (file.size() != entry.bytes) {
    throw UserError("token shard file " + quoted(file.path()) + " has " + std::to_string(file.size()) +
                    " bytes, but its manifest says " + std::to_string(entry.bytes) +
                    "; prepare the data again");
  }
}

void check_hash(uint64_t found, const Path& path, const ShardManifest::File& entry) {
  if (found != entry.hash) {
    throw UserError(
        "token shard file " + quoted(path) +
        " was changed after it was written (its hash differs from the manifest's); prepare the data again");
  }
}

// Calls visit(offset, bytes) for the whole file, block by block.
template <typename Visit>
void for_each_block(const InputFile& file, const Visit& visit) {
  std::string block;
  for (int64_t offset = 0; offset < file.size(); offset += kReadBlock) {
    block.resize(static_cast<size_t>(std::min(kReadBlock, file.size() - offset)));
    file.read_at(offset, std::as_writable_bytes(std::span(block)));
    visit(offset, std::string_view(block));
  }
}

uint64_t hash_of(const InputFile& file) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  require(state != nullptr && XXH3_64bits_reset(state.get()) == XXH_OK, "xxHash gives a state");
  for_each_block(file, [&](int64_t, std::string_view block) {
    XXH3_64bits_update(state.get(), block.data(), block.size());
  });
  return XXH3_64bits_digest(state.get());
}

}  // namespace

class ShardReader::State {
 public:
  State(const Path& given, int32_t vocab, uint64_t tokenizer_hash, ShardCheck verify)
      : prefix(given),
        manifest(checked_manifest(given, vocab, tokenizer_hash)),
        bin(with_suffix(given, ".bin")),
        list(with_suffix(given, ".documents")),
        width(token_width(manifest.vocab)) {
    const InputFile index(with_suffix(prefix, ".idx"));
    check_size(index, manifest.idx);
    check_size(bin, manifest.bin);
    check_size(list, manifest.list);
    if (bin.size() % width != 0) {
      throw UserError("token shard file " + quoted(bin.path()) + " has " + std::to_string(bin.size()) +
                      " bytes, which is no multiple of the " + std::to_string(width) + " bytes of an id");
    }
    std::string bytes(static_cast<size_t>(index.size()), '\0');
    index.read_at(0, std::as_writable_bytes(std::span(bytes)));
    if (verify == ShardCheck::hashes) {
      check_hash(XXH3_64bits(bytes.data(), bytes.size()), index.path(), manifest.idx);
      check_hash(hash_of(bin), bin.path(), manifest.bin);
      check_hash(hash_of(list), list.path(), manifest.list);
    }
    starts = decode_index(bytes, manifest.vocab, index.path().string());
    const auto documents = static_cast<int64_t>(starts.size()) - 1;
    if (documents != manifest.documents || starts.back() != manifest.tokens ||
        starts.back() != bin.size() / width) {
      throw UserError("token shard " + quoted(prefix) + " does not fit together: the index has " +
                      std::to_string(documents) + " documents and " + std::to_string(starts.back()) +
                      " tokens, the manifest " + std::to_string(manifest.documents) + " and " +
                      std::to_string(manifest.tokens) + ", and the ids are " +
                      std::to_string(bin.size() / width));
    }
  }

  // Where each line of the list begins; found when a document is first asked for.
  const std::vector<int64_t>& lines() const {
    const std::lock_guard lock(lines_mutex_);
    if (lines_.empty()) {
      std::vector<int64_t> found{0};
      for_each_block(list, [&](int64_t offset, std::string_view block) {
        for (size_t at = block.find('\n'); at != std::string_view::npos; at = block.find('\n', at + 1)) {
          found.push_back(offset + static_cast<int64_t>(at) + 1);
        }
      });
      if (found.size() != starts.size() || found.back() != list.size()) {
        throw UserError("token shard file " + quoted(list.path()) + " has " +
                        std::to_string(found.size() - 1) + " lines, but the shard has " +
                        std::to_string(starts.size() - 1) + " documents");
      }
      lines_ = std::move(found);
    }
    return lines_;
  }

  Path prefix;
  ShardManifest manifest;
  InputFile bin, list;
  int64_t width;
  std::vector<int64_t> starts;

 private:
  static ShardManifest checked_manifest(const Path& prefix, int32_t vocab, uint64_t tokenizer_hash) {
    ShardManifest manifest = read_shard_manifest(prefix);
    if (manifest.vocab > vocab) {
      throw UserError("token shard " + quoted(prefix) + " has a vocabulary of " +
                      std::to_string(manifest.vocab) + ", but the model's is " + std::to_string(vocab));
    }
    if (tokenizer_hash != 0 && manifest.tokenizer_hash != tokenizer_hash) {
      throw UserError("token shard " + quoted(prefix) +
                      " was made with another tokenizer than the one beside it; prepare the data again");
    }
    return manifest;
  }

  mutable std::mutex lines_mutex_;
  mutable std::vector<int64_t> lines_;
};

ShardReader::ShardReader(const Path& prefix, int32_t vocab, uint64_t tokenizer_hash, ShardCheck verify)
    : state_(std::make_unique<State>(prefix, vocab, tokenizer_hash, verify)) {}
ShardReader::~ShardReader() = default;
ShardReader::ShardReader(ShardReader&&) noexcept = default;

const ShardManifest& ShardReader::manifest() const {
  return state_->manifest;
}
int64_t ShardReader::tokens() const {
  return state_->starts.back();
}
int64_t ShardReader::documents() const {
  return static_cast<int64_t>(state_->starts.size()) - 1;
}

int64_t ShardReader::document_start(int64_t document) const {
  require(document >= 0 && document <= documents(), "a document's number is within the shard");
  return state_->starts[static_cast<size_t>(document)];
}

int64_t ShardReader::document_of(int64_t token) const {
  require(token >= 0 && token < tokens(), "a token's number is within the shard");
  const auto after = std::upper_bound(state_->starts.begin(), state_->starts.end(), token);
  return after - state_->starts.begin() - 1;
}

void ShardReader::read(int64_t first, std::span<int32_t> out) const {
  const State& s = *state_;
  require(first >= 0 && first <= tokens() && static_cast<int64_t>(out.size()) <= tokens() - first,
          "tokens that are read are within the shard");
  if (s.width == 2) {
    std::vector<uint16_t> narrow(out.size());
    s.bin.read_at(first * 2, std::as_writable_bytes(std::span(narrow)));
    std::copy(narrow.begin(), narrow.end(), out.begin());
  } else {
    s.bin.read_at(first * 4, std::as_writable_bytes(out));
  }
  const auto bad =
      std::find_if(out.begin(), out.end(), [&](int32_t id) { return id < 0 || id >= s.manifest.vocab; });
  if (bad != out.end()) {
    throw UserError("token " + std::to_string(first + (bad - out.begin())) + " of " + quoted(s.bin.path()) +
                    " is " + std::to_string(*bad) + ", but the vocabulary has " +
                    std::to_string(s.manifest.vocab) + " ids; prepare the data again");
  }
}

ShardDocument ShardReader::document(int64_t document) const {
  require(document >= 0 && document < documents(), "a document's number is within the shard");
  const State& s = *state_;
  const std::vector<int64_t>& lines = s.lines();
  const auto i = static_cast<size_t>(document);
  std::string line(static_cast<size_t>(lines[i + 1] - lines[i] - 1), '\0');
  s.list.read_at(lines[i], std::as_writable_bytes(std::span(line)));
  const std::string origin = s.list.path().string() + ":" + std::to_string(document + 1);
  const JsonDocument json = JsonDocument::parse(line, origin);
  ShardDocument found;
  found.name = json.root().at("name").as_string();
  found.hash = from_hex(json.root().at("hash"));
  found.text_bytes = json.root().at("bytes").as_integer(0, int64_t{1} << 53);
  return found;
}

}  // namespace toroid
