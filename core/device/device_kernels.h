// A type of device as it is known without having one: its kernels, and what programs ask of it before they
// issue anything. A recorder that is given these issues what the device would.
#pragma once

#include <cstdint>
#include <functional>

#include "core/op/op.h"

namespace toroid {

struct DeviceTraits {
  int threads = 1;    // of the host, that its kernels share
  bool packs = true;  // whether products want their weights packed; else they read them where they lie
  int64_t logits_at_once = int64_t{1}
                           << 24;  // elements that a loss in blocks has, where the config says nothing
  // Elements of each array that a pass over several goes over at a time where another pass over the same ones
  // follows, so that they are in the caches still; 0: all of them.
  int64_t elements_at_once = 0;
  int64_t memory_unit = 256;  // bytes, of which its blocks of memory are whole numbers
  // Bytes of a weight [n, k] in a packed layout; none: as many as in a plain one.
  std::function<int64_t(DType type, const Shape& shape, Layout layout)> packed_size = {};

  int64_t packed_bytes(DType type, const Shape& shape, Layout layout) const {
    return packed_size ? packed_size(type, shape, layout) : shape.elements() * bytes_of(type);
  }
};

struct DeviceKernels : KernelRegistry {
  DeviceTraits traits;
};

}  // namespace toroid
