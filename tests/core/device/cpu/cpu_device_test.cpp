// Memory, copies and events of the CPU device.
#include "core/device/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/device/cpu/host_info.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/elementwise.h"

namespace toroid {
namespace {

std::shared_ptr<const DeviceKernels> kernels() {
  auto made = std::make_shared<DeviceKernels>();
  cpu::add_vector_kernels(*made);
  made->traits.threads = 2;
  return made;
}

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__)
    true;
#else
    false;
#endif

TEST(CachingAllocator, AlignsAndReusesWhatFits) {
  if (kSanitized) GTEST_SKIP() << "freed memory is not kept under a sanitizer";
  cpu::CachingAllocator allocator;
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{70000}, int64_t{9} << 20}) {
    void* const first = allocator.allocate(bytes);
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
    std::memset(first, 1, static_cast<size_t>(bytes));
    allocator.free(first);
    EXPECT_EQ(allocator.allocate(bytes), first);
    allocator.free(first);
  }
  EXPECT_EQ(allocator.live_bytes(), 0);
  EXPECT_GT(allocator.cached_bytes(), 0);
  allocator.trim();
  EXPECT_EQ(allocator.cached_bytes(), 0);
}

TEST(CachingAllocator, DoesNotWasteALargeBlockOnASmallRequest) {
  if (kSanitized) GTEST_SKIP() << "freed memory is not kept under a sanitizer";
  cpu::CachingAllocator allocator;
  void* const large = allocator.allocate(10 << 20);
  allocator.free(large);
  void* const near = allocator.allocate(9 << 20);
  EXPECT_EQ(near, large);  // 11 % more than asked for
  allocator.free(near);
  void* const small = allocator.allocate(8 << 20);
  EXPECT_NE(small, large);  // 25 %
  allocator.free(small);
}

TEST(CachingAllocator, KeepsNoMoreThanThePeakNeeded) {
  if (kSanitized) GTEST_SKIP() << "freed memory is not kept under a sanitizer";
  cpu::CachingAllocator allocator;
  constexpr int64_t kMiB = 1 << 20;
  // Each round's size fits no earlier block, yet what is held stays near one round's need.
  for (int64_t size = 8; size <= 64; size += 8) {
    std::vector<void*> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(allocator.allocate(size * kMiB));
    EXPECT_LE(allocator.live_bytes() + allocator.cached_bytes(), 4 * size * kMiB * 34 / 32);
    for (void* block : blocks) allocator.free(block);
  }
}

TEST(CpuDevice, RunsCopiesAndReads) {
  CpuDevice device(kernels());
  const Array x = device.array(DType::f32, {3, 1000}, "test"),
              y = device.array(DType::f32, {3, 1000}, "test");
  device.launch(op::fill(x.tensor, {2.5}));
  device.copy(y.tensor, x.tensor);
  std::vector<float> values(3000);
  device.read(y.tensor, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, std::vector<float>(3000, 2.5f));
  values.assign(3000, -1.0f);
  device.write(x.tensor, std::as_bytes(std::span(values)));
  device.launch(op::add(x.tensor, y.tensor));
  device.read(y.tensor, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, std::vector<float>(3000, 1.5f));
}

TEST(CpuDevice, TimesWhatLiesBetweenEvents) {
  CpuDevice device(kernels());
  const Array x = device.array(DType::f32, {1 << 20}, "test");
  const Event before = device.record(Queue::compute);
  device.launch(op::fill(x.tensor, {1}));
  const Event after = device.record(Queue::compute);
  device.synchronize(after, Seconds(1));
  EXPECT_GT(device.elapsed(before, after).count(), 0);
  EXPECT_LT(device.elapsed(before, after).count(), 10);
  EXPECT_THROW(device.elapsed(before, Event{Queue::gather, 99, 99}), InternalError);
  // Events with nothing between them keep times of their own.
  const Seconds first = device.elapsed(before, after);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_GE(device.elapsed(after, device.record(Queue::compute)).count(), 0.002);
  EXPECT_EQ(device.elapsed(before, after), first);
}

// Keeps what it is told.
class Notebook final : public Observer {
 public:
  Report run(const Call& call, Queue queue) override { return add(std::string(call.kind->name), queue); }
  Report copy(const Tensor& to, Queue queue) override { return add("copy of " + to.text(), queue); }
  Report wait(Queue on) override {
    EXPECT_EQ(on, Queue::reduce);
    return add("wait", Queue::compute);
  }
  Report transfer(const CollectiveInfo& info, Queue queue) override {
    EXPECT_EQ(queue, Queue::reduce);
    return [this, text = info.operation + " " + info.tensor](Span span) {
      EXPECT_LE(span.begin, span.end);
      collectives.push_back(text);
    };
  }
  std::vector<std::string> calls, collectives;

 private:
  Report add(const std::string& text, Queue queue) {
    EXPECT_EQ(queue, Queue::compute);
    return [this, text](Span span) {
      EXPECT_LE(end_, span.begin);
      EXPECT_LE(span.begin, span.end);
      end_ = span.end;
      calls.push_back(text);
    };
  }
  std::chrono::steady_clock::time_point end_;
};

// Done once it has been told so, and some looks later.
class LateTransfer final : public Transfer {
 public:
  explicit LateTransfer(const std::atomic<bool>& told) : told_(told) {}
  bool advance() override { return told_ && ++looks_ > 20; }

 private:
  const std::atomic<bool>& told_;
  int looks_ = 0;
};

TEST(CpuDevice, TellsItsObserverWhatItDoes) {
  const auto told_to = std::make_shared<Notebook>();
  Notebook& notebook = *told_to;
  CpuDevice device(kernels(), std::make_shared<cpu::TransferThread>());
  const Array x = device.array(DType::f32, {3, 1000}, "test"),
              y = device.array(DType::f32, {3, 1000}, "test");
  std::atomic<bool> told = false;
  const auto use = [&] {
    told = false;
    device.launch(op::fill(x.tensor, {2.5}));
    device.copy(y.tensor, x.tensor);
    CollectiveInfo info;
    info.operation = "all_reduce";
    info.tensor = "y";
    const std::array<Operand, 1> operands{Operand{y.tensor, Access::inout}};
    device.transfer(std::make_unique<LateTransfer>(told), operands, info, Queue::reduce);
    told = true;
    device.launch(op::add(x.tensor, y.tensor));
  };
  use();
  device.observe(told_to);
  // The transfer may be through before it is waited for, though hardly every time.
  const std::vector<std::string> waited{"fill", "copy of f32[3, 1000]", "wait", "add"};
  size_t rounds = 0;
  while (notebook.calls != waited && rounds < 100) {
    notebook.calls.clear();
    use();
    ++rounds;
  }
  EXPECT_EQ(notebook.calls, waited);
  EXPECT_EQ(notebook.collectives, std::vector<std::string>(rounds, "all_reduce y"));
  device.observe(nullptr);
  use();
  EXPECT_EQ(notebook.calls, waited);
  EXPECT_EQ(notebook.collectives.size(), rounds);
}

TEST(CpuDevice, RefusesMoreMemoryThanThereIs) {
  CpuDevice device(kernels());
  const int64_t too_much = 2 * host_info().memory_total;
  try {
    (void)device.allocate(too_much, "optimizer state");
    FAIL() << "allocated " << too_much << " bytes";
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("optimizer state"), std::string::npos) << error.what();
  }
}

TEST(HostInfo, DescribesThisMachine) {
  const HostInfo host = host_info();
  EXPECT_FALSE(host.cpu.empty());
  EXPECT_GE(host.cores, 1);
  EXPECT_GT(host.memory_total, 0);
  EXPECT_GT(host.memory_available, 0);
  EXPECT_LE(host.memory_available, host.memory_total);
  EXPECT_FALSE(best_isa(host).empty());
}

}  // namespace
}  // namespace toroid
