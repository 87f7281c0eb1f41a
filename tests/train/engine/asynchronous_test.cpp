// The program on a device that runs ahead (tests/core/device/asynchronous_device.h): the same bits as on one
// that has finished when a call returns, on one rank and on several, through a checkpoint and back; and what
// happens where one of its waits is left out.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/core/device/asynchronous_device.h"
#include "tests/train/certify/local_layout.h"
#include "tests/train/loop/runs.h"

namespace toroid::train {
namespace {

using ::toroid::testing::AsynchronousDevice;

// The CPU's kernels, so that only the device is another one.
std::shared_ptr<const DeviceKernels> fast_kernels() {
  return Plugins().cpu().kernels(1, cpu::fastest_products());
}

class RunsAhead : public ::testing::TestWithParam<const char*> {};

TEST_P(RunsAhead, givesTheBitsOfOneRank) {
  const config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  const LayoutRun one = run_locally(run, parse_layouts("1x1")[0]);
  const LayoutRun ahead = run_locally(run, parse_layouts(GetParam())[0], {}, [](World& world) {
    AsynchronousDevice::Options options;
    options.seed = static_cast<uint64_t>(world.rank()) + 1;
    return std::make_unique<AsynchronousDevice>(fast_kernels(), options);
  });
  const Verdict verdict = compare_bits(one, ahead);
  EXPECT_TRUE(verdict.passed) << ::testing::PrintToString(verdict.findings);
}

INSTANTIATE_TEST_SUITE_P(Layouts, RunsAhead,
                         ::testing::Values("1x1", "2x1 zero 3", "2x1 zero 0", "model 2 of 2x2 zero 3",
                                           "pods 2 of 1x2 zero 1"),
                         [](const auto& layout) {
                           std::string name = layout.param;
                           for (char& c : name) c = c == ' ' ? '_' : c;
                           return name;
                         });

// Collectives of the model axis round by round beside products, in fast mode: the bits of ranks on the CPU,
// which have finished when a call returns, with the same kernels.
TEST(RunsAhead, givesTheBitsOfTheCpuRoundByRound) {
  for (const std::string gathered : {"false", "true"}) {
    SCOPED_TRACE(gathered);
    const config::RunConfig run = small_config(
        "heads: 4 kv_heads: 1", {"train.deterministic=false", "mesh.overlap=ALWAYS", "mesh.model_wire=BF16",
                                 "train.remat=FULL", "train.keep_gathered=" + gathered});
    for (const char* const text : {"model 2 of 2x1", "model 4 of 4x1"}) {
      const Layout layout = parse_layouts(text)[0];
      const Verdict verdict = compare_bits(run_locally(run, layout), run_locally(run, layout, {}, [](World&) {
                                             return std::make_unique<AsynchronousDevice>(fast_kernels());
                                           }));
      EXPECT_TRUE(verdict.passed) << text << ::testing::PrintToString(verdict.findings);
    }
  }
}

// What a peer sends comes late.
class LateTransfer final : public Transfer {
 public:
  explicit LateTransfer(std::unique_ptr<Transfer> inner) : inner_(std::move(inner)) {}
  bool advance() override {
    if (!begun_) idle_.restart();
    begun_ = true;
    return idle_.elapsed() > Seconds(2e-3) && inner_->advance();
  }

 private:
  std::unique_ptr<Transfer> inner_;
  bool begun_ = false;
  Stopwatch idle_;
};

// One of the waits of its compute queue for `of` is left out: of those, number `left_out`. Collectives there
// are late enough for that to matter.
class WithoutAWait final : public AsynchronousDevice {
 public:
  WithoutAWait(Queue of, int left_out) : AsynchronousDevice(fast_kernels()), of_(of), left_out_(left_out) {}

 protected:
  void on_wait(Queue queue, Event event) override {
    if (queue == Queue::compute && event.queue == of_ && waits_++ == left_out_) return;
    AsynchronousDevice::on_wait(queue, event);
  }
  void on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                   const CollectiveInfo& info, Event ticket) override {
    if (ticket.queue == of_) transfer = std::make_unique<LateTransfer>(std::move(transfer));
    AsynchronousDevice::on_transfer(std::move(transfer), operands, info, ticket);
  }

 private:
  Queue of_;
  int left_out_, waits_ = 0;
};

#if !defined(__SANITIZE_THREAD__)
TEST(RunsAhead, aWaitThatIsLeftOutIsFound) {
  const config::RunConfig run = small_config("heads: 4 kv_heads: 2", {"zero.stage=3"});
  const LayoutRun one = run_locally(run, parse_layouts("1x1")[0]);
  // Ranks that do not agree with each other have found it too.
  const auto same_without = [&](Queue of, int left_out) {
    try {
      return compare_bits(one, run_locally(run, parse_layouts("2x1")[0], {},
                                           [&](World& world) -> std::unique_ptr<Device> {
                                             if (world.rank() > 0)
                                               return std::make_unique<AsynchronousDevice>(fast_kernels());
                                             return std::make_unique<WithoutAWait>(of, left_out);
                                           }))
          .passed;
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find("has the loss"), std::string::npos) << error.what();
      return false;
    }
  };
  for (const Queue of : {Queue::gather, Queue::reduce}) {
    EXPECT_TRUE(same_without(of, -1)) << "all waits are there, and collectives are late";
    // Some come so late that what they wait for is over by chance: not each is found in each run.
    constexpr int kLeftOut = 12;
    int found = 0;
    for (int left_out = 0; left_out < kLeftOut; left_out++) found += !same_without(of, left_out);
    EXPECT_GE(found, kLeftOut / 2) << "of the first waits for queue " << static_cast<int>(of);
  }
}
#endif

class ResumesAhead : public RunsTest {
 protected:
  static Plugins ahead() {
    Plugins plugins;
    plugins.devices["CPU"].make = [](std::shared_ptr<const DeviceKernels> kernels, World*) {
      return std::make_unique<AsynchronousDevice>(std::move(kernels));
    };
    return plugins;
  }
};

TEST_F(ResumesAhead, aRunAndItsResumptionGiveTheBitsOfTheCpu) {
  const std::vector<std::string> sets{"train.threads=1"};
  ASSERT_EQ(run(options("cpu", sets)), ExitCode::done);
  ASSERT_EQ(run(options("whole", sets), ahead()), ExitCode::done);
  EXPECT_EQ(metrics("whole"), metrics("cpu"));
  EXPECT_EQ(hashes("whole"), hashes("cpu"));
  TrainOptions rest = options("rest", sets);
  rest.resume = root_ / "whole" / "checkpoints" / "step-4";
  ASSERT_EQ(run(rest, ahead()), ExitCode::done);
  EXPECT_EQ(hashes("rest"), hashes("cpu"));
}

}  // namespace
}  // namespace toroid::train
