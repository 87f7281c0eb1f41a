// A directory that must be absent or empty, and is left as it was found unless keep() is called. Nobody else
// writes to it meanwhile.
#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/base/io/directory_lock.h"
#include "core/base/io/file.h"
#include "core/base/text.h"

namespace toroid {

class FreshDirectory {
 public:
  explicit FreshDirectory(const Path& path) : path_(path) {
    check_empty();
    lock_.emplace(path);
    check_empty();  // another may have been done with it just now
  }
  ~FreshDirectory() {
    if (!kept_) clear();
  }
  FreshDirectory(const FreshDirectory&) = delete;  // one owner cleans up
  FreshDirectory& operator=(const FreshDirectory&) = delete;
  void keep() { kept_ = true; }

 private:
  // But for a lock, whose owner is asked for it.
  void check_empty() const {
    if (!is_present(path_)) return;
    const auto is_lock = [](const Path& entry) {
      return entry.filename().string().starts_with(DirectoryLock::kName);
    };
    if (is_present_directory(path_)) {
      const std::vector<Path> entries = list_directory(path_);
      if (std::all_of(entries.begin(), entries.end(), is_lock)) return;
    }
    throw UserError(in_quotes(path_.string()) +
                    " is there already and not empty; give --out a new directory");
  }
  void clear() const {
    try {
      for (const Path& entry : list_directory(path_)) {
        std::error_code ignored;
        if (entry.filename() != DirectoryLock::kName) std::filesystem::remove_all(entry, ignored);
      }
    } catch (const SystemError&) {
      // what cannot be listed stays
    }
  }

  Path path_;
  bool kept_ = false;
  std::optional<DirectoryLock> lock_;  // takes away a directory that was not there and stayed empty
};

}  // namespace toroid
