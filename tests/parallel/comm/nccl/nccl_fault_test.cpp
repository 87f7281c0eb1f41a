// What a rank says when another is late, gone, out of step or broken, over NCCL: the same as on the CPU, and
// nothing is left hanging on any GPU.
#include <gtest/gtest.h>

#include <thread>

#include "core/op/elementwise.h"
#include "tests/parallel/comm/nccl/ranks.h"

namespace toroid::testing {
namespace {

void reduce(Communicator& group, Device& device, int64_t elements, const std::string& tensor) {
  const Array array = device.array(DType::f32, {elements}, "test");
  std::vector<float> values(static_cast<size_t>(elements), 1.0f);
  device.write(array.tensor, std::as_bytes(std::span(values)));
  group.all_reduce(array.tensor, Combine::sum, Wire::exact, {tensor, "test"});
  device.read(array.tensor, std::as_writable_bytes(std::span(values)));
}

std::unique_ptr<Communicator> group_of_four(World& world, Device& device, bool deterministic = false) {
  return world.group(device, Queue::reduce, "data", {0, 1, 2, 3}, {1, 4}, {.deterministic = deterministic});
}

NcclJob four(Seconds deadline) {
  NcclJob job{.ranks = 4};
  job.options.deadline = job.nccl_deadline = deadline;
  return job;
}

void expect_lost(const RankFailure& failure, const std::string& part) {
  EXPECT_EQ(failure.code, ExitCode::lost_peer) << failure.text;
  EXPECT_NE(failure.text.find(part), std::string::npos) << failure.text;
}

class NcclFaults : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(NcclScope::alive(), 0) << "communicators are left";
    EXPECT_LT(since_start_.elapsed().count(), 15);
  }
  stand_in::Scope cuda_{machine_of(4)};
  NcclScope nccl_;
  Stopwatch since_start_;
};

TEST_F(NcclFaults, where_there_is_no_library_a_sentence_says_so) {
  nccl_.fail("ncclGetVersion", 1, ncclSystemError);
  NcclJob job{.ranks = 2};
  job.options.deadline = job.nccl_deadline = Seconds(1);
  int told = 0;
  for (const RankFailure& failure : run_on_gpus(job, [](World&, CudaDevice&) {})) {
    if (failure.text.find("its libnccl.so.2 is not found; install NCCL, or set NCCL_HOME") ==
        std::string::npos)
      continue;
    EXPECT_EQ(failure.code, ExitCode::bad_input);
    ++told;
  }
  EXPECT_EQ(told, 1);
}

// Whether sums are NCCL's or ours.
class NcclFaultsOfSums : public NcclFaults, public ::testing::WithParamInterface<bool> {};

TEST_P(NcclFaultsOfSums, a_rank_that_skips_a_call_is_named) {
  const auto failures = run_on_gpus(four(Seconds(3)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device, GetParam());
    if (world.rank() != 2) reduce(*group, device, 100, "first");
    reduce(*group, device, 100, "second");
  });
  for (const RankFailure& failure : failures) {
    expect_lost(
        failure,
        "mismatched collectives on axis data, sequence number 1: rank 2 issued all_reduce of 'second' "
        "(400 bytes) where ranks 0, 1, 3 issued all_reduce of 'first'");
  }
}

TEST_P(NcclFaultsOfSums, a_rank_with_another_size_is_named) {
  const auto failures = run_on_gpus(four(Seconds(3)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device, GetParam());
    reduce(*group, device, world.rank() == 1 ? 96 : 100, "sizes");
  });
  for (const RankFailure& failure : failures)
    expect_lost(failure, "rank 1 issued all_reduce of 'sizes' (384 bytes) where ranks 0, 2, 3");
}

// The same bytes under another name: NCCL would be content.
TEST_P(NcclFaultsOfSums, a_rank_with_another_operation_is_named) {
  const auto failures = run_on_gpus(four(Seconds(3)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device, GetParam());
    reduce(*group, device, 100, world.rank() == 3 ? "weights" : "gradients");
  });
  for (const RankFailure& failure : failures) {
    expect_lost(failure,
                "rank 3 issued all_reduce of 'weights' (400 bytes) where ranks 0, 1, 2 issued "
                "all_reduce of 'gradients'");
  }
}

TEST_F(NcclFaults, a_rank_that_does_not_come_is_named_at_the_deadline) {
  const auto failures = run_on_gpus(four(Seconds(1)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device);
    reduce(*group, device, 100, "first");
    if (world.rank() != 3) reduce(*group, device, 100, "second");
    std::this_thread::sleep_for(Seconds(2.2));
  });
  for (size_t rank = 0; rank < 3; ++rank) {
    expect_lost(failures[rank], "a deadline expired: rank " + std::to_string(rank));
    expect_lost(failures[rank], "in all_reduce of 'second' (400 bytes) on axis data, sequence number ");
    expect_lost(failures[rank], "not arrived: rank 3 (data 3) [has done call ");
  }
}

TEST_F(NcclFaults, an_unplugged_rank_ends_at_the_deadline) {
  const auto failures = run_on_gpus(four(Seconds(1)), [this](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device, true);
    reduce(*group, device, 100, "first");
    if (world.rank() == 1) nccl_.unplug(1);
    reduce(*group, device, 100, "second");
    reduce(*group, device, 100, "third");
  });
  for (const RankFailure& failure : failures) {
    expect_lost(failure, "a deadline expired: rank ");
    expect_lost(failure, "on axis data, sequence number ");
  }
}

TEST_F(NcclFaults, what_nccl_reports_of_a_lost_peer_ends_the_wait) {
  const auto failures = run_on_gpus(four(Seconds(1)), [this](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device);
    reduce(*group, device, 100, "first");
    if (world.rank() == 1) {
      for (int rank = 0; rank < 4; ++rank) nccl_.break_rank(rank, ncclRemoteError);
    }
    reduce(*group, device, 100, "second");
  });
  for (const RankFailure& failure : failures) {
    expect_lost(failure, "NCCL failed in all_reduce of '");
    expect_lost(failure, "ncclRemoteError");
  }
}

INSTANTIATE_TEST_SUITE_P(sums, NcclFaultsOfSums, ::testing::Bool(),
                         [](const auto& deterministic) { return deterministic.param ? "ours" : "nccls"; });

TEST_F(NcclFaults, a_call_that_fails_is_named_and_its_peers_leave) {
  for (const char* const call : {"ncclCommSplit", "ncclAllReduce", "ncclCommInitRankConfig"}) {
    SCOPED_TRACE(call);
    nccl_.fail(call, 2, ncclInternalError);  // of one rank
    const auto failures = run_on_gpus(four(Seconds(0.8)), [](World& world, CudaDevice& device) {
      const auto group = group_of_four(world, device);
      reduce(*group, device, 100, "first");
      std::this_thread::sleep_for(Seconds(1.3));
    });
    size_t named = 0;
    for (const RankFailure& failure : failures) {
      if (failure.code == ExitCode::lost_peer) continue;
      EXPECT_EQ(failure.code, ExitCode::system_error) << failure.text;
      EXPECT_NE(failure.text.find("internal error (ncclInternalError)"), std::string::npos) << failure.text;
      EXPECT_NE(failure.text.find(call == std::string("ncclAllReduce") ? "a collective" : call),
                std::string::npos)
          << failure.text;
      ++named;
    }
    EXPECT_EQ(named, 1u);
  }
}

// A job on a stream that takes a while.
class Busy final : public Transfer {
 public:
  bool put_on(void* stream) override {
    stand_in::enqueue(static_cast<cudaStream_t>(stream), [] { std::this_thread::sleep_for(Seconds(2)); });
    return true;
  }
  bool advance() override { return true; }
};

// The deadline runs while peers are waited for, and not while the stream is still busy before that.
TEST_F(NcclFaults, ranks_that_compute_for_long_are_not_late) {
  const auto failures = run_on_gpus(four(Seconds(1.5)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device);
    const Array array = device.array(DType::f32, {8}, "test");
    const Operand operand{array.tensor, Access::inout};
    device.transfer(std::make_unique<Busy>(), {&operand, 1}, {}, Queue::reduce);
    group->all_reduce(array.tensor, Combine::sum, Wire::exact, {"rows", "test"});
    device.synchronize(device.record(Queue::reduce), Seconds(20));
  });
  for (const RankFailure& failure : failures) EXPECT_EQ(failure.text, "");
}

TEST_F(NcclFaults, a_rank_that_does_not_come_to_the_start_is_named) {
  const auto failures = run_on_gpus(four(Seconds(1)), [](World& world, CudaDevice& device) {
    if (world.rank() == 2) {
      std::this_thread::sleep_for(Seconds(1.8));
      return;
    }
    (void)group_of_four(world, device);
  });
  for (const size_t rank : {0u, 1u, 3u}) {
    expect_lost(failures[rank], "'the start of a group of axis data'");
    expect_lost(failures[rank], "not arrived: rank 2 (data 2)");
  }
}

// Two hosts with two GPUs each, whose first are of the same number.
NcclJob two_hosts(Seconds deadline) {
  NcclJob job = four(deadline);
  job.options.hosts = 2;
  job.options.side_channel = true;
  job.gpu = [](int rank) { return rank % 2; };
  return job;
}

TEST_F(NcclFaults, a_late_rank_of_another_host_is_named) {
  const auto failures = run_on_gpus(two_hosts(Seconds(1)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device);
    reduce(*group, device, 100, "first");
    if (world.rank() != 3) reduce(*group, device, 100, "second");
    std::this_thread::sleep_for(Seconds(2));
  });
  for (const size_t rank : {0u, 1u}) {
    expect_lost(failures[rank],
                "not arrived: rank 3 (data 3) on host1 [has done call 1, all_reduce of 'first'");
  }
  expect_lost(failures[2], "not arrived: rank 3 (data 3) [has done call 1");
}

TEST_F(NcclFaults, a_rank_of_another_host_with_another_size_is_named) {
  const auto failures = run_on_gpus(two_hosts(Seconds(1.2)), [](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device);
    reduce(*group, device, world.rank() == 3 ? 96 : 100, "sizes");
  });
  for (const RankFailure& failure : failures)
    expect_lost(failure, "rank 3 issued all_reduce of 'sizes' (384 bytes) where ");
}

TEST_F(NcclFaults, a_fault_of_the_gpu_is_what_is_said) {
  const auto failures = run_on_gpus(four(Seconds(2)), [this](World& world, CudaDevice& device) {
    const auto group = group_of_four(world, device);
    reduce(*group, device, 100, "first");
    if (world.rank() == 0) {
      cuda_.fail("kernel", 1, cudaErrorIllegalAddress);
      const Array array = device.array(DType::f32, {8}, "test");
      device.launch(op::fill(array.tensor, {1.0}));
    }
    reduce(*group, device, 100, "second");
  });
  EXPECT_EQ(failures[0].code, ExitCode::system_error) << failures[0].text;
  EXPECT_NE(failures[0].text.find("cudaErrorIllegalAddress"), std::string::npos) << failures[0].text;
}

}  // namespace
}  // namespace toroid::testing
