#include "core/model/context.h"

#include "core/op/elementwise.h"

namespace toroid {

void Context::launch(Call call, int64_t slices) const {
  call.phase = phase;
  call.tiles = tiles;
  call.tiles.slices = tiles.deterministic ? slices : 1;
  device.launch(call);
}

void begin_adding(const Context& c, Gradient& gradient) {
  if (gradient.fresh) c.launch(op::fill(gradient.tensor, {0}));
  gradient.fresh = false;
}

}  // namespace toroid
