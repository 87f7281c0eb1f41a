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
  const auto source = prepared.open({16, 700, 3});
  for (const int threads : {1, 2, 5}) {
    for (const int64_t first : {int64_t{0}, int64_t{13}}) {
      Loader loader(*source, first, 4, 30, threads, 3);
      for (int64_t i = 0; i < 30; ++i) {
        const Batch batch = loader.next(), expected = source->batch(first + 4 * i, 4);
        ASSERT_EQ(batch.ids, expected.ids) << i;
        ASSERT_EQ(batch.targets, expected.targets) << i;
      }
    }
  }
}

class Counting : public BatchSource {
 public:
  Batch batch(int64_t position, int64_t count) const override {
    highest = std::max(highest.load(), position);
    if (position == 15) throw UserError("position fifteen");
    Batch batch;
    batch.sequences = count;
    batch.target_count = position;
    return batch;
  }
  int64_t validation_sequences() const override { return 0; }
  Batch validation(int64_t, int64_t) const override { return {}; }
  std::vector<SequenceProvenance> provenance(int64_t, int64_t) const override { return {}; }
  void skip(const SkipList&) override {}
  uint64_t fingerprint() const override { return 0; }
  uint64_t fingerprint_with_batch(int64_t) const override { return 0; }

  mutable std::atomic<int64_t> highest = -1;
};

TEST(Loader, ErrorsComeInTheirPlaceAndOthersGoOn) {
  const Counting source;
  Loader loader(source, 9, 3, 5, 2, 2);
  EXPECT_EQ(loader.next().target_count, 9);
  EXPECT_EQ(loader.next().target_count, 12);
  EXPECT_THROW(loader.next(), UserError);
  EXPECT_EQ(loader.next().target_count, 18);
  const Batch last = loader.next();
  EXPECT_EQ(last.target_count, 21);
  EXPECT_EQ(last.sequences, 3);
  EXPECT_THROW(loader.next(), InternalError);
}

TEST(Loader, StaysWithinItsLead) {
  const Counting source;
  {
    Loader loader(source, 10, 1, 1'000'000, 4, 6);
    EXPECT_EQ(loader.next().target_count, 10);
  }
  EXPECT_LE(source.highest, 16);
}

TEST(Loader, CanBeLeftUnread) {
  const Counting source;
  for (int i = 0; i < 20; ++i) const Loader loader(source, 10, 1, 1000, 4, 6);
}

}  // namespace
}  // namespace toroid
