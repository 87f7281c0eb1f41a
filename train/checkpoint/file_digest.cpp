#include "train/checkpoint/file_digest.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

std::string hex_128(const XXH128_hash_t& hash) {
  return hex(hash.high64) + hex(hash.low64);
}

}  // namespace

struct FileHasher::State {
  XXH3_state_t whole, block;
  int64_t bytes = 0;
  int64_t in_block = 0;
  std::vector<uint64_t> blocks;

  void restart() {
    XXH3_64bits_reset(&block);
    in_block = 0;
  }
};

FileHasher::FileHasher() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->whole);
  state_->restart();
}

FileHasher::~FileHasher() = default;

void FileHasher::add(std::span<const std::byte> bytes) {
  // In cache-sized pieces, since each is read twice.
  constexpr int64_t kPiece = 64 << 10;
  while (!bytes.empty()) {
    const auto size =
        std::min({static_cast<int64_t>(bytes.size()), kPiece, FileDigest::kBlockBytes - state_->in_block});
    const auto piece = bytes.first(static_cast<size_t>(size));
    XXH3_128bits_update(&state_->whole, piece.data(), piece.size());
    XXH3_64bits_update(&state_->block, piece.data(), piece.size());
    state_->bytes += size;
    state_->in_block += size;
    if (state_->in_block == FileDigest::kBlockBytes) {
      state_->blocks.push_back(XXH3_64bits_digest(&state_->block));
      state_->restart();
    }
    bytes = bytes.subspan(static_cast<size_t>(size));
  }
}

std::span<const uint64_t> FileHasher::blocks() const {
  return state_->blocks;
}

FileDigest FileHasher::finish() {
  if (state_->in_block > 0) state_->blocks.push_back(XXH3_64bits_digest(&state_->block));
  state_->restart();
  return {state_->bytes, hex_128(XXH3_128bits_digest(&state_->whole)), state_->blocks};
}

uint64_t block_hash(std::span<const std::byte> block) {
  return XXH3_64bits(block.data(), block.size());
}

std::string xxh3_hex(std::string_view text) {
  return hex_128(XXH3_128bits(text.data(), text.size()));
}

void verify_file(const Path& path, const FileDigest& expected, bool from_disk) {
  const InputFile file(path, Symlinks::refuse);
  const std::string where = in_quotes(path.string());
  if (file.size() != expected.bytes) {
    throw UserError(where + " is damaged: it has " + std::to_string(file.size()) +
                    " bytes, but the manifest says " + std::to_string(expected.bytes));
  }
  if (from_disk) file.read_from_disk();
  FileHasher hasher;
  const int64_t most = int64_t{from_disk ? 4 : 1} << 20;  // a disk likes them large, a cache small
  PageBuffer piece(static_cast<size_t>(std::min(expected.bytes, most)));
  for (int64_t at = 0; at < expected.bytes;) {
    const auto part = piece.bytes().first(
        static_cast<size_t>(std::min(static_cast<int64_t>(piece.bytes().size()), expected.bytes - at)));
    if (!from_disk) file.reads_on(at);
    file.read_at(at, part);
    hasher.add(part);
    at += static_cast<int64_t>(part.size());
  }
  const FileDigest found = hasher.finish();
  for (size_t i = 0; i < std::min(found.blocks.size(), expected.blocks.size()); ++i) {
    if (found.blocks[i] != expected.blocks[i]) {
      const int64_t first = static_cast<int64_t>(i) * FileDigest::kBlockBytes;
      throw UserError(where + " is damaged between the bytes " + std::to_string(first) + " and " +
                      std::to_string(std::min(first + FileDigest::kBlockBytes, expected.bytes)) +
                      ": their hash is not the manifest's");
    }
  }
  if (found != expected) throw UserError(where + " is damaged: its hash is not the manifest's");
}

}  // namespace toroid
