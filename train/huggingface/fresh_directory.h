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
    std::error_code error;
    was_there_ = std::filesystem::exists(path, error);
    if (was_there_ && !std::filesystem::is_empty(path, error)) {
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
    for (const auto& entry : std::filesystem::directory_iterator(path_, ignored)) {
      std::error_code entry_ignored;
      std::filesystem::remove_all(entry.path(), entry_ignored);
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
