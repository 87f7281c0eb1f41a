// The loader gives what its source gives, in order, however many threads it has and wherever it starts.
#include "data/batch/loader.h"

#include <gtest/gtest.h>

#include <atomic>

#include "core/base/error.h"
#include "tests/data/batch/prepared.h"

namespace toroid {
namespace {

TEST(Loader, ThreadsAndResumingDoNotMatter) {
  const Prepared prepared({30, 20});
  const auto source = prepared.open({4, 16, 700, 3});
  for (const int threads : {1, 2, 5}) {
    for (const int64_t first : {int64_t{0}, int64_t{13}}) {
      Loader loader(*source, first, 40, threads, 3);
      for (int64_t step = first; step < 40; ++step) {
        const Batch batch = loader.next(), expected = source->batch(step);
        ASSERT_EQ(batch.ids, expected.ids) << step;
        ASSERT_EQ(batch.targets, expected.targets) << step;
      }
    }
  }
}

class Counting : public BatchSource {
 public:
  Batch batch(int64_t step) const override {
    highest = std::max(highest.load(), step);
    if (step == 5) throw UserError("step five");
    Batch batch;
    batch.target_count = step;
    return batch;
  }
  int64_t validation_sequences() const override { return 0; }
  Batch validation(int64_t, int64_t) const override { return {}; }
  std::vector<SequenceProvenance> provenance(int64_t) const override { return {}; }
  uint64_t fingerprint() const override { return 0; }

  mutable std::atomic<int64_t> highest = -1;
};

TEST(Loader, ErrorsComeAtTheirStepAndOthersGoOn) {
  const Counting source;
  Loader loader(source, 3, 8, 2, 2);
  EXPECT_EQ(loader.next().target_count, 3);
  EXPECT_EQ(loader.next().target_count, 4);
  EXPECT_THROW(loader.next(), UserError);
  EXPECT_EQ(loader.next().target_count, 6);
  EXPECT_EQ(loader.next().target_count, 7);
  EXPECT_THROW(loader.next(), InternalError);
}

TEST(Loader, StaysWithinItsLead) {
  const Counting source;
  {
    Loader loader(source, 10, 1'000'000, 4, 6);
    EXPECT_EQ(loader.next().target_count, 10);
  }
  EXPECT_LE(source.highest, 16);
}

TEST(Loader, CanBeLeftUnread) {
  const Counting source;
  for (int i = 0; i < 20; ++i) const Loader loader(source, 10, 1000, 4, 6);
}

}  // namespace
}  // namespace toroid
