// A decoder layer with explicit forward and backward passes (Gemma report section 2; docs/design.md section
// 4):
//   mid = x + [norm] Attention(norm x);  out = mid + [norm] MLP(norm mid)
// or, of parallel layers (MaxText, 2023), with one norm whose output both branches read:
//   out = x + Attention(norm x) + MLP(norm x)
// The layer is one function from a slot to its value. The forward pass asks for `out`; the backward pass asks
// for what its operators need; a slot that did not survive is computed again from those that did.
//
// Along a model axis of m ranks each rank holds N / m query heads and F / m ffn columns of all M = B T
// tokens, and M / m consecutive tokens ("own", o = M / m) of everything between blocks. Rows are gathered
// before the products with a split matrix and the partial sums of the split contractions are scattered after,
// a part of each product while other rows travel. What the backward pass multiplies with gathered rows comes
// from those that it gathered to compute products again, from kept ones, or is gathered once more; products
// that a sum on its way does not need go before what waits for it. Key/value heads are split where there are
// enough, else computed on own tokens and gathered. The branches of a parallel layer share what is gathered
// and scattered; slots from `projected` to `rstd2`, `down` and `rstd_post2` are not made.
#pragma once

#include <array>
#include <string>

#include "core/model/context.h"
#include "core/op/rope.h"

namespace toroid {

enum class Slot : uint8_t {
  x,        // [o, D] the layer's input, the residual stream
  h1,       // [o, D] norm of x
  all_h1,   // [M, D] of all ranks; of a model that is whole there is none
  rstd1,    // f32[o]
  qkv,      // [M, (N + 2K) H]; rotated in place unless the model norms queries and keys; whole keys: [M, N H]
  rotated,  // the same, normed and rotated (QK-norm only)
  rstd_qk,  // f32[M, N + K], or f32[M, N] (QK-norm only)
  kv,       // whole keys and values: [o, 2K H], rotated in place as qkv
  rstd_k,   // f32[o, K] (QK-norm only)
  all_kv,   // [M, 2K H]: the same of all tokens, rotated
  attended,   // [M, N H]
  lse,        // f32[N, M]
  projected,  // [o, D] output projection, before its post-norm (post-norm only)
  rstd_post1,
  mid,     // [o, D]
  h2,      // [o, D] norm of mid
  all_h2,  // [M, D] as all_h1
  rstd2,   // f32[o]
  pre,     // [M, 2F] or [M, F]
  act,     // [M, F]
  down,    // [o, D] before its post-norm (post-norm only)
  rstd_post2,
  count
};
inline constexpr size_t kSlots = static_cast<size_t>(Slot::count);

// Which slots survive the forward pass.
class Keep {
 public:
  constexpr Keep() = default;
  constexpr Keep with(Slot slot) const { return Keep(bits_ | bit(slot)); }
  constexpr Keep without(Slot slot) const { return Keep(bits_ & ~bit(slot)); }
  constexpr bool has(Slot slot) const { return (bits_ & bit(slot)) != 0; }
  static Keep all();    // but what is gathered
  static Keep cheap();  // not norms, activations: what costs no product to compute again
  static Keep input();  // x alone
  // And the gathered inputs of products, in place of own rows.
  Keep gathered() const { return with(Slot::all_h1).with(Slot::all_h2).without(Slot::h1).without(Slot::h2); }

 private:
  constexpr explicit Keep(uint32_t bits) : bits_(bits) {}
  static constexpr uint32_t bit(Slot slot) { return uint32_t{1} << static_cast<unsigned>(slot); }
  uint32_t bits_ = 0;
};

struct Saved {
  std::array<Array, kSlots> slots;
  Array& operator[](Slot slot) { return slots[static_cast<size_t>(slot)]; }
};

// Keys and values of earlier tokens of each sequence, for generation: k and v [B S, K H].
struct Cache {
  Tensor k, v;
  int64_t capacity = 0, length = 0;  // tokens a sequence
};

class Layer {
 public:
  Layer(const DecoderConfig& config, int64_t index);

  // [o, D] -> [o, D]; what `keep` names stays in `saved`.
  Array forward(Context& c, const Weights& w, const Microbatch& batch, Array x, Saved& saved,
                Keep keep) const;
  // d_out[o, D] -> d_x[o, D]; `saved` is used up.
  Array backward(Context& c, const Weights& w, const Microbatch& batch, Array d_out, Saved& saved,
                 std::span<Gradient> gradients) const;
  // One sequence of batch.tokens new tokens after cache.length earlier ones, which are appended to the cache.
  Array extend(Context& c, const Weights& w, const Microbatch& batch, Array x, Cache& cache) const;

 private:
  class Pass;
  Array serial_backward(Pass& pass, Array d_out, std::span<Gradient> gradients) const;
  Array parallel_backward(Pass& pass, Array d_out, std::span<Gradient> gradients) const;
  void activation_backward(Pass& pass, const Tensor& d_down, Array d_act,
                           std::span<Gradient> gradients) const;
  // Gradients of queries, keys and values, rotated still. `kv`, fp32: of whole keys and values, on their own.
  struct HeadGradients {
    Array qkv, kv;
  };
  HeadGradients heads_backward(Pass& pass, Array d_attended) const;
  // From there, and from that of a parallel layer's `pre`, to that of the layer's input; adds `d_skip`.
  Array input_backward(Pass& pass, HeadGradients d_heads, const Tensor& d_pre, const Tensor& d_skip,
                       std::span<Gradient> gradients) const;
  // What was rotated, of queries, keys or both: by which table, and what their norm left.
  struct Turn {
    Tensor table;
    Slot before, rstd;
    op::RopeSpec spec;
    int64_t slices = 1;
  };
  void turn_back(Pass& pass, const Tensor& d, const Turn& turn, std::span<Gradient> gradients) const;

  const DecoderConfig& config_;
  std::string name_;
  bool local_;
};

}  // namespace toroid
