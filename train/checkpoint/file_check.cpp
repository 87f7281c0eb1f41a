#include "train/checkpoint/file_check.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"
#include "train/checkpoint/slice_name.h"

namespace toroid {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 20;  // stays in the second cache while it is hashed

class Checker {
 public:
  Checker(const Path& path, const ManifestFile* expected) : path_(path), expected_(expected) {}

  FileCheck run(int64_t step, int world_size, const CheckOptions& options) {
    try {
      const InputFile file(path_, Symlinks::refuse);
      out_.bytes = file.size();
      if (expected_ != nullptr) check_length();
      read_header(file, step, world_size);
      if (expected_ != nullptr && options.depth == Depth::contents) {
        if (options.from_disk) file.drop_cache();
        read_contents(file);
      }
    } catch (const Error& error) {  // a disk that cannot be read is damage too
      fault(0, 0, error.what());
    }
    return std::move(out_);
  }

 private:
  void fault(int64_t first, int64_t last, const std::string& what) {
    const int rank = expected_ == nullptr ? -1 : expected_->rank;
    out_.faults.push_back({path_.filename().string(), rank, first, last, {}, what});
  }

  void check_length() {
    const int64_t bytes = expected_->digest.bytes;
    if (out_.bytes == bytes) return;
    fault(std::min(out_.bytes, bytes), std::max(out_.bytes, bytes),
          (out_.bytes < bytes ? "is cut off: " : "is longer than it was: ") + std::to_string(out_.bytes) +
              " bytes, but the manifest says " + std::to_string(bytes));
  }

  // Against the length that a file should have that is cut off, so that its tensors are known.
  void read_header(const InputFile& file, int64_t step, int world_size) {
    SafetensorsHeader header;
    try {
      header = parse_safetensors_header(
          read_safetensors_header(file),
          std::max(out_.bytes, expected_ == nullptr ? 0 : expected_->digest.bytes), path_.string());
    } catch (const UserError& error) {
      fault(0, 0, "has no readable header, so its tensors are not known: " + std::string(error.what()));
      return;
    }
    out_.metadata = std::move(header.metadata);
    if (expected_ != nullptr) check_metadata(step, world_size);
    const int rank = expected_ == nullptr ? -1 : expected_->rank;
    for (const TensorInfo& stored : header.tensors) {
      const auto name = parse_slice_name(stored.name);
      if (!name) {
        fault(stored.offset, stored.offset + stored.bytes,
              "holds the slice " + in_quotes(stored.name) + ", whose name does not end in @ and an offset");
        continue;
      }
      CheckedSlice& slice = out_.slices.emplace_back();
      slice.tensor = name->tensor;
      slice.place = {path_.filename().string(), rank, name->offset, stored.elements(), stored.type};
      slice.first = stored.offset;
      slice.last = stored.offset + stored.bytes;
      slice.shape = stored.shape;
    }
  }

  void check_metadata(int64_t step, int world_size) {
    const std::map<std::string, std::string> known = {{"part", expected_->part},
                                                      {"rank", std::to_string(expected_->rank)},
                                                      {"step", std::to_string(step)},
                                                      {"world_size", std::to_string(world_size)}};
    for (const auto& [key, value] : known) {
      const auto found = out_.metadata.find(key);
      if (found != out_.metadata.end() && found->second == value) continue;
      fault(0, 0,
            "is not the file that the manifest means: its " + key + " is " +
                (found == out_.metadata.end() ? "missing" : in_quotes(found->second)) + ", not '" + value +
                "'");
    }
  }

  void read_contents(const InputFile& file) {
    FileHasher hasher;
    const int64_t bytes = std::min(out_.bytes, expected_->digest.bytes);
    std::vector<std::byte> buffer(static_cast<size_t>(std::min(bytes, kReadBytes)));
    size_t next = 0;  // the first slice that does not end before the piece
    for (int64_t at = 0; at < bytes;) {
      const auto piece = std::span(buffer).first(static_cast<size_t>(std::min(kReadBytes, bytes - at)));
      file.reads_on(at);
      file.read_at(at, piece);
      hasher.add(piece);
      next = hash_slices(next, at, piece);
      at += static_cast<int64_t>(piece.size());
    }
    out_.bytes_read = bytes;
    for (CheckedSlice& slice : out_.slices) slice.read = slice.last <= bytes;
    compare(hasher.finish());
  }

  size_t hash_slices(size_t next, int64_t at, std::span<const std::byte> piece) {
    const int64_t end = at + static_cast<int64_t>(piece.size());
    while (next < out_.slices.size() && out_.slices[next].last <= at) ++next;
    for (size_t i = next; i < out_.slices.size() && out_.slices[i].first < end; ++i) {
      add(out_.slices[i], at, piece);
    }
    return next;
  }

  // An element that the piece's edge cuts is put together from both sides.
  void add(CheckedSlice& slice, int64_t at, std::span<const std::byte> piece) {
    const int64_t size = element_bytes(slice.place.type);
    int64_t first = std::max(slice.first, at);
    const int64_t last = std::min(slice.last, at + static_cast<int64_t>(piece.size()));
    const auto bytes_of = [&](int64_t from, int64_t to) {
      return piece.subspan(static_cast<size_t>(from - at), static_cast<size_t>(to - from));
    };
    const auto index_of = [&](int64_t byte) {
      return static_cast<uint64_t>(slice.place.offset + (byte - slice.first) / size);
    };
    if (!cut_.empty() && first > slice.first) {
      const int64_t rest = std::min(size - static_cast<int64_t>(cut_.size()), last - first);
      const auto more = bytes_of(first, first + rest);
      const uint64_t index = index_of(first - static_cast<int64_t>(cut_.size()));
      cut_.insert(cut_.end(), more.begin(), more.end());
      first += rest;
      if (static_cast<int64_t>(cut_.size()) < size) return;  // the file ends within the element
      slice.hash += tensor_hash(cut_, size, index);
      cut_.clear();
    }
    const int64_t end = first + (last - first) / size * size;
    slice.hash += tensor_hash(bytes_of(first, end), size, index_of(first));
    const auto rest = bytes_of(end, last);
    cut_.assign(rest.begin(), rest.end());
  }

  void compare(const FileDigest& found) {
    const FileDigest& expected = expected_->digest;
    const size_t before = out_.faults.size();
    for (size_t i = 0; i < std::min(found.blocks.size(), expected.blocks.size()); ++i) {
      const int64_t first = static_cast<int64_t>(i) * FileDigest::kBlockBytes;
      const int64_t last = std::min(first + FileDigest::kBlockBytes, expected.bytes);
      if (last > found.bytes) break;  // the block that is cut off was named for its length
      if (found.blocks[i] != expected.blocks[i]) {
        fault(first, last, "is damaged: the hash of these bytes is not the manifest's");
      }
    }
    if (found.bytes == expected.bytes && out_.bytes == expected.bytes && found.xxh3 != expected.xxh3 &&
        out_.faults.size() == before) {
      fault(0, 0, "does not have the hash of the manifest, though each of its blocks does");
    }
  }

  const Path& path_;
  const ManifestFile* expected_;
  FileCheck out_;
  std::vector<std::byte> cut_;  // the first bytes of an element
};

}  // namespace

FileCheck check_file(const Path& path, const ManifestFile* expected, int64_t step, int world_size,
                     const CheckOptions& options) {
  return Checker(path, expected).run(step, world_size, options);
}

}  // namespace toroid
