#include "data/source/byte_stream.h"

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "core/base/encoding.h"
#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

constexpr size_t kChunk = size_t{1} << 18;

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

[[noreturn]] void refuse(const PlainStream& in, const std::string& what) {
  throw UserError("file " + quoted(in.path()) + " " + what);
}

[[noreturn]] void damaged(const PlainStream& in, const char* format, std::string_view why) {
  refuse(in, std::string("is not whole ") + format + " data: " + std::string(why) + " at or before byte " +
                 std::to_string(in.at()) + "; fetch it again or exclude it");
}

[[noreturn]] void empty(const PlainStream& in, const char* format) {
  refuse(in, std::string("is not whole ") + format +
                 " data: it is empty, as a download is that never began; fetch it again or exclude it");
}

// A file whose first bytes are not those that its name promises. `first` is the beginning of it.
[[noreturn]] void misnamed(const PlainStream& in, const char* format, std::string_view first) {
  const std::string_view found = compressed_format(first);
  const std::string is_not = std::string("is not ") + format + " data, although its name says so: it ";
  if (!found.empty()) refuse(in, is_not + "is " + std::string(found) + " data; give it the name of that");
  const auto control = [](unsigned char c) { return c < 0x20 && (c < '\t' || c > '\r'); };
  const std::string_view shown = first.substr(0, 1024);
  if (std::none_of(shown.begin(), shown.end(), control)) {
    refuse(in, is_not +
                   "begins as plain text does, so it may have been decompressed on its way; take the end off "
                   "its name, or look at what it holds");
  }
  refuse(in, is_not + "begins otherwise; fetch it again or exclude it");
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
      if (state_.avail_in == 0 && !fill()) {
        if (!any_) empty(in_, "gzip");
        if (!between_members_) damaged(in_, "gzip", "it ends too early");
        return 0;
      }
      if (between_members_) {  // files may hold several members, one after the other
        if (*state_.next_in == 0) {
          pass_zeros();
          return 0;
        }
        if (*state_.next_in != 0x1F) damaged(in_, "gzip", "something else follows its last member");
        if (inflateReset(&state_) != Z_OK) damaged(in_, "gzip", "zlib refuses it");
        between_members_ = false;
      }
      const int status = inflate(&state_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        between_members_ = true;
      } else if (status == Z_MEM_ERROR) {
        throw SystemError("not enough memory to decompress " + quoted(in_.path()));
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        damaged(in_, "gzip", state_.msg != nullptr ? state_.msg : "zlib refuses it");
      }
    }
    return asked - state_.avail_out;
  }

 private:
  // False at the file's end.
  bool fill() {
    const size_t n = in_.read(chunk_);
    const std::string_view found(chunk_.data(), n);
    if (!any_ && n >= 2 && !found.starts_with("\x1F\x8B")) misnamed(in_, "gzip", found);
    any_ = any_ || n > 0;
    state_.next_in = reinterpret_cast<Bytef*>(chunk_.data());
    state_.avail_in = static_cast<uInt>(n);
    return n > 0;
  }

  // Zeros after the last member are what tapes and some programs fill a block with; gzip ignores them too.
  void pass_zeros() {
    do {
      const std::span<const Bytef> rest(state_.next_in, state_.avail_in);
      if (std::any_of(rest.begin(), rest.end(), [](Bytef b) { return b != 0; })) {
        damaged(in_, "gzip", "something else follows its last member");
      }
    } while (fill());
    state_.avail_in = 0;
  }

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
    // Whatever window this machine's zstd can hold (2 GiB): dumps are made with windows of up to that. The
    // library asks for a frame's window, no more, and the system gives pages as they are written.
    const int largest = ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound;
    require(ZSTD_isError(ZSTD_DCtx_setParameter(state_.get(), ZSTD_d_windowLogMax, largest)) == 0,
            "zstd takes the largest window that it names");
  }

  size_t read(std::span<char> out) override {
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos == 0) {
      if (input_.pos == input_.size) {
        input_ = {chunk_.data(), in_.read(chunk_), 0};
        if (!begun_ && input_.size >= 4) check_beginning();
        begun_ = begun_ || input_.size > 0;
        if (input_.size == 0 && !may_hold_more_) {
          if (!begun_) empty(in_, "zstd");
          if (!between_frames_) damaged(in_, "zstd", "it ends too early");
          if (!any_frame_) damaged(in_, "zstd", "it has no frame of data");
          return 0;
        }
      }
      const size_t before = input_.pos;
      const size_t status = ZSTD_decompressStream(state_.get(), &to, &input_);
      if (ZSTD_isError(status) != 0) refuse_error(status);
      note_magic(before);
      between_frames_ = status == 0;
      if (between_frames_) magic_.clear();
      may_hold_more_ = status != 0 && to.pos == to.size;
      if (to.pos == 0 && input_.size == 0 && input_.pos == before) damaged(in_, "zstd", "it ends too early");
    }
    return to.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* state) const { ZSTD_freeDStream(state); }
  };

  static bool skippable(std::string_view magic) {
    return (magic[0] & '\xF0') == '\x50' && magic.substr(1, 3) == "\x2A\x4D\x18";
  }

  void check_beginning() const {
    const std::string_view first(chunk_.data(), input_.size);
    // The first byte of versions before 0.8, which the library may know, is lower.
    const bool zstd = first.substr(1, 3) == "\xB5\x2F\xFD" || skippable(first);
    if (!zstd) misnamed(in_, "zstd", first);
  }

  // What the library read since input_.pos was `before` may hold a frame's first bytes: a file of skippable
  // frames alone holds no data.
  void note_magic(size_t before) {
    const std::string_view read(chunk_.data() + before, input_.pos - before);
    if (magic_.size() == kMagicBytes) return;
    magic_ += read.substr(0, kMagicBytes - magic_.size());
    if (magic_.size() == kMagicBytes && !skippable(magic_)) any_frame_ = true;
  }

  [[noreturn]] void refuse_error(size_t status) const {
    switch (ZSTD_getErrorCode(status)) {
      case ZSTD_error_frameParameter_windowTooLarge:
        refuse(in_,
               "is zstd data with a window of more than 2 GiB, which zstd does not read; compress the text "
               "with a smaller one (zstd --long=27)");
      case ZSTD_error_dictionary_wrong:
        refuse(
            in_,
            "was compressed with a dictionary, which Toroid does not have; decompress it first: zstd -d -D "
            "DICTIONARY");
      case ZSTD_error_version_unsupported:
      case ZSTD_error_frameParameter_unsupported:
        refuse(in_, "is of a version of zstd's format that cannot be read here (" +
                        std::string(ZSTD_getErrorName(status)) + "); compress it anew");
      case ZSTD_error_memory_allocation:
        throw SystemError(
            "not enough memory for the window of the zstd file " + quoted(in_.path()) +
            ", which may be up to 2 GiB; give the program more, or compress the file with zstd --long=27");
      case ZSTD_error_prefix_unknown:
        damaged(in_, "zstd",
                any_frame_ ? "something else follows its last frame"
                           : "its first bytes are not those of a frame");
      default:
        damaged(in_, "zstd", ZSTD_getErrorName(status));
    }
  }

  static constexpr size_t kMagicBytes = 4;
  PlainStream in_;
  std::vector<char> chunk_;
  std::unique_ptr<ZSTD_DStream, Free> state_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  std::string magic_;  // first bytes of the frame that is being read
  bool between_frames_ = true, may_hold_more_ = false;
  bool begun_ = false, any_frame_ = false;
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
    : limit_(limit), stream_(open_stream(path)), buffer_(kChunk, '\0') {}

std::string_view LineReader::beginning() {
  if (begin_ == end_) fill();
  return std::string_view(buffer_).substr(begin_, end_ - begin_);
}

bool LineReader::fill() {
  begin_ = 0;
  end_ = stream_->read(buffer_);
  bytes_ += static_cast<int64_t>(end_);
  return end_ > 0;
}

bool LineReader::next(std::string& line) {
  line.clear();
  bool any = false;
  bool rest_of_long = std::exchange(too_long_, false);  // is to be passed over before the next line begins
  for (;;) {
    const char* const from = buffer_.data() + begin_;
    const auto* const stop = static_cast<const char*>(std::memchr(from, '\n', end_ - begin_));
    const size_t n = stop != nullptr ? static_cast<size_t>(stop - from) : end_ - begin_;
    if (!rest_of_long && static_cast<int64_t>(line.size() + n) > limit_) {
      line.clear();
      too_long_ = true;
      ++line_number_;
      return true;
    }
    if (!rest_of_long) {
      line.append(from, n);
      any = any || end_ > begin_;
    }
    begin_ += n;
    if (stop != nullptr) {
      ++begin_;
      if (!std::exchange(rest_of_long, false)) break;
      continue;
    }
    if (!fill()) {
      if (!any) return false;
      break;
    }
  }
  if (line.ends_with('\r')) line.pop_back();
  ++line_number_;
  return true;
}

}  // namespace toroid
