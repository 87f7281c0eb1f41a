#include "data/source/byte_stream.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

constexpr size_t kChunk = size_t{1} << 18;

std::string quoted(const Path& path) {
  return "'" + printable(path.string(), 4096) + "'";
}

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(const Path& path) : file_(path) {}

  size_t read(std::span<char> out) override {
    const size_t n =
        static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(out.size()), file_.size() - at_));
    file_.read_at(at_, std::as_writable_bytes(out.first(n)));
    at_ += static_cast<int64_t>(n);
    return n;
  }
  const Path& path() const { return file_.path(); }
  int64_t at() const { return at_; }

 private:
  InputFile file_;
  int64_t at_ = 0;
};

[[noreturn]] void damaged(const PlainStream& in, const char* format, std::string_view why) {
  throw UserError("file " + quoted(in.path()) + " is not whole " + format + " data: " + std::string(why) +
                  " at or before byte " + std::to_string(in.at()) + "; fetch it again or exclude it");
}

class GzipStream : public ByteStream {
 public:
  explicit GzipStream(const Path& path) : in_(path), chunk_(kChunk) {
    if (inflateInit2(&state_, 15 + 16) != Z_OK) throw SystemError("cannot start zlib: not enough memory");
  }
  ~GzipStream() override { inflateEnd(&state_); }
  GzipStream(const GzipStream&) = delete;  // zlib's state points into itself
  GzipStream& operator=(const GzipStream&) = delete;

  size_t read(std::span<char> out) override {
    state_.next_out = reinterpret_cast<Bytef*>(out.data());
    state_.avail_out = static_cast<uInt>(std::min(out.size(), kChunk));
    const uInt asked = state_.avail_out;
    while (state_.avail_out == asked) {
      if (state_.avail_in == 0) {
        state_.next_in = reinterpret_cast<Bytef*>(chunk_.data());
        state_.avail_in = static_cast<uInt>(in_.read(chunk_));
        if (state_.avail_in == 0) {
          if (!between_members_) damaged(in_, "gzip", "it ends too early");
          return 0;
        }
      }
      if (between_members_ && any_) {  // files may hold several members, one after the other
        if (inflateReset(&state_) != Z_OK) damaged(in_, "gzip", "zlib refuses it");
      }
      between_members_ = false;
      any_ = true;
      const int status = inflate(&state_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        between_members_ = true;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        damaged(in_, "gzip", state_.msg != nullptr ? state_.msg : "zlib refuses it");
      }
    }
    return asked - state_.avail_out;
  }

 private:
  PlainStream in_;
  std::vector<char> chunk_;
  z_stream state_{};
  bool between_members_ = false, any_ = false;
};

class ZstdStream : public ByteStream {
 public:
  explicit ZstdStream(const Path& path)
      : in_(path), chunk_(ZSTD_DStreamInSize()), state_(ZSTD_createDStream()) {
    if (state_ == nullptr) throw SystemError("cannot start zstd: not enough memory");
  }

  size_t read(std::span<char> out) override {
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos == 0) {
      if (input_.pos == input_.size) {
        input_ = {chunk_.data(), in_.read(chunk_), 0};
        if (input_.size == 0 && !may_hold_more_) {
          if (!between_frames_) damaged(in_, "zstd", "it ends too early");
          return 0;
        }
      }
      const size_t before = input_.pos;
      const size_t status = ZSTD_decompressStream(state_.get(), &to, &input_);
      if (ZSTD_isError(status) != 0) damaged(in_, "zstd", ZSTD_getErrorName(status));
      between_frames_ = status == 0;
      may_hold_more_ = status != 0 && to.pos == to.size;
      if (to.pos == 0 && input_.size == 0 && input_.pos == before) damaged(in_, "zstd", "it ends too early");
    }
    return to.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* state) const { ZSTD_freeDStream(state); }
  };
  PlainStream in_;
  std::vector<char> chunk_;
  std::unique_ptr<ZSTD_DStream, Free> state_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool between_frames_ = true, may_hold_more_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> open_stream(const Path& path) {
  const std::string name = path.filename().string();
  if (name.ends_with(".gz")) return std::make_unique<GzipStream>(path);
  if (name.ends_with(".zst")) return std::make_unique<ZstdStream>(path);
  return std::make_unique<PlainStream>(path);
}

std::string_view without_compression(std::string_view path) {
  if (path.ends_with(".gz")) path.remove_suffix(3);
  if (path.ends_with(".zst")) path.remove_suffix(4);
  return path;
}

std::string read_all(const Path& path, int64_t limit) {
  const auto stream = open_stream(path);
  std::string text;
  for (;;) {
    const size_t old = text.size();
    text.resize(old + std::min<size_t>(kChunk, static_cast<size_t>(limit) + 1 - old));
    const size_t n = stream->read(std::span(text).subspan(old));
    text.resize(old + n);
    if (n == 0) return text;
    if (static_cast<int64_t>(text.size()) > limit) {
      throw UserError("file " + quoted(path) + " holds more than " + std::to_string(limit) +
                      " bytes of text; exclude it or raise maximum_megabytes of its source");
    }
  }
}

LineReader::LineReader(const Path& path, int64_t limit)
    : path_(path), limit_(limit), stream_(open_stream(path)), buffer_(kChunk, '\0') {}

bool LineReader::next(std::string& line) {
  line.clear();
  bool any = false;
  for (;;) {
    const char* const from = buffer_.data() + begin_;
    const auto* const stop = static_cast<const char*>(std::memchr(from, '\n', end_ - begin_));
    const size_t n = stop != nullptr ? static_cast<size_t>(stop - from) : end_ - begin_;
    if (static_cast<int64_t>(line.size() + n) > limit_) {
      throw UserError("line " + std::to_string(line_number_ + 1) + " of " + quoted(path_) +
                      " is longer than " + std::to_string(limit_) +
                      " bytes; split it or raise maximum_megabytes of its source");
    }
    line.append(from, n);
    any = any || end_ > begin_;
    if (stop != nullptr) {
      begin_ += n + 1;
      break;
    }
    begin_ = 0;
    end_ = stream_->read(buffer_);
    bytes_ += static_cast<int64_t>(end_);
    if (end_ == 0) {
      if (!any) return false;
      break;
    }
  }
  if (line.ends_with('\r')) line.pop_back();
  ++line_number_;
  return true;
}

}  // namespace toroid
