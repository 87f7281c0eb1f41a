// Memory that the processes of one job on one host share. Its name lives only until all have it: then even
// kill -9 leaves nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace toroid {

class SharedSegment {
 public:
  // Creates `name` ("/toroid-...") of zero bytes, readable by this user alone; SystemError where that fails.
  static SharedSegment create(const std::string& name, int64_t bytes);
  static SharedSegment open(const std::string& name, int64_t bytes);
  ~SharedSegment();
  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&&) = delete;
  SharedSegment(const SharedSegment&) = delete;  // a mapping has one owner

  std::byte* data() const { return data_; }
  // Takes the name away; the memory stays with those that have it.
  void unlink();

 private:
  SharedSegment(std::string name, bool creates, int64_t bytes);

  std::string name_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  bool named_ = false;  // by this process, and still
};

}  // namespace toroid
