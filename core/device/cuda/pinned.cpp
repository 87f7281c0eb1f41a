#include "core/device/cuda/pinned.h"

#include "core/base/error.h"
#include "core/base/round_up.h"

namespace toroid::cuda {

PinnedRing::PinnedRing(Calls& calls, int64_t bytes) : calls_(calls), bytes_(round_up(bytes, 1024)) {
  void* memory = nullptr;
  calls_.check(cudaHostAlloc(&memory, static_cast<size_t>(bytes_), cudaHostAllocDefault), "cudaHostAlloc");
  memory_ = static_cast<std::byte*>(memory);
}

PinnedRing::~PinnedRing() {
  for (const Piece& piece : pieces_) (void)cudaEventDestroy(piece.event);
  for (cudaEvent_t event : spare_) (void)cudaEventDestroy(event);
  (void)cudaFreeHost(memory_);
}

// Behind the youngest piece, or at the ring's beginning where the oldest has left room.
bool PinnedRing::fits(int64_t bytes) const {
  if (pieces_.empty()) return true;
  const int64_t end = pieces_.back().offset + pieces_.back().bytes, begin = pieces_.front().offset;
  if (end > begin) return end + bytes <= bytes_ || bytes <= begin;
  return end + bytes <= begin;
}

void PinnedRing::drop_oldest() {
  spare_.push_back(pieces_.front().event);
  pieces_.pop_front();
}

std::span<std::byte> PinnedRing::take(int64_t bytes, const Wait& wait) {
  require(bytes <= chunk_bytes(), "a piece of pinned memory is at most a chunk");
  const int64_t rounded = round_up(bytes, 64);
  while (!fits(rounded)) {
    wait(pieces_.front().event);
    drop_oldest();
  }
  Piece piece{0, rounded, nullptr};
  if (!pieces_.empty()) {
    const int64_t end = pieces_.back().offset + pieces_.back().bytes;
    if (end + rounded <= bytes_) piece.offset = end;
  }
  if (spare_.empty()) {
    calls_.check(cudaEventCreateWithFlags(&piece.event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  } else {
    piece.event = spare_.back();
    spare_.pop_back();
  }
  pieces_.push_back(piece);
  return {memory_ + piece.offset, static_cast<size_t>(bytes)};
}

cudaEvent_t PinnedRing::used_on(cudaStream_t stream) {
  calls_.check(cudaEventRecord(pieces_.back().event, stream), "cudaEventRecord");
  return pieces_.back().event;
}

}  // namespace toroid::cuda
