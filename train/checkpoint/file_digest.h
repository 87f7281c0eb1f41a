// What a manifest says of a file's bytes: the length, XXH3 with 128 bits over all of them, and XXH3 with 64
// bits over each block, so that damage can be placed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

struct FileDigest {
  static constexpr int64_t kBlockBytes = int64_t{16} << 20;
  int64_t bytes = 0;
  std::string xxh3;              // 32 hexadecimal digits
  std::vector<uint64_t> blocks;  // one for each kBlockBytes, the last one shorter
  bool operator==(const FileDigest&) const = default;
};

// Digests bytes as they come.
class FileHasher {
 public:
  FileHasher();
  ~FileHasher();
  FileHasher(const FileHasher&) = delete;  // owns the hash's state
  FileHasher& operator=(const FileHasher&) = delete;
  void add(std::span<const std::byte> bytes);
  // Of the blocks that are whole so far.
  std::span<const uint64_t> blocks() const;
  FileDigest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

uint64_t block_hash(std::span<const std::byte> block);  // as FileDigest::blocks has it

std::string xxh3_hex(std::string_view text);  // 128 bits, 32 digits

// Reads all of the file and compares. UserError that names file and byte range where it differs. With
// `from_disk` it is the disk's own copy that is read, and not the kernel's.
void verify_file(const Path& path, const FileDigest& expected, bool from_disk = false);

}  // namespace toroid
