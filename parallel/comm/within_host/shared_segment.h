// Memory that the processes of one job on one host share. Its name lives only until all have it: then even
// kill -9 leaves nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace toroid {

inline constexpr size_t kHugePageBytes = size_t{2} << 20;

class SharedSegment {
 public:
  // Creates `name` ("/toroid-...") of zero bytes, readable by this user alone; SystemError where that fails.
  static SharedSegment create(const std::string& name, int64_t bytes);
  static SharedSegment open(const std::string& name, int64_t bytes);
  // The same without a name, and not of /dev/shm: memory is taken when it is first written. path() is where
  // processes of the same user open it while this one has it.
  static SharedSegment anonymous(int64_t bytes);
  static SharedSegment attach(const std::string& path, int64_t bytes);
  ~SharedSegment();
  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&&) = delete;
  SharedSegment(const SharedSegment&) = delete;  // a mapping has one owner

  std::byte* data() const { return data_; }  // on a huge page's boundary
  std::string path() const;
  // Takes the name away; the memory stays with those that have it.
  void unlink();
  // Moves the name, of /dev/shm, into a directory there, where whoever has that finds the memory when the
  // processes are gone and takes it away. False where that cannot be; the name is then as it was.
  bool leave_in(const std::string& directory, const std::string& name);
  // Gives whole pages back to the system; they are zero when they are next touched.
  void forget(int64_t offset, int64_t bytes);

 private:
  SharedSegment() = default;
  SharedSegment(std::string name, bool creates, int64_t bytes);
  void map();

  std::string name_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  bool named_ = false;  // by this process, and still
  int descriptor_ = -1;
};

}  // namespace toroid
