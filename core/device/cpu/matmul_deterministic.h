// Products whose bits do not depend on how many rows, columns or threads there are (DESIGN section 4): every
// element is summed over the contracted dimension one term after the other by one fused multiply-add each,
// within a slice or a block of tokens, and those sums are added by a balanced binary tree in fp32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/op/op.h"

namespace toroid::cpu {

// Calls of matmul, matmul_dx and matmul_dw whose tiles are deterministic.
void run_deterministic(const Call& call, std::byte* workspace, int threads);
int64_t deterministic_workspace(const Call& call, int threads);

}  // namespace toroid::cpu
