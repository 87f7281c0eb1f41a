// A directory that must be absent or empty, and is left as it was found unless keep() is called.
#pragma once

#include <filesystem>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/base/text.h"

namespace toroid::huggingface {

class FreshDirectory {
 public:
  explicit FreshDirectory(const Path& path) : path_(path) {
    was_there_ = is_present(path);
    if (was_there_ && (!is_present_directory(path) || !list_directory(path).empty())) {
      throw UserError(in_quotes(path.string()) +
                      " is there already and not empty; give --out a new directory");
    }
  }
  ~FreshDirectory() {
    if (kept_) return;
    std::error_code ignored;
    if (!was_there_) {
      std::filesystem::remove_all(path_, ignored);
      return;
    }
    try {
      for (const Path& entry : list_directory(path_)) std::filesystem::remove_all(entry, ignored);
    } catch (const SystemError&) {
      // what cannot be listed stays
    }
  }
  FreshDirectory(const FreshDirectory&) = delete;  // one owner cleans up
  FreshDirectory& operator=(const FreshDirectory&) = delete;
  void keep() { kept_ = true; }

 private:
  Path path_;
  bool was_there_ = false, kept_ = false;
};

}  // namespace toroid::huggingface
