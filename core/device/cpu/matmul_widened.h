// Products with a weight that is stored as bf16 and multiplied as fp32 (bf16_products.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/op/op.h"

namespace toroid::cpu {

// Calls of matmul and matmul_dx whose weight is bf16, outside deterministic mode.
void run_widened(const Call& call, std::byte* workspace, int threads);
int64_t widened_workspace(const Call& call, int threads);

}  // namespace toroid::cpu
