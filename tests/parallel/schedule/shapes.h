// The shapes and combinations that the proofs run over.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid::test {

using schedule::all_algorithms;
using schedule::kOperations;

// Every rows x columns up to 16 x 16, wrapped; and without a wrap along rows, columns or both up to
// `unwrapped` ranks; and some of three dimensions.
inline std::vector<schedule::GroupShape> all_shapes(int unwrapped = 40) {
  std::vector<schedule::GroupShape> shapes;
  for (int rows = 1; rows <= 16; ++rows) {
    for (int columns = 1; columns <= 16; ++columns) {
      shapes.push_back({rows, columns, true, true});
      if (rows * columns > unwrapped) continue;
      shapes.push_back({rows, columns, false, true});
      shapes.push_back({rows, columns, true, false});
      shapes.push_back({rows, columns, false, false});
    }
  }
  shapes.push_back({1, 17, true, true});
  shapes.push_back({19, 1, true, false});
  shapes.push_back({3, 31, true, true});
  shapes.push_back({1, 256, true, true});
  shapes.push_back({16, 16, false, true});
  shapes.push_back({16, 16, false, false});
  shapes.push_back({15, 13, false, false});
  for (const auto& [planes, rows, columns] :
       {std::array{2, 2, 2}, std::array{3, 3, 3}, std::array{4, 4, 4}, std::array{2, 3, 4},
        std::array{5, 3, 2}, std::array{4, 1, 3}, std::array{3, 4, 1}, std::array{7, 1, 1},
        std::array{4, 8, 8}}) {
    for (int wraps = 0; wraps < (planes * rows * columns > unwrapped ? 1 : 8); ++wraps) {
      shapes.push_back({rows, columns, (wraps & 1) == 0, (wraps & 2) == 0, planes, (wraps & 4) == 0});
    }
  }
  return shapes;
}

// An all_reduce is the reduce_scatter and then the all_gather: on large shapes it is tried on the square
// alone.
inline bool repeats_two_others(schedule::Operation operation, const schedule::GroupShape& shape) {
  return operation == schedule::Operation::all_reduce && shape.size() > 64 && shape.rows != shape.columns;
}

inline std::string text_of(schedule::Algorithm algorithm, schedule::Operation operation,
                           const schedule::GroupShape& shape) {
  return std::string(name(algorithm)) + " " + std::string(name(operation)) + " over " + text(shape) +
         ", wraps: " + (shape.wrap_planes ? "planes " : "") + (shape.wrap_rows ? "rows " : "") +
         (shape.wrap_columns ? "columns" : "");
}

}  // namespace toroid::test
