// What the asynchronous device promises, and that it finds what breaks the rules of a device that runs ahead.
#include "tests/core/device/asynchronous_device.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <future>

#include "core/base/error.h"
#include "core/op/elementwise.h"

namespace toroid::testing {
namespace {

using namespace std::chrono_literals;

std::shared_ptr<DeviceKernels> reference() {
  auto kernels = std::make_shared<DeviceKernels>();
  add_reference_kernels(*kernels);
  return kernels;
}

std::vector<float> read(Device& device, const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  device.read(tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

Array vector_of(Device& device, const std::vector<float>& values) {
  Array out = device.array(DType::f32, {static_cast<int64_t>(values.size())}, "test");
  device.write(out.tensor, std::as_bytes(std::span(values)));
  return out;
}

// Ends when it is told to.
class HeldTransfer final : public Transfer {
 public:
  HeldTransfer(std::atomic<bool>& may_end, std::function<void()> work)
      : may_end_(may_end), work_(std::move(work)) {}
  bool advance() override {
    if (!may_end_) return false;
    work_();
    return true;
  }

 private:
  std::atomic<bool>& may_end_;
  std::function<void()> work_;
};

void hold(
    Device& device, Queue queue, const Operand& operand, std::atomic<bool>& may_end,
    std::function<void()> work = [] {}) {
  device.transfer(std::make_unique<HeldTransfer>(may_end, std::move(work)), {&operand, 1}, {}, queue);
}

TEST(AsynchronousDevice, runs_copies_and_reads_in_the_order_of_the_operands) {
  AsynchronousDevice device(reference());
  const Array x = vector_of(device, {1, 2, 3}), y = vector_of(device, {10, 20, 30});
  for (int i = 0; i < 50; ++i) device.launch(op::add(x.tensor, y.tensor));
  device.copy(x.tensor, y.tensor);
  device.launch(op::add(x.tensor, y.tensor));
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{120, 240, 360}));
}

TEST(AsynchronousDevice, issues_while_a_queue_is_held_and_frees_without_waiting) {
  AsynchronousDevice device(reference());
  std::atomic<bool> may_end{false};
  const Array y = vector_of(device, {1});
  Array x = vector_of(device, {5});
  hold(device, Queue::gather, {x.tensor, Access::inout}, may_end);
  device.launch(op::add(x.tensor, y.tensor));  // waits for the transfer, on its queue
  const void* const address = x.owner.block()->address;
  x = Array{};
  // Handed on at once; whoever writes it waits for the launch, and that for the transfer.
  const Array z = vector_of(device, {7});
  EXPECT_EQ(z.owner.block()->address, address);
  EXPECT_THROW(device.synchronize(device.record(Queue::host), Seconds(0.05)), SystemError);
  may_end = true;
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{6}));
  EXPECT_EQ(read(device, z.tensor), (std::vector<float>{7}));
}

TEST(AsynchronousDevice, who_uses_one_part_of_a_block_waits_for_the_users_of_that_part_alone) {
  AsynchronousDevice device(reference());
  std::atomic<bool> may_end{false};
  const Array x = vector_of(device, {1, 2, 3, 4, 5, 6}), y = vector_of(device, {0, 0}),
              z = vector_of(device, {0, 0});
  x.owner.block()->cut(3);
  const auto part = [&](int64_t i) { return x.tensor.slice_rows(2 * i, 2); };
  hold(device, Queue::gather, {part(1), Access::inout}, may_end);
  device.launch(op::add(part(0), y.tensor));
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{1, 2})) << "part 1 is held";
  device.launch(op::add(y.tensor, part(2)));
  EXPECT_EQ(read(device, part(2)), (std::vector<float>{6, 8}));
  device.launch(op::add(part(1), z.tensor));  // and what follows on its queue
  EXPECT_THROW(device.synchronize(device.record(Queue::compute), Seconds(0.05)), SystemError);
  may_end = true;
  EXPECT_EQ(read(device, z.tensor), (std::vector<float>{3, 4}));
  EXPECT_EQ(read(device, x.tensor), (std::vector<float>{1, 2, 3, 4, 6, 8}))
      << "all of it waits for all users";
}

TEST(AsynchronousDevice, times_what_lies_between_events_once_both_have_passed) {
  AsynchronousDevice device(reference());
  std::atomic<bool> may_end{false};
  const Array x = vector_of(device, {1}), y = vector_of(device, {1});
  const Event begin = device.record(Queue::gather);
  hold(device, Queue::gather, {x.tensor, Access::inout}, may_end);
  const Event end = device.record(Queue::gather);
  EXPECT_EQ(device.elapsed(begin, begin).count(), 0) << "which waits until it has passed";
  auto took = std::async(std::launch::async, [&] { return device.elapsed(begin, end); });
  EXPECT_EQ(took.wait_for(20ms), std::future_status::timeout);
  may_end = true;
  EXPECT_GE(took.get().count(), 0.02);
}

// As a library of the device would: all of it is on the queue's stream when it is issued.
class OnStream final : public Transfer {
 public:
  explicit OnStream(const Tensor& tensor) : tensor_(tensor) {}
  bool put_on(void* stream) override {
    static_cast<std::vector<std::function<void()>>*>(stream)->push_back([tensor = tensor_] {
      float value = 0;
      std::memcpy(&value, tensor.data(), sizeof value);
      value *= 10;
      std::memcpy(tensor.data(), &value, sizeof value);
    });
    return true;
  }
  bool advance() override { throw InternalError("what is on a stream is not advanced"); }

 private:
  Tensor tensor_;
};

TEST(AsynchronousDevice, runs_a_transfer_that_is_on_a_stream_in_its_order) {
  AsynchronousDevice device(reference());
  std::atomic<bool> may_end{false};
  const Array x = vector_of(device, {3}), y = vector_of(device, {4});
  const Operand operand{x.tensor, Access::inout};
  hold(device, Queue::gather, operand, may_end);
  device.launch(op::add(y.tensor, x.tensor));  // 7, once the queue is free
  device.transfer(std::make_unique<OnStream>(x.tensor), {&operand, 1}, {}, Queue::reduce);
  device.launch(op::add(y.tensor, x.tensor));
  may_end = true;
  EXPECT_EQ(read(device, x.tensor), (std::vector<float>{74}));
}

TEST(AsynchronousDevice, an_entry_that_fails_is_thrown_to_whoever_waits) {
  AsynchronousDevice device(reference());
  std::atomic<bool> may_end{true};
  const Array x = vector_of(device, {1});
  hold(device, Queue::gather, {x.tensor, Access::inout}, may_end,
       [] { throw SystemError("a peer is gone"); });
  EXPECT_THROW((void)read(device, x.tensor), SystemError);
}

TEST(AsynchronousDevice, what_is_not_written_and_what_is_freed_is_not_a_number) {
  AsynchronousDevice device(reference());
  Array x = device.array(DType::f32, {3}, "test");
  for (const float value : read(device, x.tensor)) EXPECT_TRUE(std::isnan(value));
  // A transport that reads what it has not declared, or for longer than it said.
  x = vector_of(device, {1, 2, 3});
  EXPECT_EQ(read(device, x.tensor)[2], 3);
  Block kept = *x.owner.block();
  Tensor stale = x.tensor;
  stale.block = &kept;
  x = Array{};
  for (const float value : read(device, stale)) EXPECT_TRUE(std::isnan(value));
}

// Fills its workspace, waits, and adds it up: another kernel's numbers in between are found.
int64_t scratch_bytes(const Call&, const LaunchContext&) {
  return 4096;
}
void careful(const Call& call, const LaunchContext& context) {
  auto* const words = reinterpret_cast<float*>(context.workspace);
  const auto value = static_cast<float>(call.get<op::FillSpec>().value);
  std::fill_n(words, 1024, value);
  std::this_thread::sleep_for(3ms);
  float sum = 0;
  for (int i = 0; i < 1024; ++i) sum += words[i];
  *call[0].as<float>() = sum / 1024;
}

TEST(AsynchronousDevice, workspace_is_handed_on_when_the_kernel_is_over) {
  auto kernels = reference();
  kernels->add(op::fill_kind, {careful, scratch_bytes});
  AsynchronousDevice device(kernels);
  std::vector<Array> out;
  for (int i = 0; i < 8; ++i) out.push_back(device.array(DType::f32, {1}, "test"));
  // Two queues take turns at the one piece of memory that is left by the launch before.
  for (int i = 0; i < 8; ++i) {
    device.launch(op::fill(out[static_cast<size_t>(i)].tensor, {static_cast<double>(i)}),
                  i % 2 == 0 ? Queue::compute : Queue::model);
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(read(device, out[static_cast<size_t>(i)].tensor)[0], static_cast<float>(i));
  }
}

TEST(AsynchronousDevice, memory_that_is_short_names_its_holders) {
  AsynchronousDevice::Options options;
  options.bytes = 1 << 20;
  AsynchronousDevice device(reference(), options);
  const Buffer held = device.allocate(1 << 19, "weights");
  try {
    const Buffer more = device.allocate(1 << 20, "gradients");
    FAIL();
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("weights"), std::string::npos) << error.what();
  }
}

#if !defined(__SANITIZE_THREAD__)  // which finds the missing wait too, and ends the program
// The n-th of its waits is left out.
class WithoutAWait final : public AsynchronousDevice {
 public:
  WithoutAWait(std::shared_ptr<const DeviceKernels> kernels, int left_out)
      : AsynchronousDevice(std::move(kernels)), left_out_(left_out) {}
  int waits() const { return waits_; }

 protected:
  void on_wait(Queue queue, Event event) override {
    if (waits_++ != left_out_) AsynchronousDevice::on_wait(queue, event);
  }

 private:
  int left_out_, waits_ = 0;
};

// A sum whose operands come from another queue that takes its time.
float sum_without(int left_out, int& waits) {
  WithoutAWait device(reference(), left_out);
  std::atomic<bool> may_end{false};
  const Array x = vector_of(device, {2}), y = vector_of(device, {3});
  (void)read(device, y.tensor);
  hold(device, Queue::gather, {x.tensor, Access::inout}, may_end,
       [at = x.tensor.data()] { *reinterpret_cast<float*>(at) = 40; });
  device.launch(op::add(x.tensor, y.tensor));
  std::this_thread::sleep_for(20ms);
  may_end = true;
  device.synchronize(device.record(Queue::gather), Seconds(5));
  const float sum = read(device, y.tensor)[0];
  waits = device.waits();
  return sum;
}

TEST(AsynchronousDevice, finds_that_a_wait_is_missing) {
  int waits = 0, wrong = 0;
  EXPECT_EQ(sum_without(-1, waits), 43);
  for (int left_out = 0; left_out < waits; ++left_out) {
    int ignored = 0;
    if (sum_without(left_out, ignored) != 43) ++wrong;
  }
  EXPECT_GE(wrong, 1) << "of " << waits << " waits";
}

TEST(AsynchronousDeviceDeath, the_host_cannot_touch_its_memory) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto touch = [](bool write) {
    AsynchronousDevice device(reference());
    const Array x = vector_of(device, {1});
    (void)read(device, x.tensor);
    if (write) *x.tensor.as<float>() = 2;
    volatile float value = *x.tensor.as<float>();
    (void)value;
  };
  EXPECT_DEATH(touch(false), "");
  EXPECT_DEATH(touch(true), "");
}
#endif

}  // namespace
}  // namespace toroid::testing
