// A directory that must be absent or empty, and is left as it was found unless keep() is called. Nobody else
// writes to it meanwhile.
#pragma once

#include <filesystem>
#include <optional>

#include "core/base/error.h"
#include "core/base/io/directory_lock.h"
#include "core/base/io/file.h"
#include "core/base/text.h"

namespace toroid::huggingface {

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
    std::error_code error;
    if (!std::filesystem::exists(path_, error)) return;
    bool empty = std::filesystem::is_directory(path_, error);
    for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
      empty = empty && entry.path().filename().string().starts_with(DirectoryLock::kName);
    }
    if (empty) return;
    throw UserError(in_quotes(path_.string()) +
                    " is there already and not empty; give --out a new directory");
  }
  void clear() const {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(path_, ignored)) {
      std::error_code entry_ignored;
      if (entry.path().filename() != DirectoryLock::kName) {
        std::filesystem::remove_all(entry.path(), entry_ignored);
      }
    }
  }

  Path path_;
  bool kept_ = false;
  std::optional<DirectoryLock> lock_;  // takes away a directory that was not there and stayed empty
};

}  // namespace toroid::huggingface
