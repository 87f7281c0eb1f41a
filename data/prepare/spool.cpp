#include "data/prepare/spool.h"

#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <utility>

#include "core/base/error.h"

namespace toroid {
namespace {

constexpr size_t kBlock = size_t{1} << 20;

struct Header {
  uint32_t id_bytes, text_bytes;
  ContentHash hash;
};

}  // namespace

Spool::Spool(Path path) : path_(std::move(path)), out_(std::make_unique<OutputFile>(path_)) {}

Spool::~Spool() {
  if (path_.empty() || !in_) return;  // moved from, or never closed: OutputFile removes its own
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

void Spool::add(std::string_view id, std::string_view text, const ContentHash& hash) {
  require(id.size() <= std::numeric_limits<uint32_t>::max(), "a document's name fits 32 bits");
  require(text.size() <= std::numeric_limits<uint32_t>::max(), "a document fits 32 bits");
  if (buffer_.empty()) block_begin_.push_back(written_);
  const Header header{static_cast<uint32_t>(id.size()), static_cast<uint32_t>(text.size()), hash};
  buffer_.append(reinterpret_cast<const char*>(&header), sizeof header);
  buffer_.append(id).append(text);
  ++documents_;
  text_bytes_ += static_cast<int64_t>(text.size());
  if (buffer_.size() >= kBlock) flush();
}

void Spool::flush() {
  out_->write(std::string_view(buffer_));
  written_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
}

void Spool::close() {
  flush();
  out_->commit();
  out_.reset();
  in_ = std::make_unique<InputFile>(path_);
}

void Spool::read(size_t block, const std::function<void(const SpooledDocument&)>& sink) const {
  const int64_t begin = block_begin_.at(block);
  const int64_t end = block + 1 < block_begin_.size() ? block_begin_[block + 1] : written_;
  std::string bytes(static_cast<size_t>(end - begin), '\0');
  in_->read_at(begin, std::as_writable_bytes(std::span(bytes)));
  std::string_view rest = bytes;
  while (!rest.empty()) {
    Header header;
    require(rest.size() >= sizeof header, "a spooled document has a header");
    std::memcpy(&header, rest.data(), sizeof header);
    rest.remove_prefix(sizeof header);
    require(rest.size() >= size_t{header.id_bytes} + header.text_bytes, "a spooled document is whole");
    sink({rest.substr(0, header.id_bytes), rest.substr(header.id_bytes, header.text_bytes), header.hash});
    rest.remove_prefix(size_t{header.id_bytes} + header.text_bytes);
  }
}

}  // namespace toroid
