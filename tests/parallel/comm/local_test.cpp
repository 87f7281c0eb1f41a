// The contract over ranks that are threads: with memory that all can read, and with messages alone.
#include <gtest/gtest.h>

#include <bit>
#include <thread>
#include <vector>

#include "contract.h"
#include "core/device/cpu/cpu_device.h"
#include "tests/core/device/asynchronous_device.h"
#include "tests/parallel/local_world.h"
#include "tests/parallel/schedule/in_turns.h"

namespace toroid {
namespace {

// Runs `work` as each rank of a job. The transfers of a rank end before its world does.
template <class Work>
void run_ranks(LocalJob& job, const Work& work) {
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < job.size(); ++rank) {
    ranks.emplace_back([&job, &work, rank] {
      const auto world = job.world(rank);
      // Those that sleep at once, and those that do not.
      world->transfers()->set_bell(world->bell(), rank % 2 == 0);
      CpuDevice device(std::make_shared<DeviceKernels>(), world->transfers());
      work(*world, device);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

class Ranks : public ::testing::TestWithParam<int> {};

TEST_P(Ranks, FulfilTheContract) {
  LocalJob job(GetParam(), {});
  run_ranks(job, [](World& world, Device& device) { testing::check_all(world, device); });
}

TEST_P(Ranks, FulfilItByCopiesOfEachOthersMemory) {
  LocalJob::Options options;
  options.views = false;
  LocalJob job(GetParam(), options);
  run_ranks(job, [](World& world, Device& device) {
    testing::check_operations(world, device, {});
    if (world.size() > 1 && std::has_single_bit(static_cast<unsigned>(world.size())))
      testing::check_tree(world, device, std::nullopt);
  });
}

TEST_P(Ranks, FulfilItPastTheCaches) {
  if (GetParam() > 4) GTEST_SKIP() << "takes much memory";
  LocalJob job(GetParam(), {});
  run_ranks(job, [](World& world, Device& device) {
    testing::check_streamed(world, device, Method::By::read);
    testing::check_streamed(world, device, Method::By::relay);
  });
}

TEST_P(Ranks, FulfilItHostByHost) {
  const int hosts = GetParam() == 16 ? 4 : 2;
  if (GetParam() / hosts < 2) GTEST_SKIP() << "a host has several ranks";
  for (const bool views : {true, false}) {
    LocalJob::Options options;
    options.hosts = hosts;
    options.views = views;
    LocalJob job(GetParam(), options);
    run_ranks(job, [](World& world, Device& device) {
      const GroupOptions method{false, Method::By::hierarchical};
      testing::check_operations(world, device, method);
      testing::check_bf16_wire(world, device, Method::By::hierarchical);
      testing::check_tree(world, device, Method::By::hierarchical);
      testing::check_beside(world, device);
      testing::check_many_groups(world, device);
    });
  }
}

TEST_P(Ranks, FulfilItByMessagesAlone) {
  LocalJob::Options options;
  options.reads_memory = options.relays = false;
  if (GetParam() % 2 == 0) options.hosts = 2;
  LocalJob job(GetParam(), options);
  run_ranks(job, [](World& world, Device& device) {
    testing::check_operations(world, device, {});
    testing::check_beside(world, device);
    testing::check_many_groups(world, device);
  });
}

TEST_P(Ranks, FulfilItByAnAlgorithmFromOutside) {
  LocalJob job(GetParam(), {});
  run_ranks(job, [](World& world, Device& device) {
    testing::check_operations(world, device, {false, test::in_turns()});
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, Ranks, ::testing::Values(1, 2, 3, 4, 8, 16),
                         ::testing::PrintToStringParamName());

// What went wrong on each rank.
template <class Work>
std::vector<std::string> failures_of(LocalJob& job, const Work& work) {
  std::vector<std::string> failures(static_cast<size_t>(job.size()));
  run_ranks(job, [&](World& world, Device& device) {
    try {
      work(world, device);
    } catch (const PeerError& error) {
      failures[static_cast<size_t>(world.rank())] = error.what();
    }
  });
  return failures;
}

void reduce(Communicator& group, Device& device, int64_t elements, const std::string& tensor) {
  const Array array = device.array(DType::f32, {elements}, "test");
  std::vector<float> values(static_cast<size_t>(elements), 1.0f);
  device.write(array.tensor, std::as_bytes(std::span(values)));
  group.all_reduce(array.tensor, Combine::sum, Wire::exact, {tensor, "test"});
  device.read(array.tensor, std::as_writable_bytes(std::span(values)));
}

std::unique_ptr<Communicator> group_of_four(World& world, Device& device, Method method) {
  GroupOptions options;
  options.method = method;
  return world.group(device, Queue::reduce, "data", {0, 1, 2, 3}, {2, 2}, options);
}

class Faults : public ::testing::TestWithParam<Method> {};

TEST_P(Faults, OneRankThatSkipsACallIsNamed) {
  LocalJob::Options options;
  options.deadline = Seconds(3);
  LocalJob job(4, options);
  const auto failures = failures_of(job, [](World& world, Device& device) {
    const auto group = group_of_four(world, device, GetParam());
    if (world.rank() != 2) reduce(*group, device, 100, "first");
    reduce(*group, device, 100, "second");
  });
  for (const std::string& failure : failures) {
    EXPECT_NE(
        failure.find("mismatched collectives on axis data, sequence number 1: rank 2 issued all_reduce of "
                     "'second'"),
        std::string::npos)
        << failure;
  }
}

TEST_P(Faults, OneRankWithAnotherSizeIsNamed) {
  LocalJob::Options options;
  options.deadline = Seconds(3);
  LocalJob job(4, options);
  const auto failures = failures_of(job, [](World& world, Device& device) {
    const auto group = group_of_four(world, device, GetParam());
    reduce(*group, device, world.rank() == 1 ? 96 : 100, "sizes");
  });
  for (const std::string& failure : failures) {
    EXPECT_NE(failure.find("rank 1 issued all_reduce of 'sizes' (384 bytes)"), std::string::npos) << failure;
  }
}

TEST_P(Faults, OneRankThatDoesNotComeIsNamedAtTheDeadline) {
  LocalJob::Options options;
  options.deadline = Seconds(0.5);
  LocalJob job(4, options);
  const auto failures = failures_of(job, [](World& world, Device& device) {
    world.describe("data " + std::to_string(world.rank()));
    const auto group = group_of_four(world, device, GetParam());
    reduce(*group, device, 100, "first");
    if (world.rank() != 3) reduce(*group, device, 100, "second");
    std::this_thread::sleep_for(Seconds(1));
  });
  for (int rank = 0; rank < 3; ++rank) {
    const std::string& failure = failures[static_cast<size_t>(rank)];
    EXPECT_NE(failure.find("a deadline expired: rank " + std::to_string(rank)), std::string::npos) << failure;
    EXPECT_NE(failure.find("on axis data, sequence number 2"), std::string::npos) << failure;
    EXPECT_NE(failure.find("not arrived: rank 3 (data 3) [has done call 1, all_reduce of 'first'"),
              std::string::npos)
        << failure;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, Faults,
                         ::testing::Values(Method::By::read, Method::By::relay, schedule::Algorithm::ring),
                         [](const auto& method) { return std::string(name(method.param)); });

// Its second transfer goes before its first, or alone.
class OutOfOrder final : public testing::AsynchronousDevice {
 public:
  explicit OutOfOrder(bool left_out)
      : AsynchronousDevice(std::make_shared<DeviceKernels>()), left_out_(left_out) {}

 protected:
  void on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                   const CollectiveInfo& info, Event ticket) override {
    if (++issued_ == 1) {
      first_ = std::move(transfer);
      operands_ = {operands.begin(), operands.end()};
      ticket_ = ticket;
      return;
    }
    if (issued_ == 2) {
      if (left_out_) {
        first_ = std::make_unique<Nothing>();
      } else {
        std::swap(first_, transfer);
      }
      std::vector<Operand> all = operands_;  // of both, so that what they touch is open
      all.insert(all.end(), operands.begin(), operands.end());
      AsynchronousDevice::on_transfer(std::move(first_), all, info, ticket_);
      AsynchronousDevice::on_transfer(std::move(transfer), all, info, ticket);
      return;
    }
    AsynchronousDevice::on_transfer(std::move(transfer), operands, info, ticket);
  }

 private:
  class Nothing final : public Transfer {
    bool advance() override { return true; }
  };
  bool left_out_;
  int issued_ = 0;
  std::unique_ptr<Transfer> first_;
  std::vector<Operand> operands_;
  Event ticket_;
};

// Collectives that are cut into the rounds of a ring.
class FaultsBesideWork : public ::testing::Test {
 protected:
  static std::unique_ptr<Communicator> ring_of_four(World& world, Device& device, Cut cut) {
    GroupOptions options;
    options.cut = cut;
    return world.group(device, Queue::model, "model", {0, 1, 2, 3}, {1, 4}, options);
  }
  static void gather(Communicator& group, Device& device, const std::string& tensor) {
    const Array whole = group.all_gather_beside(device.array(DType::f32, {8, 4}, "test"),
                                                [](const Tensor&, int64_t) {}, {tensor, "test"});
    device.synchronize(device.record(Queue::model), Seconds(60));
  }
  // With a deadline of a second.
  template <class Work>
  static std::vector<std::string> failures_of_four(const Work& work) {
    LocalJob::Options options;
    options.deadline = Seconds(1);
    LocalJob job(4, options);
    return failures_of(job, work);
  }
  // Each rank's failure says `expected`.
  template <class Work>
  static void expect_failures(const std::string& expected, const Work& work) {
    for (const std::string& failure : failures_of_four(work))
      EXPECT_NE(failure.find(expected), std::string::npos) << failure;
  }
};

TEST_F(FaultsBesideWork, ARankThatDoesNotCutIsNamed) {
  expect_failures(
      "sequence number 1: rank 2 issued all_gather of 'input' (512 bytes) where ranks 0, 1, 3 issued "
      "all_gather of "
      "'input, round 1 of 2' (256 bytes)",
      [](World& world, Device& device) {
        const auto group = ring_of_four(world, device, world.rank() == 2 ? Cut::never : Cut::always);
        gather(*group, device, "input");
      });
}

TEST_F(FaultsBesideWork, ARankThatIsOneCollectiveAheadIsNamed) {
  expect_failures("rank 1 issued all_gather of 'second, round 1 of 2'", [](World& world, Device& device) {
    const auto group = ring_of_four(world, device, Cut::always);
    if (world.rank() != 1) gather(*group, device, "first");
    gather(*group, device, "second");
  });
}

// No rank takes the rows of one round for those of another.
TEST_F(FaultsBesideWork, RoundsInAnotherOrderAndRoundsLeftOutEndTheCall) {
  for (const bool left_out : {false, true}) {
    SCOPED_TRACE(left_out);
    const auto failures = failures_of_four([&](World& world, Device& right) {
      OutOfOrder wrong(left_out);
      Device& device = world.rank() == 3 ? wrong : right;
      const auto group = ring_of_four(world, device, Cut::always);
      gather(*group, device, "input");
    });
    for (const std::string& failure : failures) {
      const size_t waited = failure.find("has waited "),
                   where = failure.find(" s in all_gather of 'input, round ");
      ASSERT_NE(waited, std::string::npos) << failure;
      ASSERT_NE(where, std::string::npos) << failure;
      // The deadline, and what a loaded machine adds.
      EXPECT_GE(std::stod(failure.substr(waited + std::string("has waited ").size())), 1.0) << failure;
    }
  }
}

class FaultsElsewhere : public ::testing::TestWithParam<Method> {
 protected:
  static LocalJob::Options two_hosts(Seconds deadline) {
    LocalJob::Options options;
    options.hosts = 2;
    options.side_channel = true;
    options.deadline = deadline;
    return options;
  }
};

TEST_P(FaultsElsewhere, OneRankThatSkipsACallIsNamed) {
  LocalJob job(4, two_hosts(Seconds(1)));
  const auto failures = failures_of(job, [](World& world, Device& device) {
    const auto group = group_of_four(world, device, GetParam());
    if (world.rank() != 2) reduce(*group, device, 100, "first");
    reduce(*group, device, 100, "second");
  });
  for (const int rank : {0, 1}) {
    const std::string& failure = failures[static_cast<size_t>(rank)];
    EXPECT_NE(failure.find("mismatched collectives on axis data, sequence number 1: rank 2 issued all_reduce "
                           "of 'second' (400 bytes) where ranks 0, 1, 3 issued all_reduce of 'first'"),
              std::string::npos)
        << failure;
  }
}

TEST_P(FaultsElsewhere, AHostThatIsOutOfStepIsNamedInTheCallWhereItWas) {
  LocalJob job(6, [] {
    LocalJob::Options options = two_hosts(Seconds(1));
    options.hosts = 3;
    return options;
  }());
  const auto failures = failures_of(job, [](World& world, Device& device) {
    GroupOptions options;
    options.method = GetParam();
    const auto group = world.group(device, Queue::reduce, "data", {0, 1, 2, 3, 4, 5}, {1, 6}, options);
    for (int step = 0; step < 10; ++step) {
      if (step != 2 || world.rank() / 2 != 1) reduce(*group, device, 96, "gradients " + std::to_string(step));
    }
  });
  for (const std::string& failure : failures) {
    EXPECT_NE(
        failure.find("sequence number 3: ranks 2, 3 issued all_reduce of 'gradients 3' (384 bytes) where "
                     "ranks 0, 1, 4, 5 issued all_reduce of 'gradients 2'"),
        std::string::npos)
        << failure;
  }
}

TEST_P(FaultsElsewhere, OneRankWithAnotherSizeIsNamed) {
  LocalJob job(4, two_hosts(Seconds(2)));
  const auto failures = failures_of(job, [](World& world, Device& device) {
    const auto group = group_of_four(world, device, GetParam());
    reduce(*group, device, world.rank() == 3 ? 96 : 100, "sizes");
  });
  for (const std::string& failure : failures) {
    EXPECT_NE(failure.find("rank 3 issued all_reduce of 'sizes' (384 bytes) where "), std::string::npos)
        << failure;
  }
}

TEST_P(FaultsElsewhere, OneRankThatDoesNotComeIsNamedAtTheDeadline) {
  LocalJob job(4, two_hosts(Seconds(0.5)));
  const auto failures = failures_of(job, [](World& world, Device& device) {
    world.describe("data " + std::to_string(world.rank()));
    const auto group = group_of_four(world, device, GetParam());
    reduce(*group, device, 100, "first");
    if (world.rank() != 3) reduce(*group, device, 100, "second");
    std::this_thread::sleep_for(Seconds(1.5));
  });
  for (int rank = 0; rank < 3; ++rank) {
    const std::string& failure = failures[static_cast<size_t>(rank)];
    const std::string where = rank < 2 ? " on host1" : "";
    EXPECT_NE(
        failure.find("not arrived: rank 3 (data 3)" + where + " [has done call 1, all_reduce of 'first'"),
        std::string::npos)
        << failure;
    EXPECT_EQ(failure.find("rank 2 (data 2)", failure.find("not arrived")), std::string::npos) << failure;
  }
}

TEST_P(FaultsElsewhere, AHostThatDoesNotAnswerIsNamed) {
  LocalJob::Options options = two_hosts(Seconds(0.5));
  options.silent_host = 1;
  LocalJob job(4, options);
  const auto failures = failures_of(job, [](World& world, Device& device) {
    const auto group = group_of_four(world, device, GetParam());
    if (world.rank() < 2) reduce(*group, device, 100, "first");
  });
  for (const int rank : {0, 1}) {
    const std::string& failure = failures[static_cast<size_t>(rank)];
    EXPECT_NE(
        failure.find("; host host1 does not answer (nobody listens any more: its first ranks have ended): "
                     "nothing is known of ranks 2, 3"),
        std::string::npos)
        << failure;
    EXPECT_EQ(failure.find("every peer"), std::string::npos) << failure;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, FaultsElsewhere,
                         ::testing::Values(Method::By::hierarchical, schedule::Algorithm::ring),
                         [](const auto& method) { return std::string(name(method.param)); });

constexpr int64_t kMany = int64_t{16} << 20;  // what is read without a table

Method method_of(Communicator& group, schedule::Operation operation, int64_t bytes) {
  return dynamic_cast<ScheduledCommunicator&>(group).method_of(operation, bytes);
}

TEST(Group, TakesTheWayThatWasMeasured) {
  using schedule::Operation;
  const auto world = make_recorded_world(0, 4, false, 2);
  CpuDevice device(std::make_shared<DeviceKernels>());
  GroupOptions options;
  options.choices = {{Operation::all_gather, 4, 4, 1000, Method::By::relay},
                     {Operation::all_gather, 4, 4, 2000, schedule::Algorithm::ring},
                     {Operation::all_gather, 2, 2, 1500, schedule::Algorithm::direct},
                     {Operation::broadcast, 4, 4, 1000, schedule::Algorithm::ring}};
  const auto make = [&](const std::vector<int>& ranks) {
    return world->group(device, Queue::gather, "data", ranks, {1, static_cast<int>(ranks.size())}, options);
  };
  const auto four = make({0, 1, 2, 3}), three = make({0, 1, 2});
  EXPECT_EQ(method_of(*four, Operation::all_gather, 1), Method::By::relay);
  EXPECT_EQ(method_of(*four, Operation::all_gather, 1000), Method::By::relay);
  EXPECT_EQ(method_of(*four, Operation::all_gather, 1001), schedule::Algorithm::ring);
  EXPECT_EQ(method_of(*four, Operation::all_gather, 3000), schedule::Algorithm::ring) << "the largest row";
  EXPECT_EQ(method_of(*four, Operation::all_reduce, kMany), Method::By::read)
      << "the table says nothing of it";
  EXPECT_EQ(method_of(*four, Operation::broadcast, kMany), Method::By::read) << "a ring has no broadcast";
  EXPECT_EQ(method_of(*three, Operation::all_gather, kMany), Method::By::read) << "of other sizes only";
  options.deterministic = true;
  EXPECT_EQ(method_of(*make({0, 1, 2, 3}), Operation::all_gather, kMany), Method::By::read);
  EXPECT_EQ(method_of(*make({0, 1, 2, 3}), Operation::all_gather, kMany / 4), Method::By::relay)
      << "few bytes";
  EXPECT_EQ(method_of(*make({0, 1, 2, 3}), Operation::all_reduce, kMany / 4), Method::By::read)
      << "not as few";
  EXPECT_EQ(method_of(*make({0, 1}), Operation::all_gather, 1), Method::By::read) << "of two ranks";
  options.method = schedule::Algorithm::direct;
  EXPECT_EQ(method_of(*make({0, 1, 2, 3}), Operation::all_gather, 1001), schedule::Algorithm::direct);
}

TEST(Group, RelaysFewBytesWhereRanksShareCores) {
  CpuDevice device(std::make_shared<DeviceKernels>());
  for (const int cores : {1, 3, 4, 16}) {
    const auto world = make_recorded_world(0, 4, false, cores);
    EXPECT_EQ(world->crowded(), cores < 4);
    const auto group = world->group(device, Queue::gather, "data", {0, 1, 2, 3}, {1, 4});
    const Method::By few = cores < 4 ? Method::By::relay : Method::By::read;
    EXPECT_EQ(method_of(*group, schedule::Operation::all_gather, 1000), few) << cores << " cores";
    EXPECT_EQ(method_of(*group, schedule::Operation::all_reduce, 1000), few) << cores << " cores";
    EXPECT_EQ(method_of(*group, schedule::Operation::all_reduce, 1 << 20), Method::By::read);
  }
}

TEST(Group, RelaysWhereItMustNotRead) {
  LocalJob::Options options;
  options.reads_memory = false;
  LocalJob job(2, options);
  run_ranks(job, [](World& world, Device& device) {
    const auto group = world.group(device, Queue::gather, "data", {0, 1}, {1, 2});
    EXPECT_EQ(method_of(*group, schedule::Operation::all_gather, 1 << 20), Method::By::relay);
    testing::check_operations(world, device, {});
  });
}

// A world whose groups are not made of schedules.
class OtherWorld final : public World {
 public:
  OtherWorld() : World(1, 3, {0, 1, 2}) {}
  std::vector<int> asked;
  std::string axis;

 protected:
  std::unique_ptr<Communicator> make_group(Device&, Queue, std::string of,
                                           std::shared_ptr<const GroupState> state, schedule::GroupShape,
                                           const GroupOptions&) override {
    asked = state->members.ranks;
    axis = std::move(of);
    return make_group_of_one();
  }
};

TEST(Group, IsWhatItsWorldMakes) {
  OtherWorld world;
  CpuDevice device(std::make_shared<DeviceKernels>());
  EXPECT_NE(world.group(device, Queue::gather, "data", {0, 1}, {1, 2}), nullptr);
  EXPECT_EQ(world.asked, (std::vector<int>{0, 1}));
  EXPECT_EQ(world.axis, "data");
  EXPECT_NE(world.group(device, Queue::gather, "model", {1}, {1, 1}), nullptr);
  EXPECT_EQ(world.axis, "data") << "of one rank there is nothing to make";
}

TEST(Group, RefusesDeterministicSumsOverThree) {
  const auto world = make_recorded_world(0, 3);
  CpuDevice device(std::make_shared<DeviceKernels>());
  EXPECT_THROW((void)world->group(device, Queue::reduce, "data", {0, 1, 2}, {1, 3}, {true, {}}), UserError);
}

}  // namespace
}  // namespace toroid
