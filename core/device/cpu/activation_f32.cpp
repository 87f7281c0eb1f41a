#include "core/device/cpu/activation_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/activation_f32.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

void f32_rows(const ActivationRows& rows, int64_t first, int64_t last) {
  activation_rows_as<float>(rows, first, last);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {
HWY_EXPORT(f32_rows);
}  // namespace

void activation_rows_f32(const ActivationRows& rows, int64_t first, int64_t last) {
  HWY_DYNAMIC_DISPATCH(f32_rows)(rows, first, last);
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
