#include "core/device/cuda/sdpa_rule.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "core/base/round_up.h"
#include "core/op/attention.h"

namespace toroid::cuda {
namespace {

constexpr int64_t kUnit = 256;  // bytes, of which cuDNN's parts are whole numbers

bool is_gradient(const Call& call) {
  return call.kind == &op::attention_grad_kind;
}

// Each row of each head begins at a multiple of 16 bytes, as blocks do.
bool heads_are_aligned(const Tensor& t) {
  constexpr int64_t kVector = 8, kBytes = 16;
  return t.row_stride % kVector == 0 && t.offset_bytes % kBytes == 0;
}

}  // namespace

bool sdpa_takes(const Call& call) {
  constexpr int64_t kWidest = 256, kStep = 8;
  const auto& spec = call.get<op::AttentionSpec>();
  const std::vector<size_t> heads =
      is_gradient(call) ? std::vector<size_t>{0, 1, 2, 3, 4, 7, 8, 9} : std::vector<size_t>{0, 1, 2, 4};
  const size_t first = is_gradient(call) ? 1 : 0;  // q, then k
  return !call.tiles.deterministic && call[first].rows() > 0 &&
         call[first].rows() == call[first + 1].rows() && spec.head_dim % kStep == 0 &&
         spec.head_dim <= kWidest && spec.heads % spec.kv_heads == 0 && static_cast<bool>(call[5]) &&
         sdpa_workspace(call).bytes <= kMostSdpaBytes &&
         std::all_of(heads.begin(), heads.end(),
                     [&](size_t i) { return call[i].type == DType::bf16 && heads_are_aligned(call[i]); });
}

SdpaWorkspace sdpa_workspace(const Call& call) {
  const auto& spec = call.get<op::AttentionSpec>();
  const int64_t bf16 = bytes_of(DType::bf16), f32 = bytes_of(DType::f32);
  SdpaWorkspace out;
  out.kernel = kUnit;
  if (is_gradient(call)) {
    constexpr int64_t kQueries = 64, kKeys = 128;  // of a tile
    const int64_t T = call[1].rows() / spec.sequences;
    // dS, and where heads share keys dK and dV of each.
    out.kernel += round_up(spec.heads * round_up(T, kQueries) * round_up(T, kKeys) * bf16, kUnit);
    if (spec.heads != spec.kv_heads) out.kernel += 2 * round_up(spec.heads * T * spec.head_dim * bf16, kUnit);
    const int64_t numbers = round_up(spec.heads * T * f32, kUnit);
    out.sums = out.kernel;
    out.lse = out.sums + numbers;
    out.bytes = out.lse + numbers;
  } else {
    out.bytes = out.kernel;
  }
  return out;
}

}  // namespace toroid::cuda
