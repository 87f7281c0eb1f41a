// Groups over NCCL beside their contract: whose order sums have, what is recorded, what ranks must have.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>

#include "core/base/random.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/sim/recording_device.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "tests/parallel/comm/nccl/ranks.h"
#include "tests/parallel/rank_threads.h"

namespace toroid::testing {
namespace {

std::vector<int> all_of(const World& world) {
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

std::unique_ptr<Communicator> group_of(World& world, Device& device, const GroupOptions& options) {
  return world.group(device, Queue::reduce, "data", all_of(world), {1, world.size()}, options);
}

std::vector<float> values_of(int rank, int64_t elements) {
  std::vector<float> out(static_cast<size_t>(elements));
  const RandomKey key = random_key(11, Purpose::synthetic, "nccl", static_cast<uint64_t>(rank));
  for (size_t i = 0; i < out.size(); ++i) out[i] = normal(key, i);
  // Zeros of either sign, and numbers far apart.
  for (size_t i = 0; i < out.size(); i += 5) out[i] = rank % 2 == 0 ? -0.0f : out[i] * 1e20f;
  if (out.size() > 3) out[3] = -0.0f;
  return out;
}

Array filled(Device& device, const std::vector<float>& values) {
  Array out = device.array(DType::f32, {static_cast<int64_t>(values.size())}, "test");
  device.write(out.tensor, std::as_bytes(std::span(values)));
  return out;
}

std::vector<uint32_t> bits_of(Device& device, const Tensor& tensor) {
  std::vector<uint32_t> out(static_cast<size_t>(tensor.elements()));
  device.read(tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

using Bits = std::map<std::string, std::vector<uint32_t>>;

// Sums of many kinds, as one rank has them.
Bits sums_on(World& world, Device& device, const GroupOptions& options) {
  const auto group = group_of(world, device, options);
  Bits out;
  // Few bytes and many, with parts that are empty, odd and not alike.
  for (const int64_t n : {1, 3, 1001, 40'009}) {
    const Array array = filled(device, values_of(world.rank(), n));
    group->all_reduce(array.tensor, Combine::sum, Wire::exact, {"all_reduce", "test"});
    out["all_reduce " + std::to_string(n)] = bits_of(device, array.tensor);
  }
  for (const int64_t rows : {1, 77, 10'001}) {
    const Array scattered =
        group->reduce_scatter(filled(device, values_of(world.rank(), rows * world.size())), Wire::exact,
                              {"reduce_scatter", "test"});
    out["reduce_scatter " + std::to_string(rows)] = bits_of(device, scattered.tensor);
  }
  return out;
}

// By rank.
std::vector<Bits> on_gpus(int ranks, const GroupOptions& options) {
  std::vector<Bits> out(static_cast<size_t>(ranks));
  run_well_on_gpus({.ranks = ranks}, [&](World& world, CudaDevice& device) {
    out[static_cast<size_t>(world.rank())] = sums_on(world, device, options);
  });
  return out;
}

std::vector<Bits> on_cpus(int ranks, const GroupOptions& options) {
  std::vector<Bits> out(static_cast<size_t>(ranks));
  LocalJob job(ranks, {});
  const std::string failures = run_rank_threads(ranks, [&](int rank) {
    const auto world = job.world(rank);
    CpuDevice device(std::make_shared<DeviceKernels>(), world->transfers());
    out[static_cast<size_t>(rank)] = sums_on(*world, device, options);
  });
  EXPECT_EQ(failures, "");
  return out;
}

class NcclSums : public ::testing::TestWithParam<int> {};

TEST_P(NcclSums, in_deterministic_mode_are_the_cpus_bit_for_bit) {
  stand_in::Scope cuda(machine_of(GetParam()));
  cuda.delay(100, 1);
  NcclScope nccl;
  nccl.delay(100, 1);
  const GroupOptions options{.deterministic = true};
  const std::vector<Bits> gpus = on_gpus(GetParam(), options), cpus = on_cpus(GetParam(), options);
  for (size_t rank = 0; rank < cpus.size(); ++rank) {
    for (const auto& [what, bits] : cpus[rank]) EXPECT_EQ(gpus[rank].at(what), bits) << what << ", " << rank;
  }
}

TEST_P(NcclSums, in_order_are_the_cpus_bit_for_bit) {
  stand_in::Scope cuda(machine_of(GetParam()));
  NcclScope nccl;
  GroupOptions options;
  options.sums_in_order = true;
  const std::vector<Bits> gpus = on_gpus(GetParam(), options), cpus = on_cpus(GetParam(), options);
  for (size_t rank = 0; rank < cpus.size(); ++rank) {
    for (const auto& [what, bits] : cpus[rank]) EXPECT_EQ(gpus[rank].at(what), bits) << what << ", " << rank;
  }
}

INSTANTIATE_TEST_SUITE_P(sizes, NcclSums, ::testing::Values(2, 4, 8), ::testing::PrintToStringParamName());

TEST(Nccl, has_an_order_of_its_own_in_fast_mode_and_the_same_bits_twice) {
  stand_in::Scope cuda(machine_of(4));
  NcclScope nccl;
  const std::vector<Bits> first = on_gpus(4, {}), tree = on_gpus(4, {.deterministic = true});
  nccl.delay(200, 5);
  cuda.delay(200, 5);
  EXPECT_EQ(on_gpus(4, {}), first);
  EXPECT_NE(first, tree) << "or the tests above would show nothing";
}

// A bf16 wire adds up, in the ranks' order and in fp32, what each has rounded once.
TEST(Nccl, a_bf16_wire_rounds_each_summand_once) {
  stand_in::Scope cuda(machine_of(4));
  NcclScope nccl;
  const int64_t rows = 501;
  run_well_on_gpus({.ranks = 4}, [&](World& world, CudaDevice& device) {
    const auto group = group_of(world, device, {});
    const Array sum = group->reduce_scatter(filled(device, values_of(world.rank(), rows * world.size())),
                                            Wire::bf16, {"gradients", "test"});
    const std::vector<uint32_t> got = bits_of(device, sum.tensor);
    std::vector<std::vector<float>> all;
    for (int rank = 0; rank < world.size(); ++rank) all.push_back(values_of(rank, rows * world.size()));
    for (size_t i = 0; i < got.size(); ++i) {
      float expected = 0;
      for (const auto& values : all)
        expected += from_bf16(to_bf16(values[i + static_cast<size_t>(world.rank() * rows)]));
      ASSERT_EQ(got[i], std::bit_cast<uint32_t>(expected)) << i;
    }
  });
}

TEST(Nccl, sums_bf16_arrays_in_deterministic_mode_with_one_rounding) {
  stand_in::Scope cuda(machine_of(4));
  NcclScope nccl;
  for (const int64_t rows : {5, 30'011}) {  // few bytes and many
    run_well_on_gpus({.ranks = 4}, [&](World& world, CudaDevice& device) {
      const auto group = group_of(world, device, {.deterministic = true});
      const auto at = [&](int rank, size_t i) {
        return to_bf16(0.37f * static_cast<float>(rank + 1) + static_cast<float>(i % 97));
      };
      std::vector<uint16_t> values(static_cast<size_t>(rows));
      for (size_t i = 0; i < values.size(); ++i) values[i] = at(world.rank(), i);
      const Array array = device.array(DType::bf16, {rows}, "test");
      device.write(array.tensor, std::as_bytes(std::span(values)));
      group->all_reduce(array.tensor, Combine::sum, Wire::exact, {"rows", "test"});
      device.read(array.tensor, std::as_writable_bytes(std::span(values)));
      const auto of = [&](int rank, size_t i) { return from_bf16(at(rank, i)); };
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(values[i], to_bf16((of(0, i) + of(1, i)) + (of(2, i) + of(3, i)))) << i;
    });
  }
}

// What a program issues: every operation, both modes, work beside.
void issue_all(World& world, Device& device) {
  for (const bool deterministic : {false, true}) {
    GroupOptions options;
    options.deterministic = deterministic;
    options.cut = Cut::by_rule;
    const auto group = world.group(device, Queue::model, "model", all_of(world), {1, world.size()}, options);
    const auto array = [&](int64_t rows) { return device.array(DType::f32, {rows, 3}, "test"); };
    const CollectiveLabel label{"all", "result", Phase::backward};
    (void)group->all_gather(array(5), label);
    for (const Wire wire : {Wire::exact, Wire::bf16}) {
      (void)group->reduce_scatter(array(8), wire, label);
      for (const int64_t rows : {2, 9000}) group->all_reduce(array(rows).tensor, Combine::sum, wire, label);
      (void)group->reduce_scatter_beside(
          array(400), wire, [](const Tensor&, int64_t) {}, label);
    }
    (void)group->all_gather_beside(
        array(100), [](const Tensor&, int64_t) {}, label);
    group->broadcast(array(2).tensor, 1, label);
    group->all_to_all(array(8).tensor, array(8).tensor, label);
    const Event end = group->barrier(label);
    device.synchronize(end, Seconds(30));
  }
}

std::vector<std::string> text_of(const std::vector<Record>& records) {
  std::vector<std::string> out;
  for (const Record& record : records) {
    const CollectiveInfo info = record.info == nullptr ? CollectiveInfo{} : *record.info;
    out.push_back(std::to_string(static_cast<int>(record.kind)) + " " + std::string(record.op) + " " +
                  info.operation + " " + info.tensor + " " + info.method + " " +
                  std::to_string(record.bytes) + " " + std::to_string(info.wire_bytes) + " on " +
                  std::to_string(static_cast<int>(record.queue)));
  }
  return out;
}

TEST(Nccl, a_dry_run_records_what_a_gpu_is_given) {
  stand_in::Scope cuda(machine_of(4));
  NcclScope nccl;
  std::mutex mutex;
  std::vector<std::string> issued;
  int64_t peak = 0;
  run_well_on_gpus({.ranks = 4}, [&](World& world, CudaDevice& device) {
    RecordingDevice recorder(device);
    issue_all(world, recorder);
    if (world.rank() != 0) return;
    const std::lock_guard lock(mutex);
    issued = text_of(recorder.records());
    peak = recorder.statistics().bytes_peak;
  });
  const auto world = make_recorded_world(0, 4);
  world->carry_out_by(make_recorded_nccl_groups());
  RecordingDevice dry(make_cuda_kernels());
  issue_all(*world, dry);
  EXPECT_EQ(text_of(dry.records()), issued);
  EXPECT_EQ(dry.statistics().bytes_peak, peak);
  EXPECT_GT(issued.size(), 50u);
}

TEST(Nccl, makes_the_devices_memory_known_once_for_every_group) {
  stand_in::Scope cuda(machine_of(2));
  NcclScope nccl;
  run_well_on_gpus({.ranks = 2}, [&](World& world, CudaDevice& device) {
    const auto gather = group_of(world, device, {}), reduce = group_of(world, device, {});
    device.synchronize(gather->barrier({"end", "test"}), Seconds(30));
    device.synchronize(reduce->barrier({"end", "test"}), Seconds(30));
  });
  EXPECT_EQ(nccl.registered(static_cast<size_t>(kGpuBytes)), 4) << "two ranks with two groups";
}

TEST(Nccl, leaves_most_multiprocessors_to_the_step) {
  stand_in::Scope cuda(machine_of(2));
  NcclScope nccl;
  run_well_on_gpus({.ranks = 2}, [&](World& world, CudaDevice& device) {
    const auto group = group_of(world, device, {});
    device.synchronize(group->barrier({"end", "test"}), Seconds(30));
  });
  EXPECT_EQ(nccl.most_multiprocessors(), std::set<int>{16}) << "of every communicator";
}

TEST(Nccl, goes_on_where_memory_cannot_be_made_known) {
  stand_in::Scope cuda(machine_of(2));
  NcclScope nccl;
  nccl.fail("ncclCommRegister", 1, ncclInvalidUsage);
  run_well_on_gpus({.ranks = 2}, [&](World& world, CudaDevice& device) {
    const auto group = group_of(world, device, {});
    device.synchronize(group->barrier({"end", "test"}), Seconds(30));
  });
}

TEST(Nccl, counts_what_leaves_a_rank) {
  stand_in::Scope cuda(machine_of(2));
  NcclScope nccl;
  run_well_on_gpus({.ranks = 2}, [&](World& world, CudaDevice& device) {
    const auto group = group_of(world, device, {});
    const auto peer = static_cast<size_t>(1 - world.rank());
    const int64_t before = world.traffic().sent_bytes[peer];
    (void)group->all_gather(device.array(DType::f32, {100}, "test"), {"weights", "test"});
    EXPECT_EQ(world.traffic().sent_bytes[peer] - before, 400);
    (void)group->reduce_scatter(device.array(DType::f32, {100}, "test"), Wire::bf16, {"gradients", "test"});
    EXPECT_EQ(world.traffic().sent_bytes[peer] - before, 400 + 100);
    device.synchronize(device.record(Queue::reduce), Seconds(30));
  });
}

TEST(Nccl, refuses_two_ranks_on_one_gpu) {
  stand_in::Scope cuda(machine_of(4));
  NcclScope nccl;
  const NcclJob job{.ranks = 3, .gpu = [](int rank) { return rank == 2 ? 0 : rank; }};
  for (const RankFailure& failure : run_on_gpus(job, [](World&, CudaDevice&) { FAIL(); })) {
    EXPECT_EQ(failure.code, ExitCode::bad_input);
    EXPECT_EQ(failure.text,
              "ranks 0 and 2 use one GPU (0000:10:00.0), and NCCL wants one a rank; start no more ranks on a "
              "host than it has GPUs");
  }
}

TEST(Nccl, refuses_deterministic_sums_over_three) {
  stand_in::Scope cuda(machine_of(3));
  NcclScope nccl;
  const auto failures = run_on_gpus({.ranks = 3}, [](World& world, CudaDevice& device) {
    (void)group_of(world, device, {.deterministic = true});
  });
  for (const RankFailure& failure : failures) EXPECT_EQ(failure.code, ExitCode::bad_input) << failure.text;
}

}  // namespace
}  // namespace toroid::testing
