// How fast NCCL moves bytes between the GPUs of this host, without a world: for `toroid doctor`.
#pragma once

#include <cstdint>

#include "core/base/clock.h"

namespace toroid {

// Bytes that go over each GPU's links in a second: (n - 1) / n of the array, in the time of a collective.
struct NcclRates {
  double gather_bytes_per_s = 0, reduce_bytes_per_s = 0;
};

// Of all_gather and reduce_scatter over GPUs 0 to `gpus` - 1, two or more, of an array of so many bytes in
// fp32: medians, by a thread and a communicator for each GPU in this process. UserError where NCCL is not
// found or a GPU cannot be used; SystemError where a call fails; PeerError where one does not come back
// within the deadline.
NcclRates measure_nccl(int gpus, int64_t bytes, Seconds deadline);

}  // namespace toroid
