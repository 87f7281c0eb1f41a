// The readers that the corpus of refused files is run through: the folder's name, and what opens a path of
// that folder.
#pragma once

#include <string_view>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

struct MalformedReader {
  std::string_view folder;
  void (*read)(const Path& path);  // throws UserError where the path must be refused
};

std::vector<MalformedReader> malformed_readers();

}  // namespace toroid
