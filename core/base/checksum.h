// Two sums over the 32-bit words of a run of bytes (Fletcher 1982, modulo 2^64): of the words, and of the
// words times their number, counted from 1. A change of one or two words never leaves both as they were, one
// that scatters over more does so once in 2^64; of a single changed word they say which one and how. They add
// up over runs that follow each other, and are plain arithmetic, as fast as memory is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace toroid {

struct Checksum {
  uint64_t sum = 0, weighted = 0;
  bool operator==(const Checksum&) const = default;
};

// The last word is filled up with zeros.
Checksum checksum(std::span<const std::byte> bytes);

// Of runs that follow each other, all but the last of whole words.
class RunningChecksum {
 public:
  void add(const Checksum& next, int64_t bytes) {
    total_.weighted += next.weighted + words_ * next.sum;
    total_.sum += next.sum;
    words_ += static_cast<uint64_t>((bytes + 3) / 4);
  }
  const Checksum& total() const { return total_; }

 private:
  Checksum total_;
  uint64_t words_ = 0;
};

// The one word, counted from 0 and of `words`, whose change explains the difference; nothing where no single
// one does.
struct ChangedWord {
  int64_t word = 0;
  int64_t change = 0;           // found - expected, of the word as an unsigned number
  std::optional<int> bit = {};  // where one flipped bit explains it
};
std::optional<ChangedWord> changed_word(const Checksum& expected, const Checksum& found, int64_t words);

}  // namespace toroid
