#include "parallel/comm/within_host/relay.h"

#include <algorithm>

namespace toroid {
namespace {

constexpr int64_t kGroupBytes = int64_t{8} << 20;  // of all ranks of one group: a part of the last cache
constexpr int64_t kSmallest = int64_t{32} << 10, kLargest = int64_t{512} << 10;  // slots

}  // namespace

int64_t Relay::slot_bytes_for(int ranks) {
  const int64_t share = kGroupBytes / (int64_t{kSlots} * ranks) / kSmallest * kSmallest;
  return std::clamp(share, kSmallest, kLargest);
}

}  // namespace toroid
