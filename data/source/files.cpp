#include "data/source/files.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/source/byte_stream.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

bool matches(const std::string& pattern, const std::string& name) {
  const bool whole = pattern.find('/') != std::string::npos;
  const size_t base = whole ? 0 : name.rfind('/') + 1;  // npos + 1 is 0
  const std::string tail = name.substr(base);
  const std::string plain(without_compression(tail));
  return ::fnmatch(pattern.c_str(), tail.c_str(), 0) == 0 ||
         ::fnmatch(pattern.c_str(), plain.c_str(), 0) == 0;
}

bool is_below(const Path& path, const Path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end();
}

// Adds `path` if it is a regular file; counts it otherwise.
void consider(const Path& path, const std::string& name, FileList& list) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    ++list.skipped.skipped_links;  // it was listed a moment ago: a dangling link, or gone
  } else if (!S_ISREG(status.st_mode)) {
    ++list.skipped.skipped_special;
  } else {
    const int64_t modified = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    list.files.push_back({path, name, status.st_size, modified});
  }
}

// Where a link leads, or "" where that is not a regular file below `root`.
bool link_stays_inside(const Path& link, const Path& root) {
  std::error_code error;
  const Path target = fs::canonical(link, error);
  return !error && fs::is_regular_file(target, error) && !error && is_below(target, root);
}

}  // namespace

bool FilePatterns::operator()(const std::string& name) const {
  const auto any = [&](const std::vector<std::string>& patterns) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const auto& p) { return matches(p, name); });
  };
  return any(include) && !any(exclude);
}

FileList list_files(const Path& root, const FilePatterns& wanted) {
  std::error_code error;
  const Path start = fs::canonical(root, error);
  if (error) {
    throw UserError("source path " + quoted(root) + " cannot be read (" + error.message() +
                    "); give a folder or a file, or set data.corpus");
  }
  FileList list;
  if (!is_present_directory(start)) {
    consider(start, start.filename().string(), list);
    if (list.files.empty()) {
      throw UserError("source path " + quoted(root) + " is neither a folder nor a regular file");
    }
    return list;
  }
  fs::recursive_directory_iterator walk(start, fs::directory_options::none, error), end;
  while (!error && walk != end) {
    const fs::directory_entry& entry = *walk;
    const std::string name = entry.path().lexically_relative(start).generic_string();
    const fs::file_type type = entry.symlink_status(error).type();
    if (error) break;
    if (type == fs::file_type::symlink) {
      if (!link_stays_inside(entry.path(), start)) {
        ++list.skipped.skipped_links;
      } else if (wanted(name)) {
        consider(entry.path(), name, list);
      }
    } else if (type == fs::file_type::regular) {
      if (wanted(name)) consider(entry.path(), name, list);
    } else if (type != fs::file_type::directory) {
      ++list.skipped.skipped_special;
    }
    walk.increment(error);
  }
  if (error) throw SystemError("cannot list the files of " + quoted(root), error.value());
  std::sort(list.files.begin(), list.files.end(),
            [](const FoundFile& a, const FoundFile& b) { return a.name < b.name; });
  return list;
}

}  // namespace toroid
