// Which GPU a rank takes.
#include "train/engine/cuda/gpu_choice.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"
#include "tests/train/engine/cuda/gpus.h"
#include "train/config/load.h"
#include "train/engine/engine.h"

namespace toroid::train {
namespace {

using Ranks = std::vector<SeenGpus>;

std::vector<int> chosen(const Ranks& ranks) {
  std::vector<int> out;
  for (size_t rank = 0; rank < ranks.size(); ++rank) out.push_back(gpu_of_rank(ranks, rank));
  return out;
}

std::string refusal(const Ranks& ranks) {
  std::string out;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    try {
      (void)gpu_of_rank(ranks, rank);
      return "none";
    } catch (const UserError& error) {
      if (rank == 0) out = error.what();
      EXPECT_EQ(out, error.what()) << "every rank says the same";
    }
  }
  return out;
}

TEST(GpuChoice, is_the_rank_s_place_on_its_host) {
  EXPECT_EQ(chosen({{0, {"a", "b"}}, {0, {"a", "b"}}}), (std::vector<int>{0, 1}));
  EXPECT_EQ(chosen({{0, {"a", "b", "c"}}, {0, {"a", "b", "c"}}, {2, {"a", "b", "c"}}, {2, {"a", "b", "c"}}}),
            (std::vector<int>{0, 1, 0, 1}))
      << "buses are a host's own";
  EXPECT_EQ(chosen({{0, {"a", "b"}}, {1, {"a", "b"}}, {0, {"a", "b"}}, {1, {"a", "b"}}}),
            (std::vector<int>{0, 0, 1, 1}))
      << "ranks dealt to the hosts in turn";
}

TEST(GpuChoice, takes_the_one_that_the_launcher_shows) {
  EXPECT_EQ(chosen({{0, {"b"}}, {0, {"a"}}}), (std::vector<int>{0, 0}));
}

TEST(GpuChoice, refuses_more_ranks_than_gpus) {
  EXPECT_EQ(refusal({{0, {"a", "b"}}, {0, {"a", "b"}}, {0, {"a", "b"}}}),
            "3 ranks were started on the host of rank 0, which shows rank 2 2 GPUs; start one rank for each "
            "GPU of a host, and no more");
}

TEST(GpuChoice, refuses_two_ranks_on_one_gpu) {
  EXPECT_EQ(refusal({{0, {"0000:3b:00.0"}}, {0, {"0000:3b:00.0"}}}),
            "ranks 0 and 1 would share one GPU (0000:3b:00.0); start one rank for each GPU of a host, and no "
            "more");
}

// What each of `ranks` ranks of one host ends with, on a machine with so many GPUs.
std::string failures_of(int ranks, int gpus) {
  const StandInGpus machine(gpus);
  LocalJob job(ranks, {});
  return ::toroid::testing::run_rank_threads(ranks, [&](int rank) {
    const auto world = job.world(rank);
    const auto device = gpu_of(*world);
  });
}

TEST(GpuChoice, is_settled_before_any_memory_is_taken) {
  EXPECT_EQ(failures_of(2, 3), "");
  const std::string one = failures_of(2, 1);
  EXPECT_NE(one.find("rank 0: ranks 0 and 1 would share one GPU"), std::string::npos) << one;
  EXPECT_NE(one.find("rank 1: ranks 0 and 1 would share one GPU"), std::string::npos) << one;
  const std::string none = failures_of(1, 0);
  EXPECT_NE(none.find("CUDA sees no GPU here"), std::string::npos) << none;
}

TEST(GpuChoice, ranks_with_other_kernels_of_attention_are_refused) {
  const auto failures = [](const std::vector<std::string>& texts) {
    const auto ranks = static_cast<int>(texts.size());
    LocalJob job(ranks, {});
    return ::toroid::testing::run_rank_threads(
        ranks, [&](int rank) { require_same_attention(*job.world(rank), texts[static_cast<size_t>(rank)]); });
  };
  EXPECT_EQ(failures({"cuDNN 9.19.0", "cuDNN 9.19.0", "cuDNN 9.19.0"}), "");
  const std::string text =
      failures({"cuDNN 9.19.0", "cuDNN 9.19.0", "Toroid's own kernels: libcudnn.so.9 is not found"});
  for (const char* const rank : {"rank 0", "rank 1", "rank 2"}) {
    EXPECT_NE(text.find(std::string(rank) +
                        ": attention of rank 0 goes by cuDNN 9.19.0, and of rank 2 by Toroid's own "
                        "kernels: libcudnn.so.9 is not found; install one version of cuDNN on all hosts"),
              std::string::npos)
        << text;
  }
}

TEST(GpuChoice, a_driver_that_is_missing_or_too_old_is_bad_input) {
  const auto refusal_of = [](int driver) {
    ::toroid::testing::stand_in::Machine machine;
    machine.driver = driver;
    const ::toroid::testing::stand_in::Scope scope(machine);
    try {
      (void)gpu_alone();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_NE(refusal_of(0).find("no NVIDIA driver"), std::string::npos);
  EXPECT_NE(refusal_of(12040).find("serves CUDA up to 12.4"), std::string::npos);
}

}  // namespace
}  // namespace toroid::train
