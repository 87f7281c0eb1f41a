// One rank's file of a step against what the manifest says of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "train/checkpoint/step_check.h"

namespace toroid {

// A slice as its file holds it, with the hash of what was read.
struct CheckedSlice {
  std::string tensor;
  StoredSlice place;
  int64_t first = 0, last = 0;  // bytes of the file
  std::vector<int64_t> shape;
  uint64_t hash = 0;
  bool read = false;  // all of it
};

struct FileCheck {
  std::vector<Fault> faults;
  std::vector<CheckedSlice> slices;             // by first byte
  std::map<std::string, std::string> metadata;  // of the header; empty where that cannot be read
  int64_t bytes = 0;                            // of the file
  int64_t bytes_read = 0;
};

// `expected` null: there is no manifest to compare with, and the header alone is looked at. Faults of bytes
// name no tensors yet: which are spoilt shows when a tensor's slices are put together.
FileCheck check_file(const Path& path, const ManifestFile* expected, int64_t step, int world_size,
                     const CheckOptions& options);

}  // namespace toroid
