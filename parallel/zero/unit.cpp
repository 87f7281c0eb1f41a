#include "parallel/zero/unit.h"

#include "core/op/reduce.h"

namespace toroid {

Unit make_unit(UnitSpec spec) {
  Unit unit;
  unit.spec = std::move(spec);
  for (const TensorSpec& tensor : unit.spec.tensors) {
    const int64_t elements = tensor.shape.elements();
    unit.slices.push_back({unit.flat_elements, elements});
    unit.flat_elements += (elements + op::kReduceBlock - 1) / op::kReduceBlock * op::kReduceBlock;
  }
  return unit;
}

}  // namespace toroid
