// Bytes of a file, decompressed where its name ends in .gz or .zst, as a stream of bounded memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/base/io/file.h"

namespace toroid {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Fills some of `out` and returns how much; 0 at the end. UserError naming the file where its data is
  // damaged or empty (compressed data has at least one frame), or is not what the name promises, or is whole
  // but beyond what can be read here; each says which.
  virtual size_t read(std::span<char> out) = 0;
};

std::unique_ptr<ByteStream> open_stream(const Path& path);

// The path without a .gz or .zst at its end.
std::string_view without_compression(std::string_view path);

// Everything in the file, decompressed; UserError where that is more than `limit` bytes.
std::string read_all(const Path& path, int64_t limit);

// Lines without their '\n' (a '\r' before it goes too).
class LineReader {
 public:
  LineReader(const Path& path, int64_t limit);
  // False at the end. Of a line longer than the limit, `line` is empty and too_long() true; the next call
  // passes over the rest of it.
  bool next(std::string& line);
  bool too_long() const { return too_long_; }
  // The first bytes of the file, before any line is read; "" where it is empty.
  std::string_view beginning();
  int64_t line_number() const { return line_number_; }  // of the last line returned, from 1
  int64_t bytes() const { return bytes_; }              // decompressed so far

 private:
  bool fill();

  int64_t limit_, line_number_ = 0, bytes_ = 0;
  std::unique_ptr<ByteStream> stream_;
  std::string buffer_;
  size_t begin_ = 0, end_ = 0;
  bool too_long_ = false;
};

}  // namespace toroid
