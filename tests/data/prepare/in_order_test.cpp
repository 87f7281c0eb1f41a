// Results come in one order whatever the number of threads, errors too, and nobody is left waiting.
#include "data/prepare/in_order.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace toroid {
namespace {

using Work = InOrder<int>;

// Part p emits p % 7 items.
std::vector<int> run(size_t parts, size_t threads) {
  std::vector<int> out;
  Work(parts, threads)
      .run(
          [](size_t, size_t part, const Work::Emit& emit) {
            for (size_t i = 0; i < part % 7; ++i) emit(static_cast<int>(100 * part + i));
          },
          [&](size_t part, int&& item) {
            EXPECT_EQ(static_cast<size_t>(item) / 100, part);
            out.push_back(item);
          },
          [&](size_t part) { out.push_back(-static_cast<int>(part) - 1); });
  return out;
}

TEST(InOrder, OrderDoesNotDependOnThreads) {
  const std::vector<int> one = run(500, 1);
  EXPECT_EQ(one.size(), 500u + 71 * 21 + 0 + 1 + 2);
  for (const size_t threads : {2, 3, 8}) EXPECT_EQ(run(500, threads), one);
  EXPECT_TRUE(run(0, 4).empty());
}

TEST(InOrder, APartMayEmitFarMoreThanWaits) {
  int64_t sum = 0;
  Work(3, 2).run(
      [](size_t, size_t, const Work::Emit& emit) {
        for (int i = 0; i < 10'000; ++i) emit(1);
      },
      [&](size_t, int&& item) { sum += item; }, [](size_t) {});
  EXPECT_EQ(sum, 30'000);
}

TEST(InOrder, TheFirstErrorInOrderOfPartsIsTheOneThatComesOut) {
  for (int round = 0; round < 50; ++round) {
    std::vector<int> seen;
    std::string what;
    try {
      Work(100, 4).run(
          [](size_t, size_t part, const Work::Emit& emit) {
            emit(static_cast<int>(part));
            if (part >= 10) throw std::runtime_error("part " + std::to_string(part));
          },
          [&](size_t, int&& item) { seen.push_back(item); }, [](size_t) {});
    } catch (const std::runtime_error& error) {
      what = error.what();
    }
    EXPECT_EQ(what, "part 10");
    EXPECT_EQ(seen.size(), 11u);
  }
}

TEST(InOrder, AConsumerThatFailsReleasesItsProducers) {
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(Work(100, 4).run(
                     [](size_t, size_t, const Work::Emit& emit) {
                       for (int i = 0; i < 100; ++i) emit(int{i});
                     },
                     [](size_t part, int&&) {
                       if (part == 3) throw std::runtime_error("full disk");
                     },
                     [](size_t) {}),
                 std::runtime_error);
  }
}

TEST(InOrder, EachThreadHasItsNumber) {
  std::atomic<int> wrong = 0;
  Work(50, 3).run([&](size_t thread, size_t, const Work::Emit&) { wrong += thread >= 3 ? 1 : 0; },
                  [](size_t, int&&) {}, [](size_t) {});
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace toroid
