// A balanced binary tree over rows of partial sums. Neighbours are added first, so that a power-of-two run of
// rows is one subtree: a layout that computes only that run sums it alike.
#pragma once

#include <cstdint>

namespace toroid::cpu {

// Leaves the tree's sum of partial[rows, columns], whose rows lie `stride` apart, in its first row; the
// others are overwritten.
void tree_rows(float* partial, int64_t rows, int64_t columns, int64_t stride, int threads);

// to[columns] += the tree's sum of the dense partial[rows, columns], which is overwritten.
void add_tree(float* partial, int64_t rows, int64_t columns, float* to, int threads);

// The tree's sum of `count` values, which are overwritten; 0 of none.
float tree_sum(float* values, int64_t count);

}  // namespace toroid::cpu
