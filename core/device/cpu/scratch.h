// Cutting a kernel's workspace into aligned parts: once to learn its size, once to use it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace toroid::cpu {

class Scratch {
 public:
  explicit Scratch(std::byte* base = nullptr) : base_(base) {}
  template <class T = std::byte>
  T* take(int64_t count) {
    const int64_t at = used_;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 127) / 128 *
             128;  // pairs of lines are prefetched together
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace toroid::cpu
