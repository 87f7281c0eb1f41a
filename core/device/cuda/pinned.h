// Memory of the host that a GPU reads and writes while the program goes on: one ring, allocated at start
// (an allocation while collectives run may wait for ever), out of which pieces are taken in turn. A piece is
// free again when the copy that uses it is over; whoever takes one waits for the oldest of them, if it must.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "core/device/cuda/calls.h"

namespace toroid::cuda {

class PinnedRing {
 public:
  // Waits until an event has passed.
  using Wait = std::function<void(cudaEvent_t)>;
  PinnedRing(Calls& calls, int64_t bytes);
  ~PinnedRing();
  PinnedRing(const PinnedRing&) = delete;  // owns memory
  PinnedRing& operator=(const PinnedRing&) = delete;

  // Larger copies go in chunks of this: several are then on their way.
  int64_t chunk_bytes() const { return bytes_ / 4; }
  // At most chunk_bytes(). It is used by the copy that is issued next.
  std::span<std::byte> take(int64_t bytes, const Wait& wait);
  // After that copy, on its stream: the piece is free when it is over, which is when the event passes.
  cudaEvent_t used_on(cudaStream_t stream);

 private:
  struct Piece {
    int64_t offset = 0, bytes = 0;
    cudaEvent_t event = nullptr;
  };
  bool fits(int64_t bytes) const;
  void drop_oldest();

  Calls& calls_;
  int64_t bytes_;
  std::byte* memory_ = nullptr;
  std::deque<Piece> pieces_;  // oldest first
  std::vector<cudaEvent_t> spare_;
};

}  // namespace toroid::cuda
