// Files: bounded reads, and writes that are whole or absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

using Path = std::filesystem::path;

// 'path' for messages, without what a terminal would act on.
std::string quoted(const Path& path);

// The whole of a regular file of at most `limit` bytes. UserError where it is missing, larger or not a
// regular file (a FIFO or device is refused before it is opened for reading); SystemError where reading
// fails.
std::string read_file(const Path& path, int64_t limit);

// Whether opening a path whose last part is a symbolic link succeeds. Refused for names that come out of a
// file, which must not lead elsewhere.
enum class Symlinks : uint8_t { follow, refuse };

// Owner of a file descriptor opened for reading on a regular file.
class InputFile {
 public:
  explicit InputFile(const Path& path, Symlinks symlinks = Symlinks::follow);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  InputFile(const InputFile&) = delete;  // a descriptor has one owner

  int64_t size() const { return size_; }
  const Path& path() const { return path_; }
  // Reads exactly out.size() bytes at `offset`; UserError naming path and offset where the file ends before.
  void read_at(int64_t offset, std::span<std::byte> out) const;
  // Asks the kernel to forget the file's cached pages, so that the next read comes from the disk where that
  // is possible.
  void drop_cache() const;
  // Before a piece at `offset` of a file that is read from its beginning to its end: asks the kernel to begin
  // reading what follows, so that a disk which serves requests side by side has some.
  void reads_on(int64_t offset) const;
  // Reads come from the disk from now on, past the kernel's cache, where the file system can and for as long
  // as offset, length and address are multiples of kPage; then through the cache, which is dropped. It spares
  // the processor a copy, which costs more than a hash of the bytes; but the disk has one request at a time.
  void read_from_disk() const;
  static constexpr size_t kPage = 4096;

 private:
  Path path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// Zero bytes that begin with a page: memory for read_at() of an InputFile that reads from the disk.
class PageBuffer {
 public:
  explicit PageBuffer(size_t bytes)
      : pages_((bytes + InputFile::kPage - 1) / InputFile::kPage), bytes_(bytes) {}
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(pages_)).first(bytes_); }

 private:
  struct alignas(InputFile::kPage) Page {
    std::byte bytes[InputFile::kPage];
  };
  std::vector<Page> pages_;
  size_t bytes_;
};

// A file that is being written: everything written, synced and closed by commit(), or an exception
// (SystemError with path and errno) and nothing at `path`.
class OutputFile {
 public:
  enum class Name : uint8_t {
    at_commit,  // written as `path` + ".tmp-<pid>" and renamed; the directory is synced too
    at_once,    // for directories that do not count until they are whole, and are synced then
  };
  explicit OutputFile(const Path& path, Name name = Name::at_commit);
  ~OutputFile();  // removes the file unless committed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // What lies at `offset`, as the kernel has it.
  void read_back(int64_t offset, std::span<std::byte> out) const;
  int64_t size() const { return size_; }
  // fsync, close, and what the name asks for.
  void commit();

 private:
  Path path_, temporary_;
  int64_t on_its_way_ = 0;  // bytes that the kernel was asked to begin to write to the disk
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// Whole-or-absent replacement of a small file.
void write_file(const Path& path, std::string_view text);

void sync_directory(const Path& directory);

// Creates `directory` and its parents; SystemError where that fails.
void make_directories(const Path& directory);

// Questions about a name, asked in place of std::filesystem's, whose errors are no sentences of ours. Links
// are followed: one that leads nowhere is not there.
//
// SystemError where it cannot be told, as behind a directory that may not be entered.
bool is_present(const Path& path);
bool is_present_directory(const Path& path);
// For what is optional: what cannot be reached is as if it were not there.
bool is_reachable(const Path& path);

// What `directory` holds, by name; SystemError where that cannot be read.
std::vector<Path> list_directory(const Path& directory);

}  // namespace toroid
