// A file system of a given size, which tests can fill and make read-only.
#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <string>
#include <utility>

#include "core/base/io/file.h"

namespace toroid {

// Mounted at a new directory and unmounted at the end; `mounted()` is false without the right to mount.
class SmallDisk {
 public:
  SmallDisk(Path at, const std::string& options) : at_(std::move(at)) {
    std::filesystem::create_directory(at_);
    mounted_ = ::mount("tmpfs", at_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;  // one owner of the mount
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  bool make_read_only() const {
    return ::mount("tmpfs", at_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "") == 0;
  }

 private:
  Path at_;
  bool mounted_ = false;
};

}  // namespace toroid
