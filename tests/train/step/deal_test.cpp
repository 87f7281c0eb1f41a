#include "train/step/deal.h"

#include <gtest/gtest.h>

#include <set>

namespace toroid::train {
namespace {

// Every sequence of a step goes to one microbatch of one replica; a pod's lie side by side.
TEST(Dealer, DealsEverySequenceOnce) {
  for (const bool deterministic : {false, true}) {
    for (const int pods : {1, 2, 4}) {
      for (const int data : {1, 2, 8}) {
        for (const int64_t each : {1, 3}) {
          if (deterministic && each > 1) continue;
          for (const int64_t sequences : {1, 5, 16, 33}) {
            std::set<int64_t> dealt;
            int64_t slots = 0;
            for (int pod = 0; pod < pods; ++pod) {
              for (int rank = 0; rank < data; ++rank) {
                const Deal deal = Dealer({pod, pods}, {rank, data}, each, deterministic).deal(sequences);
                slots += deal.microbatches * deal.sequences;
                for (int64_t i = 0; i < deal.microbatches * deal.sequences; ++i) {
                  const int64_t one = deal.first + i / each * deal.stride + i % each;
                  EXPECT_TRUE(dealt.insert(one).second) << one;
                  EXPECT_GE(one, deal.pod_first);
                  EXPECT_LT(one, deal.pod_first + deal.pod_sequences);
                }
              }
            }
            EXPECT_EQ(static_cast<int64_t>(dealt.size()), slots);
            EXPECT_EQ(*dealt.rbegin() + 1, slots) << "without a gap";
            EXPECT_GE(slots, sequences);
            EXPECT_TRUE(!deterministic || (slots & (slots - 1)) == 0) << slots;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace toroid::train
