// What the CUDA device promises, on the stand-in.
#include "core/device/cuda/cuda_device.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>

#include "core/base/error.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/gpus.h"
#include "core/op/activation.h"
#include "core/op/elementwise.h"
#include "core/op/norm.h"
#include "core/op/reduce.h"
#include "tests/core/device/cuda/held.h"

namespace toroid::testing {
namespace {

using stand_in::Machine;
using stand_in::Scope;

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Gpus, are_called_what_the_driver_calls_them) {
  for (const std::string name : {"NVIDIA H200", "NVIDIA H100 80GB HBM3"}) {
    Machine machine;
    machine.name = name;
    const Scope scope(machine);
    EXPECT_EQ(cuda::gpu_info(0).model, name);
    EXPECT_TRUE(cuda::peak_flops_per_s(cuda::gpu_info(0), DType::bf16));
  }
}

TEST(CudaDevice, runs_copies_and_reads_in_the_order_of_the_operands) {
  Scope scope;
  scope.delay(100, 3);
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1, 2, 3}), y = vector_of(device, {10, 20, 30});
  for (int i = 0; i < 100; ++i) device.launch(op::add(x.tensor, y.tensor));
  device.copy(x.tensor, y.tensor);
  device.launch(op::add(x.tensor, y.tensor));
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{220, 440, 660}));
}

TEST(CudaDevice, frees_without_waiting_and_hands_memory_on_with_its_waits) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  Hold hold;
  const Array y = vector_of(device, {1});
  Array x = vector_of(device, {5});
  hold.on(device, Queue::gather, {x.tensor, Access::inout});
  device.launch(op::add(x.tensor, y.tensor));
  const void* const address = x.owner.block()->address;
  x = Array{};
  const Array z = vector_of(device, {7});
  EXPECT_EQ(z.owner.block()->address, address);
  hold.end();
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{6}));
  EXPECT_EQ(read(device, z.tensor), (std::vector<float>{7}));
}

TEST(CudaDevice, carries_out_a_collective_in_the_order_of_its_stream) {
  Scope scope;
  scope.delay(100, 5);
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {3}), y = vector_of(device, {4});
  device.launch(op::add(y.tensor, x.tensor));
  issue(device, Queue::reduce, {x.tensor, Access::inout}, [at = x.tensor.as<float>()] { *at *= 10; });
  device.launch(op::add(y.tensor, x.tensor));
  EXPECT_EQ(read(device, x.tensor), (std::vector<float>{74}));
}

class Advanced final : public Transfer {
 public:
  bool advance() override { return true; }
};

TEST(CudaDevice, refuses_a_collective_that_no_library_carries_out) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {3});
  const Operand operand{x.tensor, Access::inout};
  EXPECT_THROW(device.transfer(std::make_unique<Advanced>(), {&operand, 1}, {}, Queue::gather),
               InternalError);
}

// Passed by its stream at once; how it ended is known later.
class Unsettled final : public Transfer {
 public:
  explicit Unsettled(std::shared_ptr<std::atomic<int>> looks, int good_after, int bad_after)
      : looks_(std::move(looks)), good_after_(good_after), bad_after_(bad_after) {}
  bool put_on(void*) override { return true; }
  bool advance() override { throw InternalError("what is on a stream is not advanced"); }
  bool settled() override {
    const int looks = ++*looks_;
    if (looks > bad_after_) throw PeerError("rank 1 is gone");
    return looks > good_after_;
  }

 private:
  std::shared_ptr<std::atomic<int>> looks_;
  int good_after_, bad_after_;
};

TEST(CudaDevice, reads_what_a_collective_left_once_it_is_known_to_have_ended_well) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {3});
  const Operand operand{x.tensor, Access::inout};
  const auto looks = std::make_shared<std::atomic<int>>(0);
  device.transfer(std::make_unique<Unsettled>(looks, 50, std::numeric_limits<int>::max()), {&operand, 1}, {},
                  Queue::gather);
  EXPECT_EQ(read(device, x.tensor), (std::vector<float>{3}));
  const int before = *looks;
  EXPECT_GT(before, 50);
  device.synchronize(device.record(Queue::gather), Seconds(10));
  EXPECT_EQ(*looks, before) << "it is forgotten";
}

TEST(CudaDevice, throws_what_broke_a_collective_off_wherever_it_waits) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {3});
  const Operand operand{x.tensor, Access::inout};
  const auto looks = std::make_shared<std::atomic<int>>(0);
  device.transfer(std::make_unique<Unsettled>(looks, std::numeric_limits<int>::max(), 50), {&operand, 1}, {},
                  Queue::gather);
  EXPECT_THROW((void)read(device, x.tensor), PeerError);
  EXPECT_THROW(device.synchronize(device.record(Queue::gather), Seconds(10)), PeerError) << "and again";
}

TEST(CudaDevice, moves_more_than_its_staging_memory_holds) {
  Scope scope;
  scope.delay(50, 2);
  CudaDevice device(make_cuda_kernels(), small_gpu());
  std::vector<float> values(100'003);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const Array x = vector_of(device, values);
  EXPECT_EQ(read(device, x.tensor), values);
  std::vector<Array> many;
  for (int i = 0; i < 300; ++i)
    many.push_back(vector_of(device, std::vector<float>(17, static_cast<float>(i))));
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(read(device, many[static_cast<size_t>(i)].tensor)[16], static_cast<float>(i));
  }
}

TEST(CudaDevice, waits_for_a_recorded_event_and_not_for_what_came_after_it) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1}), y = vector_of(device, {1});
  device.launch(op::add(x.tensor, y.tensor));
  const Event event = device.record(Queue::compute);
  Hold hold;
  hold.on(device, Queue::gather, {x.tensor, Access::inout});
  for (int i = 0; i < 200; ++i) device.launch(op::add(x.tensor, y.tensor));  // more than tickets are kept
  device.synchronize(event, Seconds(20));
  hold.end();
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{202}));
}

TEST(CudaDevice, times_what_lies_between_events) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1});
  const Event begin = device.record(Queue::gather);
  issue(device, Queue::gather, {x.tensor, Access::inout},
        [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  const Event end = device.record(Queue::gather);
  EXPECT_GE(device.elapsed(begin, end).count(), 0.02);
  EXPECT_EQ(device.elapsed(begin, begin).count(), 0);
  EXPECT_THROW((void)device.elapsed(begin, Event{Queue::gather, 1, 77}), InternalError);
}

TEST(CudaDevice, an_overdue_event_names_what_was_issued) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  Hold hold;
  const Array x = vector_of(device, {1});
  hold.on(device, Queue::gather, {x.tensor, Access::inout});
  device.launch(op::fill(x.tensor, {2}));
  const Event event = device.record(Queue::compute);
  const std::string text = error_of([&] { device.synchronize(event, Seconds(0.05)); });
  EXPECT_TRUE(contains(text, "within 0.05")) << text;
  EXPECT_TRUE(contains(text, "collective on gather, fill on compute")) << text;
  hold.end();
  EXPECT_EQ(read(device, x.tensor)[0], 2) << "it was only late";
}

#if !defined(__SANITIZE_ADDRESS__)  // which finds that it is left
TEST(CudaDevice, does_not_wait_at_its_end_for_what_is_overdue) {
  Scope scope;
  Hold hold;  // ends after the device, which leaves all to the end of the process
  CudaDevice::Options options = small_gpu();
  options.bytes = 1 << 20;
  const Stopwatch watch;
  {
    CudaDevice device(make_cuda_kernels(), options);
    const Array x = vector_of(device, {1});
    hold.on(device, Queue::gather, {x.tensor, Access::inout});
    const Event event = device.record(Queue::gather);
    EXPECT_THROW(device.synchronize(event, Seconds(0.05)), SystemError);
  }
  EXPECT_LT(watch.elapsed().count(), 10);
}
#endif

TEST(CudaDevice, a_fault_names_the_first_call_that_saw_it_and_the_last_operations) {
  Scope scope;
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const Array x = vector_of(device, {1}), y = vector_of(device, {1});
  device.launch(op::add(x.tensor, y.tensor));
  device.synchronize(device.record(Queue::compute), Seconds(10));
  scope.fail("kernel", 1, cudaErrorIllegalAddress);
  const std::string first = error_of([&] {
    device.launch(op::fill(y.tensor, {3}));
    (void)read(device, y.tensor);
  });
  EXPECT_TRUE(
      contains(first, "GPU 0 failed: an illegal memory access was encountered (cudaErrorIllegalAddress)"))
      << first;
  EXPECT_TRUE(contains(first, "add on compute")) << first;
  EXPECT_EQ(error_of([&] { (void)read(device, x.tensor); }), first) << "the first one is what counts";
  EXPECT_EQ(error_of([&] { device.synchronize(Event{Queue::compute, 1}, Seconds(1)); }), first);
}

TEST(CudaDevice, a_call_that_fails_is_named) {
  for (const char* const call :
       {"cudaMalloc", "cudaStreamCreateWithPriority", "cudaEventCreateWithFlags", "cudaHostAlloc",
        "cudaMemcpyAsync", "cudaEventRecord", "cudaStreamWaitEvent"}) {
    Scope scope;
    scope.fail(call, 1, cudaErrorMemoryAllocation);
    const std::string text = error_of([] {
      CudaDevice device(make_cuda_kernels(), small_gpu());
      const Array x = vector_of(device, {1});
      device.launch(op::fill(x.tensor, {2}));
      (void)read(device, x.tensor);
    });
    EXPECT_TRUE(contains(text, call)) << call << ": " << text;
    EXPECT_TRUE(contains(text, "out of memory")) << text;
  }
}

TEST(CudaDevice, memory_that_is_short_says_so) {
  Machine machine;
  {
    const Scope others;  // tests before this one may have left some in use
    const cuda::GpuMemory memory = cuda::gpu_memory();
    machine.bytes = memory.total - memory.free + (12 << 20);
  }
  Scope scope(machine);
  const std::string wanted = error_of([] { CudaDevice device(make_cuda_kernels(), small_gpu()); });
  EXPECT_TRUE(contains(wanted, "not enough memory on GPU 0: of its ")) << wanted;
  EXPECT_TRUE(contains(wanted, " are wanted; is another program using it?")) << wanted;
  const std::string left = error_of([] { CudaDevice device(make_cuda_kernels(), CudaDevice::Options()); });
  EXPECT_TRUE(contains(left, "1.07 GB stay free for CUDA and its libraries; is another program")) << left;
  CudaDevice::Options options = small_gpu();
  options.bytes = 1 << 20;
  CudaDevice device(make_cuda_kernels(), options);
  const Buffer weights = device.allocate(1 << 19, "weights");
  EXPECT_TRUE(contains(error_of([&] { (void)device.allocate(1 << 20, "gradients"); }), "weights"));
}

TEST(CudaDevice, a_machine_that_cannot_run_it_gets_a_sentence) {
  const auto refused = [](const Machine& machine, int gpu, std::string_view because) {
    Scope scope(machine);
    try {
      cuda::use_gpu(gpu);
      ADD_FAILURE() << because;
    } catch (const UserError& error) {
      EXPECT_TRUE(contains(error.what(), because)) << error.what();
    }
  };
  refused({.gpus = 0}, 0, "CUDA sees no GPU");
  refused({.gpus = 2}, 2, "GPU 2 is asked for, but CUDA sees 2");
  refused({.driver = 0}, 0, "no NVIDIA driver");
  refused({.driver = 12080}, 0, "serves CUDA up to 12.8, but this program is built with 13.0");
  refused({.capability = 75}, 0, "compute capability 7.5");
}

// Some operators on two queues, with memory that is handed on: what is in it, and where it lies.
struct Outcome {
  std::vector<float> values;
  std::vector<int64_t> offsets;
  bool operator==(const Outcome&) const = default;
};
Outcome run_program(unsigned seed, int delay, bool closed) {
  Scope scope;
  closed ? scope.close_memory() : scope.delay(delay, seed);
  CudaDevice device(make_cuda_kernels(), small_gpu());
  const int64_t M = 70, D = 96;
  Outcome out;
  const Array x = device.array(DType::bf16, {M, 2 * D}, "x"), w = device.array(DType::bf16, {D}, "w"),
              dw = device.array(DType::f32, {D}, "dw"), total = device.array(DType::f32, {1}, "total");
  device.launch(op::init_normal(x.tensor, {random_key(1, Purpose::initialise, "x"), 0, 1.0}));
  device.launch(op::init_normal(w.tensor, {random_key(1, Purpose::initialise, "w"), 0, 0.1}));
  device.launch(op::fill(dw.tensor, {0}));
  const auto note = [&](const Array& array) {
    const auto* const first = static_cast<const std::byte*>(x.owner.block()->address);
    out.offsets.push_back(static_cast<const std::byte*>(array.owner.block()->address) - first);
  };
  for (int step = 0; step < 20; ++step) {
    const Array act = device.array(DType::bf16, {M, D}, "act"), y = device.array(DType::bf16, {M, D}, "y"),
                rstd = device.array(DType::f32, {M}, "rstd"), dx = device.array(DType::bf16, {M, D}, "dx");
    note(act), note(dx);
    const Queue queue = step % 2 == 0 ? Queue::compute : Queue::model;
    device.launch(op::activate(x.tensor, act.tensor, {}), queue);
    device.launch(op::rms_norm(act.tensor, w.tensor, y.tensor, rstd.tensor, {}), Queue::compute);
    device.launch(
        op::rms_norm_grad(y.tensor, act.tensor, w.tensor, rstd.tensor, {}, dx.tensor, dw.tensor, {}, {}),
        queue);
    device.launch(op::sum(dw.tensor, total.tensor), Queue::compute);
  }
  out.values = read(device, dw.tensor);
  out.values.push_back(read(device, total.tensor)[0]);
  return out;
}

TEST(CudaDevice, knows_the_peak_of_gpus_that_it_knows) {
  const auto peak = [](const char* model, int multiprocessors, DType type) {
    return cuda::peak_flops_per_s({model, "0000:10:00.0", "9.0", multiprocessors}, type).value_or(0);
  };
  EXPECT_DOUBLE_EQ(peak("NVIDIA H200", 132, DType::bf16), 989.4e12);
  EXPECT_DOUBLE_EQ(peak("NVIDIA H200", 132, DType::f32), 66.9e12);
  EXPECT_DOUBLE_EQ(peak("NVIDIA H200 NVL", 132, DType::bf16), 835.5e12) << "not that of the module";
  EXPECT_DOUBLE_EQ(peak("NVIDIA H100 80GB HBM3", 132, DType::bf16), 989.4e12);
  EXPECT_DOUBLE_EQ(peak("NVIDIA A100-SXM4-80GB", 108, DType::bf16), 312e12);
  EXPECT_EQ(peak("NVIDIA H200", 16, DType::bf16), 0) << "a part of one";
  EXPECT_EQ(peak("NVIDIA H200", 132, DType::f64), 0);
  EXPECT_EQ(peak("NVIDIA RTX 6000", 142, DType::bf16), 0);
  EXPECT_EQ(peak("", 132, DType::bf16), 0);
  const Scope scope;
  EXPECT_FALSE(CudaDevice(make_cuda_kernels(), small_gpu()).peak_flops_per_s(DType::bf16));
}

TEST(CudaDevice, bits_and_addresses_do_not_depend_on_time) {
  const Outcome first = run_program(1, 0, false);
  EXPECT_GT(first.values.back() * first.values.back(), 0);
  for (const unsigned seed : {1u, 2u, 3u}) EXPECT_EQ(run_program(seed, 200, false), first);
  EXPECT_EQ(run_program(0, 0, true), first);
}

#if !defined(__SANITIZE_THREAD__)
TEST(CudaDeviceDeath, the_host_cannot_touch_its_memory) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto touch = [](bool write) {
    Scope scope;
    scope.close_memory();
    CudaDevice device(make_cuda_kernels(), small_gpu());
    const Array x = vector_of(device, {1});
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
