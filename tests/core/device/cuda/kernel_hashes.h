// The bits of Toroid's own CUDA kernels, as hashes, against a list (kernel_hashes.list). The list is written
// by the kernels as the host's compiler makes them; a GPU whose program has this suite must find the same
// hashes where the arithmetic is exact (hash_cases.h).
#pragma once

#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {

// A program that has a device instantiates it with that device.
class KernelHashes : public KernelContract {};

}  // namespace toroid::testing
