#include "train/engine/staged_snapshot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "train/checkpoint/step_writer.h"

namespace toroid::train {
namespace {

void put_all(ByteRing& ring, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto room = ring.room(bytes.size());
    std::copy_n(bytes.begin(), room.size(), room.begin());
    ring.put(room.size());
    bytes = bytes.subspan(room.size());
  }
}

}  // namespace

SnapshotMemory::SnapshotMemory(Device& device, StepProgram& program, double share, bool on_host) {
  int64_t state = 0;  // bytes
  for (const NamedTensor& part : program.zero().parts()) state += part.counted ? part.tensor.bytes() : 0;
  constexpr int64_t kUnit = 64;
  const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(state)));
  const int64_t bytes = std::max<int64_t>(1, (wanted + kUnit - 1) / kUnit) * kUnit;
  if (on_host) {
    on_device_ = device.array(DType::u8, {bytes}, "snapshot");
  } else {
    beside_.resize(static_cast<size_t>(bytes));
  }
  // Its pages are had now, and not while the steps wait for a copy.
  if (std::byte* const memory = on_device_.tensor ? on_device_.tensor.data() : nullptr) {
    std::memset(memory, 0, static_cast<size_t>(bytes));
  }
}

std::span<std::byte> SnapshotMemory::bytes() {
  if (!beside_.empty()) return beside_;
  return {on_device_.tensor.data(), static_cast<size_t>(on_device_.tensor.bytes())};
}

std::vector<TensorSlice> out_of(ByteRing& ring, const std::vector<TensorSlice>& slices) {
  std::vector<TensorSlice> out = slices;
  for (TensorSlice& slice : out) {
    slice.fill = [&ring](int64_t, std::span<std::byte> piece) { ring.take(piece); };
  }
  return out;
}

void stage(std::span<const TensorSlice> slices, ByteRing& ring) {
  for (const PartSlices& part : parts_in_order(slices)) {
    for (const TensorSlice* slice : part.slices) {
      const int64_t bytes = slice->elements * element_bytes(slice->type);
      for (int64_t first = 0; first < bytes;) {
        constexpr int64_t kPiece = int64_t{4} << 20;
        auto room = ring.room(static_cast<size_t>(std::min(kPiece, bytes - first)));
        // A device's tensors are cut between elements, and the ring's memory may end inside of one.
        const auto size = static_cast<size_t>(element_bytes(slice->type));
        room = room.first(room.size() - room.size() % size);
        if (room.empty()) {
          std::array<std::byte, 8> element;
          const auto one = std::span(element).first(size);
          slice->fill(first, one);
          put_all(ring, one);
        } else {
          slice->fill(first, room);
          ring.put(room.size());
        }
        first += static_cast<int64_t>(room.empty() ? size : room.size());
      }
    }
  }
  ring.hand_over();
}

}  // namespace toroid::train
