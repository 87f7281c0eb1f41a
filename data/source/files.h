// The files of a directory that a source reads: regular files alone, below the directory, in order of path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "data/source/source.h"

namespace toroid {

struct FoundFile {
  Path path;
  std::string name;  // path below the source's folder, with '/'
  int64_t bytes = 0;
  int64_t modified_ns = 0;
};

struct FileList {
  std::vector<FoundFile> files;  // by name, as bytes
  SourceCounts skipped;
};

// Shell patterns (fnmatch; '*' matches '/' too). A pattern without '/' is compared with the file's name
// alone. A compressed file also matches as if it were not.
struct FilePatterns {
  std::vector<std::string> include, exclude;
  bool operator()(const std::string& name) const;
};

// `root` is a folder or one file. Folders are not entered through symbolic links; a link to a regular file
// below `root` is read, any other is skipped and counted. UserError where `root` does not exist.
FileList list_files(const Path& root, const FilePatterns& wanted);

}  // namespace toroid
