#include "parallel/zero/check.h"

#include "core/base/range.h"
#include "parallel/zero/zero.pb.h"

namespace toroid::zero {

void check(const config::ZeroConfig& zero) {
  check_range("zero.stage", zero.stage(), 0, 3);
  check_range("zero.prefetch", zero.prefetch(), 0, 64);
  check_range("zero.whole_below", zero.whole_below(), 0, int64_t{1} << 50);
  check_range("zero.max_live", zero.max_live(), 0, int64_t{1} << 50);
}

}  // namespace toroid::zero
