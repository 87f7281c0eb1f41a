// How products of bf16 tensors are computed, and which way this machine does fast.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/device/cpu/instruction_set.h"
#include "core/tensor/dtype.h"

namespace toroid {

// native: by the processor's bf16 instructions (AMX, AVX-512 bf16). widened: operands are converted to fp32,
// of a packed weight one panel of columns at a time, and multiplied by fp32 instructions. Both accumulate in
// fp32; the exact product of two bf16 values fits in fp32, so they differ in the order of sums alone, and
// where a kernel keeps a result between two products in bf16 (native) or in fp32 (widened).
enum class Bf16Products : uint8_t { native, widened };
std::string_view name_of(Bf16Products products);  // "NATIVE", "WIDENED": as configs have it

namespace cpu {

// FLOP/s of one core whose operands are in registers. 0: no such instruction under the cap (onednn.h).
struct RegisterRates {
  double bf16 = 0;  // AVX-512's dot products
  double fp32 = 0;  // multiply-adds
};
// Some ten milliseconds: the best of several rounds in the thread's own time, so that other programs on the
// machine change little.
RegisterRates measure_register_rates();

// AMX is native, a machine without bf16 instructions widens, and between those the faster instruction wins:
// there are processors (Xeons whose AMX a guest is not given) on which a bf16 dot product starts every second
// cycle, where two fp32 multiply-adds start in each.
Bf16Products faster_products(Isa isa, const RegisterRates& rates);
// Of this machine under its cap; measured once a process, where it has to be.
Bf16Products fastest_products();
// Whether this machine has instructions for native products.
bool has_native_products();

// The type in which products of tensors of `type` are computed.
inline DType product_type(DType type, Bf16Products products) {
  return type == DType::bf16 && products == Bf16Products::native ? DType::bf16 : DType::f32;
}

}  // namespace cpu
}  // namespace toroid
