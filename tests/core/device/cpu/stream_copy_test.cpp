#include "core/device/cpu/stream_copy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/device/cpu/tree.h"

namespace toroid::cpu {
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
        std::vector<float> wanted;
        wanted.reserve(kMost);  // memcmp takes no null pointer, even of nothing
        for (int64_t i = 0; i < elements; ++i) {
          std::vector<float> column;
          for (const float* row : at) column.push_back(row[i]);
          wanted.push_back(tree_sum(column.data(), count));
        }
        for (const bool streams : {false, true}) {
          std::vector<float> sums(kMost + 32, -1.0f);
          float* const to = sums.data() + 3;
          sum_rows(to, at, elements, streams);
          EXPECT_EQ(std::memcmp(to, wanted.data(), static_cast<size_t>(elements) * sizeof(float)), 0)
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

// Every byte and none beside them, wherever the arrays begin and end within their lines.
TEST(StreamCopy, CopiesWhatMemcpyDoes) {
  std::vector<std::byte> from(1000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 7 + i / 251);
  for (const size_t first : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{100}}) {
    for (const int64_t bytes : {0, 1, 63, 64, 65, 127, 128, 500, 777}) {
      for (const bool keeps : {false, true}) {
        std::vector<std::byte> to(1000, std::byte{0xAA}), kept(to), wanted(to);
        const size_t at = 70;
        std::memcpy(wanted.data() + at, from.data() + first, static_cast<size_t>(bytes));
        if (keeps) {
          stream_copy_and_keep(to.data() + at, kept.data() + at, from.data() + first, bytes);
          EXPECT_EQ(kept, wanted) << bytes << " bytes from " << first;
        } else {
          stream_copy(to.data() + at, from.data() + first, bytes);
        }
        EXPECT_EQ(to, wanted) << bytes << " bytes from " << first;
      }
    }
  }
}

}  // namespace
}  // namespace toroid::cpu
