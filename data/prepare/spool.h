// The clean text of one source and split between extraction and tokenization, in a file of its own: text is
// extracted once, needs no memory, and the tokenizer that is trained on it encodes it afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/io/file.h"
#include "data/dedup/dedup.h"

namespace toroid {

struct SpooledDocument {
  std::string_view id, text;  // borrowed from the block
  ContentHash hash;
};

// Written first, then read by block from any thread.
class Spool {
 public:
  explicit Spool(Path path);
  ~Spool();  // removes the file
  Spool(Spool&&) noexcept = default;
  Spool& operator=(Spool&&) = delete;
  Spool(const Spool&) = delete;  // the file has one owner

  void add(std::string_view id, std::string_view text, const ContentHash& hash);
  // No add() after it.
  void close();

  int64_t documents() const { return documents_; }
  int64_t text_bytes() const { return text_bytes_; }
  // Runs of documents of about 1 MiB.
  size_t blocks() const { return block_begin_.size(); }
  void read(size_t block, const std::function<void(const SpooledDocument&)>& sink) const;

 private:
  void flush();

  Path path_;
  std::unique_ptr<OutputFile> out_;
  std::unique_ptr<InputFile> in_;
  std::string buffer_;
  std::vector<int64_t> block_begin_;
  int64_t written_ = 0, documents_ = 0, text_bytes_ = 0;
};

}  // namespace toroid
