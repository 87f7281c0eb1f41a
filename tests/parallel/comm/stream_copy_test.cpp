#include "parallel/comm/stream_copy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "parallel/comm/combine.h"

namespace toroid {
namespace {

constexpr int64_t kMost = 301;

float value(int row, int64_t i) {
  return std::sin(static_cast<float>(row * 1000 + i)) * std::exp2(static_cast<float>((row * 7 + i) % 21));
}

// The bits of the tree over whole arrays, wherever the arrays begin and however long they are.
TEST(SumRows, IsTheTreeOverTheRowsInOrder) {
  for (const int count : {2, 4, 8}) {
    std::vector<std::vector<float>> rows(static_cast<size_t>(count), std::vector<float>(kMost + 16));
    for (int row = 0; row < count; ++row) {
      for (size_t i = 0; i < rows[0].size(); ++i)
        rows[static_cast<size_t>(row)][i] = value(row, static_cast<int64_t>(i));
    }
    for (const int64_t offset : {0, 1, 5}) {
      for (const int64_t elements : {int64_t{0}, int64_t{1}, int64_t{17}, kMost}) {
        std::vector<const float*> at;
        for (const auto& row : rows) at.push_back(row.data() + offset);
        std::vector<std::vector<float>> entries(8, std::vector<float>(kMost));
        const std::byte* const wanted = sum_as_tree(
            count,
            [&](int row, int64_t) {
              return reinterpret_cast<const std::byte*>(at[static_cast<size_t>(row)]);
            },
            [&](int64_t entry, bool, const std::byte* a, const std::byte* b) -> const std::byte* {
              auto* const to = reinterpret_cast<std::byte*>(entries[static_cast<size_t>(entry)].data());
              combine(DType::f32, Combine::sum, to, a, b, elements);
              return to;
            });
        for (const bool streams : {false, true}) {
          std::vector<float> sums(kMost + 32, -1.0f);
          float* const to = sums.data() + 3;
          sum_rows(to, at, elements, streams);
          EXPECT_EQ(std::memcmp(to, wanted, static_cast<size_t>(elements) * sizeof(float)), 0)
              << count << " rows of " << elements << " from " << offset << ", streams " << streams;
          EXPECT_EQ(to[-1], -1.0f);
          EXPECT_EQ(to[elements], -1.0f);
        }
      }
    }
  }
}

TEST(SumRows, MayBeWrittenOverOneOfThem) {
  std::vector<float> a(kMost), b(kMost), sums(kMost);
  for (int64_t i = 0; i < kMost; ++i) {
    a[static_cast<size_t>(i)] = value(0, i);
    b[static_cast<size_t>(i)] = value(1, i);
    sums[static_cast<size_t>(i)] = value(0, i) + value(1, i);
  }
  const std::vector<const float*> rows{a.data(), b.data()};
  sum_rows(b.data(), rows, kMost, false);
  EXPECT_EQ(b, sums);
}

}  // namespace
}  // namespace toroid
