// What is wrong with a saved step, all of it: nothing is thrown for damage, every fault is named with its
// file, the bytes, the tensors in them and the rank that wrote them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "train/checkpoint/manifest.h"

namespace toroid {

// Elements [first, last) of a tensor.
struct TensorRange {
  std::string name, part;
  int64_t first = 0, last = 0;
};

struct Fault {
  std::string file;                  // bare name; "" of the step as a whole
  int rank = -1;                     // that wrote the file; -1: not known
  int64_t first = 0, last = 0;       // bytes [first, last) of the file that are concerned; both 0: all of it
  std::vector<TensorRange> tensors;  // that lie in those bytes and are spoilt, as far as that is known
  std::string what;                  // printable
};
std::string to_text(const Fault& fault);  // one line, ready for a terminal

// Where a run of a tensor's elements lies.
struct StoredSlice {
  std::string file;
  int rank = 0;
  int64_t offset = 0;  // flat index of the first element in the whole tensor
  int64_t elements = 0;
  ElementType type = ElementType::f32;
};

enum class Depth : uint8_t {
  lengths,   // the manifest, the files' lengths and headers
  contents,  // every byte against its hashes, every tensor against its additive hash
};

struct CheckOptions {
  Depth depth = Depth::contents;
  bool from_disk = true;  // the kernel's cached pages are dropped first
  int threads = 1;        // files are read by as many at once
};

struct StepCheck {
  Path directory;
  std::optional<Manifest> manifest;  // as far as it can be read, its seal not trusted
  std::vector<Fault> faults;         // in the order of the manifest's files
  int64_t bytes = 0;                 // of the files that are there
  int64_t bytes_read = 0;            // and hashed
  // By part and name, the slices in order.
  std::map<std::pair<std::string, std::string>, std::vector<StoredSlice>> slices;
  bool whole() const { return faults.empty(); }
};

// `step` is the directory of one step; UserError where there is none.
StepCheck check_step(const Path& step, const CheckOptions& options);

}  // namespace toroid
