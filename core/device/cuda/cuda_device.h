// An NVIDIA GPU. A queue is a stream and a ticket an event: one is recorded after each entry, in a ring, and
// a wait for a ticket that has left its ring is one for a younger ticket that took its place, which is longer
// and never wrong. Memory is one allocation made at start; an arena hands it out in the order of issue, so
// that addresses are the same on every run and a free never waits.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/device/arena.h"
#include "core/device/cuda/calls.h"
#include "core/device/cuda/pinned.h"
#include "core/device/cuda/sdpa.h"
#include "core/device/cuda/timeline.h"
#include "core/device/device.h"

namespace toroid {
namespace cuda {
struct Libraries;
}

class CudaDevice final : public Device {
 public:
  struct Options {
    int gpu = 0;                                // as CUDA counts those that it sees
    int64_t bytes = 0;                          // of memory; 0: what is free, but for what libraries take
    int64_t staging_bytes = int64_t{64} << 20;  // pinned, for what crosses to and from the host
    cuda::AttentionLibrary attention;           // cuDNN is started where that is it
  };
  // UserError where there is no such GPU, it or its driver is too old (gpus.h), or a library is missing
  // (libraries.h); SystemError where it has not as much memory, or a library does not start.
  CudaDevice(std::shared_ptr<const DeviceKernels> kernels, const Options& options);
  // Waits for what has been issued, unless something has failed or is still overdue.
  ~CudaDevice() override;

  void synchronize(Event event, Seconds deadline) override;
  // Waits until both have passed. InternalError where either was never recorded, or thousands of events ago.
  Seconds elapsed(Event from, Event to) const override;
  CommunicationTime communication_time(Event from, Event to) const override;
  // With one, each entry has two events more.
  void observe(const std::shared_ptr<Observer>& observer) override;
  std::optional<double> peak_flops_per_s(DType type) const override;
  std::vector<std::string> remarks() const override;
  ProductWays* product_ways() override;
  std::string_view name() const override { return "cuda"; }
  int64_t memory_bytes() const override { return arena_.bytes(); }
  const DeviceArena& arena() const { return arena_; }
  int gpu() const { return options_.gpu; }
  // All of its memory, as libraries want to know it.
  std::span<std::byte> memory() const { return {base_, static_cast<size_t>(arena_.bytes())}; }

 protected:
  void on_allocate(Block& block) override;
  void on_free(const Block& block) override;
  void on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context, Event ticket) override;
  void on_copy(const Tensor& to, const Tensor& from, Event ticket) override;
  void on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                   const CollectiveInfo& info, Event ticket) override;
  void on_record(Event event) override;
  void on_wait(Queue queue, Event event) override;
  void on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) override;
  void on_read(const Tensor& from, std::span<std::byte> to, Event ticket) override;

 private:
  static constexpr size_t kRing = 64, kMarks = 4096;
  struct Stream {
    cudaStream_t stream = nullptr;
    std::array<cudaEvent_t, kRing> events{};
    cudaEvent_t last = nullptr;  // of them, the one that was recorded last
  };
  // Of a recorded event, with its time.
  struct Mark {
    uint64_t number = 0;
    cudaEvent_t event = nullptr;
  };
  struct UnderWay {
    Event ticket;
    std::unique_ptr<Transfer> transfer;
  };
  void start();
  void stop();
  cudaStream_t stream(Queue queue) const { return streams_[static_cast<size_t>(queue)].stream; }
  cudaEvent_t event_of(Event event) const;
  const Mark* mark_of(Event event) const;
  // Finds the host's clock on the GPU's.
  void align();
  // Before and behind an entry that `report` is told of; an empty one: nobody is. Whoever waits for the entry
  // waits for its end too, which is recorded before its ticket's event.
  cudaEvent_t begin_of(const Observer::Report& report, Queue queue);
  void end_of(cudaEvent_t begin, Observer::Report report, Queue queue);
  // What ends every entry.
  void passed(Event ticket, std::string_view operation);
  bool has_passed(cudaEvent_t event) const;
  bool idle() const;
  void wait_for(cudaEvent_t event, Seconds deadline) const;
  // Forgets the transfers that are known to have ended well. `settle`: waits until that is known of all that
  // their streams have passed; whatever broke one off is thrown.
  enum class Verdict : uint8_t { as_known, settle };
  void drop_transfers(Verdict verdict);

  Options options_;
  mutable cuda::Calls calls_;
  mutable bool overdue_ = false;  // a deadline has expired: what was under way then may never end
  DeviceArena arena_;
  std::byte* base_ = nullptr;
  std::array<Stream, kQueues> streams_;
  std::vector<Mark> marks_;
  std::unique_ptr<cuda::PinnedRing> staging_;
  std::unique_ptr<cuda::Libraries> libraries_;
  std::deque<UnderWay> transfers_;
  std::unique_ptr<cuda::Timeline> timeline_;
  std::shared_ptr<Observer> observer_;
};

}  // namespace toroid
