// Fill, add, cast and the normal initialiser.
#pragma once

#include "core/base/random.h"
#include "core/op/op.h"

namespace toroid::op {

extern const OpKind fill_kind, add_kind, cast_kind, init_normal_kind;

struct FillSpec {
  double value = 0;
};
Call fill(const Tensor& x, FillSpec spec);
// y += x (float types may differ: computed in fp32, rounded to y's type)
Call add(const Tensor& x, const Tensor& y);
// y = x rounded to y's type; rows may be strided
Call cast(const Tensor& x, const Tensor& y);

// x[i] = stddev * normal(key, first + i) with core/base/random.h's generator.
struct InitSpec {
  RandomKey key;
  int64_t first = 0;
  double stddev = 0.02;
};
Call init_normal(const Tensor& x, InitSpec spec);

}  // namespace toroid::op
