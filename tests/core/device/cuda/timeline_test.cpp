// Times of the CUDA device, on the stand-in: how long collectives were under way and waited for, and what an
// observer is told.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>

#include "core/device/cuda/cuda_kernels.h"
#include "core/device/observer.h"
#include "core/op/elementwise.h"
#include "tests/core/device/cuda/held.h"

namespace toroid::testing {
namespace {

using stand_in::Scope;
using HostClock = std::chrono::steady_clock;

// Streams begin what is issued within much less, on a machine that has more to do too.
constexpr std::chrono::milliseconds kHeld(150);
constexpr Seconds kAtLeast(0.05);
// Of times that CUDA gives as floats.
constexpr Seconds kRounded(1e-6);

TEST(CudaTimes, know_what_compute_waited_for) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1}), y = vector_of(device, {1});
  Hold hold;
  device.launch(op::fill(y.tensor, {0}));
  const Event begin = device.record(Queue::compute);
  hold.on(device, Queue::gather, {x.tensor, Access::inout});
  device.launch(op::add(x.tensor, y.tensor));
  const Event waited = device.record(Queue::compute);
  device.synchronize(begin, Seconds(60));
  std::this_thread::sleep_for(kHeld);
  hold.end();
  device.launch(op::add(x.tensor, y.tensor));  // waits no more
  const Event end = device.record(Queue::compute);
  device.synchronize(end, Seconds(60));
  const CommunicationTime all = device.communication_time(begin, end);
  EXPECT_GT(all.exposed, kAtLeast);
  EXPECT_LE(all.exposed, device.elapsed(begin, end) + kRounded);
  EXPECT_GT(all.under_way, kAtLeast);
  EXPECT_LE(all.under_way, device.elapsed(begin, end) + kRounded);
  EXPECT_EQ(device.communication_time(begin, waited).exposed, all.exposed);
  EXPECT_EQ(device.communication_time(waited, end).exposed, Seconds(0));
}

TEST(CudaTimes, count_a_moment_of_several_collectives_once_and_hidden_ones_as_hidden) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1}), y = vector_of(device, {1}), z = vector_of(device, {1});
  Hold hold;
  device.launch(op::fill(y.tensor, {0}));
  const Event begin = device.record(Queue::compute);
  hold.on(device, Queue::gather, {x.tensor, Access::inout});
  hold.on(device, Queue::reduce, {y.tensor, Access::inout});
  device.launch(op::fill(z.tensor, {2}));
  const Event computed = device.record(Queue::compute);
  device.synchronize(computed, Seconds(60));
  EXPECT_EQ(device.communication_time(begin, computed).exposed, Seconds(0));
  std::this_thread::sleep_for(kHeld);
  const Event held = device.record(Queue::compute);
  const CommunicationTime so_far = device.communication_time(begin, held);
  EXPECT_GT(so_far.under_way, kAtLeast) << "what has not ended counts up to here";
  EXPECT_LE(so_far.under_way, device.elapsed(begin, held) + kRounded);
  hold.end();
  device.finish(Seconds(60));
  const Event end = device.record(Queue::compute);
  const CommunicationTime all = device.communication_time(begin, end);
  EXPECT_EQ(all.exposed, Seconds(0));
  EXPECT_GT(all.under_way, kAtLeast);
  EXPECT_LE(all.under_way, device.elapsed(begin, end) + kRounded);
  EXPECT_THROW((void)device.communication_time(begin, Event{Queue::compute, 1, 77}), InternalError);
}

// Keeps what it is told, by queue.
class Book final : public Observer {
 public:
  struct Line {
    std::string text;
    Span span;
  };
  std::vector<std::string> asked;  // in the order of issue
  std::map<Queue, std::vector<Line>> reported;

  Report run(const Call& call, Queue queue) override { return add(std::string(call.kind->name), queue); }
  Report copy(const Tensor& to, Queue queue) override { return add("copy of " + to.text(), queue); }
  Report wait(Queue) override { return add("wait", Queue::compute); }
  Report transfer(const CollectiveInfo& info, Queue queue) override { return add(info.operation, queue); }
  std::vector<std::string> texts(Queue queue) {
    std::vector<std::string> out;
    for (const Line& line : reported[queue]) out.push_back(line.text);
    return out;
  }

 private:
  Report add(const std::string& text, Queue queue) {
    asked.push_back(text);
    return [this, text, queue](Span span) { reported[queue].push_back({text, span}); };
  }
};

TEST(CudaTimes, are_told_to_an_observer_on_the_clock_of_the_host) {
  Scope scope;
  scope.delay(100, 7);
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1}), y = vector_of(device, {1});
  device.launch(op::add(x.tensor, y.tensor));  // before anybody looks
  const auto book = std::make_shared<Book>();
  device.observe(book);
  const HostClock::time_point begin = HostClock::now();
  Hold hold;
  {
    const Array passing = vector_of(device, {4});
    device.launch(op::fill(passing.tensor, {3}));
    device.copy(x.tensor, passing.tensor);
  }
  hold.on(device, Queue::gather, {x.tensor, Access::inout});
  device.launch(op::add(x.tensor, y.tensor));
  device.launch(op::fill(y.tensor, {2}), Queue::reduce);
  device.observe(nullptr);
  device.launch(op::fill(x.tensor, {2}));  // after
  EXPECT_TRUE(book->reported[Queue::gather].empty()) << "it is held";
  std::this_thread::sleep_for(kHeld);
  hold.end();
  device.synchronize(device.record(Queue::compute), Seconds(60));
  device.synchronize(device.record(Queue::reduce), Seconds(60));
  const HostClock::time_point end = HostClock::now();
  EXPECT_EQ(book->asked, (std::vector<std::string>{"fill", "copy of f32[1]", "", "wait", "add", "fill"}));
  EXPECT_EQ(book->texts(Queue::compute), (std::vector<std::string>{"fill", "copy of f32[1]", "wait", "add"}));
  EXPECT_EQ(book->texts(Queue::gather), (std::vector<std::string>{""}));
  EXPECT_EQ(book->texts(Queue::reduce), (std::vector<std::string>{"fill"}));
  for (const auto& [queue, lines] : book->reported) {
    HostClock::time_point free = begin - kHeld / 3;  // by so much the clocks may differ at most
    for (const Book::Line& line : lines) {
      EXPECT_GE(line.span.begin, free) << line.text;
      EXPECT_GE(line.span.end, line.span.begin) << line.text;
      EXPECT_LE(line.span.end, end + kHeld / 3) << line.text;
      free = line.span.end;
    }
  }
  const Span held = book->reported[Queue::gather][0].span, add = book->reported[Queue::compute][3].span;
  EXPECT_GT(Seconds(held.end - held.begin), kAtLeast);
  EXPECT_GE(add.begin, held.end - kHeld / 3);
}

// Events come back to the pool, and the moment from which times are measured moves on.
TEST(CudaTimes, hold_over_many_entries) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1});
  device.launch(op::fill(x.tensor, {0}));  // a queue without entries is not waited for
  const auto book = std::make_shared<Book>();
  device.observe(book);
  Event before = device.record(Queue::compute);
  device.synchronize(before, Seconds(60));
  for (int round = 0; round < 3; ++round) {
    issue(device, Queue::gather, {x.tensor, Access::inout},
          [] { std::this_thread::sleep_for(std::chrono::milliseconds(600)); });
    for (int i = 0; i < 300; ++i) device.launch(op::fill(x.tensor, {static_cast<double>(i)}));
    const Event after = device.record(Queue::compute);
    device.synchronize(after, Seconds(60));
    const CommunicationTime found = device.communication_time(before, after);
    EXPECT_GT(found.under_way.count(), 0.599);
    EXPECT_LE(found.under_way, device.elapsed(before, after) + kRounded);
    EXPECT_GT(found.exposed.count(), 0.3);
    EXPECT_LE(found.exposed, device.elapsed(before, after) + kRounded);
    before = after;
  }
  EXPECT_EQ(book->reported[Queue::compute].size(), 3u * 301);
  HostClock::time_point free;
  for (const Book::Line& line : book->reported[Queue::compute]) {
    EXPECT_GE(line.span.begin, free);
    free = line.span.end;
  }
}

// As of a run that nobody looks at.
TEST(CudaTimes, change_neither_addresses_nor_bits) {
  const auto run = [](bool looked_at) {
    Scope scope;
    scope.delay(100, looked_at ? 3 : 4);
    CudaDevice device(make_cuda_kernels(), small_gpu());
    if (looked_at) device.observe(std::make_shared<Book>());
    const Array y = vector_of(device, {1, 2});
    const auto* const first = static_cast<const std::byte*>(y.owner.block()->address);
    std::vector<int64_t> offsets;
    for (int i = 0; i < 30; ++i) {
      const Array x = vector_of(device, {0.1f, static_cast<float>(i)});
      offsets.push_back(static_cast<const std::byte*>(x.owner.block()->address) - first);
      issue(device, i % 2 == 0 ? Queue::gather : Queue::reduce, {x.tensor, Access::inout},
            [at = x.tensor.as<float>()] { *at *= 1.5f; });
      device.launch(op::add(x.tensor, y.tensor));
    }
    return std::pair(offsets, read(device, y.tensor));
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(CudaTimes, a_fault_is_told_and_not_timed) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1});
  const auto book = std::make_shared<Book>();
  device.observe(book);
  const Event begin = device.record(Queue::compute);
  scope.fail("kernel", 1, cudaErrorIllegalAddress);
  EXPECT_THROW(
      {
        device.launch(op::fill(x.tensor, {3}));
        device.synchronize(device.record(Queue::compute), Seconds(60));
      },
      SystemError);
  EXPECT_THROW((void)device.communication_time(begin, begin), SystemError);
  EXPECT_TRUE(book->reported[Queue::compute].empty());
}

}  // namespace
}  // namespace toroid::testing
