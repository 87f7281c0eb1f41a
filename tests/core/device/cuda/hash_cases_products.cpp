// Products of deterministic mode, attention by Toroid's own kernels, and the loss, whose products are those
// of deterministic mode: all else of them is the libraries'. m rows, n outputs, k inputs; B sequences of T
// tokens, N query heads, K key/value heads, H head_dim; M tokens, V vocabulary, D d_model.
#include "core/op/attention.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/symmetric_product.h"
#include "tests/core/device/cuda/hash_cases.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;

Call in_tiles(Call call, int64_t slices) {
  call.tiles = {true, slices, 16};
  return call;
}

void add_products(HashCases& cases) {
  struct Size {
    int64_t m, n, k, slices;
  };
  for (const DType type : kHashedTypes) {
    for (const Size size : {Size{17, 33, 65, 3}, Size{37, 96, 160, 4}}) {
      const auto [m, n, k, slices] = size;
      const std::string name = text_of(type) + " k=" + std::to_string(k);
      cases.push_back(
          {&op::matmul_kind, name, [=, m = m, n = n, k = k, slices = slices](FixedInputs& in) {
             const Tensor w = in.packed(in.numbers(1, type, {n, k}), Layout::packed_forward);
             return in_tiles(op::matmul(in.numbers(2, type, {m, k}), w, in.output(type, {m, n})), slices);
           }});
      cases.push_back(
          {&op::matmul_dx_kind, name, [=, m = m, n = n, k = k, slices = slices](FixedInputs& in) {
             const Tensor w = in.packed(in.numbers(1, type, {n, k}), Layout::packed_backward);
             return in_tiles(op::matmul_dx(in.numbers(2, type, {m, n}), w, in.output(type, {m, k})), slices);
           }});
      cases.push_back({&op::matmul_dw_kind, name, [=, m = m, n = n, k = k, slices = slices](FixedInputs& in) {
                         return in_tiles(
                             op::matmul_dw(in.numbers(1, type, {m, n}), in.numbers(2, type, {m, k}),
                                           in.numbers(3, f32, {n, k}), {true}),
                             slices);
                       }});
    }
    for (const bool transposed : {false, true}) {
      const std::string name = text_of(type) + (transposed ? " transposed" : "");
      cases.push_back({&op::symmetric_product_kind, name, [=](FixedInputs& in) {
                         const Tensor a = in.numbers(1, type, transposed ? Shape{96, 65} : Shape{65, 96});
                         return in_tiles(op::symmetric_product(a, a, in.numbers(2, type, {65, 65}),
                                                               in.output(type, {65, 65}),
                                                               {transposed, 2.0315, -4.775, 3.4445}),
                                         1);
                       }});
    }
  }
}

void add_attention(HashCases& cases) {
  struct Size {
    int64_t B, T, N, K, H;
    int64_t window = 0;
    double softcap = 0;
  };
  for (const DType type : kHashedTypes) {
    for (const Size& size : {Size{2, 77, 4, 2, 16}, Size{1, 130, 2, 1, 104, 33, 5}}) {
      for (const int64_t slices : {0, 2}) {  // 0: the fast mode
        const int64_t M = size.B * size.T, q = size.N * size.H, kv = size.K * size.H;
        const op::AttentionSpec spec{size.B, size.N, size.K, size.H, 0.25, size.window, size.softcap};
        const std::string name =
            text_of(type) + " H=" + std::to_string(size.H) + (slices > 0 ? " in tiles" : "");
        // Documents begin at the first token and at the thirtieth.
        std::vector<int64_t> starts;
        for (int64_t m = 0; m < M; ++m) starts.push_back(m % size.T < 30 ? 0 : 30);
        const bool exact = type == f32;
        cases.push_back({&op::attention_kind, name,
                         [=](FixedInputs& in) {
                           const Call call =
                               op::attention(in.numbers(1, type, {M, q}), in.numbers(2, type, {M, kv}),
                                             in.numbers(3, type, {M, kv}), in.integers({M}, starts),
                                             in.output(type, {M, q}), in.output(f32, {size.N, M}), spec);
                           return slices > 0 ? in_tiles(call, slices) : call;
                         },
                         exact});
        cases.push_back({&op::attention_grad_kind, name,
                         [=](FixedInputs& in) {
                           const Call call = op::attention_grad(
                               in.numbers(1, type, {M, q}), in.numbers(2, type, {M, q}),
                               in.numbers(3, type, {M, kv}), in.numbers(4, type, {M, kv}),
                               in.numbers(5, type, {M, q}), in.positive(6, f32, {size.N, M}, 4),
                               in.integers({M}, starts), in.output(type, {M, q}), in.output(type, {M, kv}),
                               in.output(type, {M, kv}), spec);
                           return slices > 0 ? in_tiles(call, slices) : call;
                         },
                         exact});
      }
    }
  }
}

void add_losses(HashCases& cases) {
  constexpr int64_t M = 33, V = 131, D = 40, kSlices = 4, kBlock = 16;
  for (const DType type : kHashedTypes) {
    for (const double softcap : {0.0, 3.0}) {
      const std::string name = text_of(type) + (softcap > 0 ? " soft-capped" : "");
      const op::LossPartSpec part{softcap, kBlock, 33, 129};
      const auto table = [=](FixedInputs& in) { return in.numbers(5, type, {V, D}, 0.25); };
      cases.push_back({&op::loss_kind, name, [=](FixedInputs& in) {
                         return in_tiles(
                             op::loss(in.numbers(1, type, {M, D}),
                                      in.packed(table(in), Layout::packed_forward),
                                      in.integers(2, {M}, -1, V - 1), in.output(f32, {M}), {softcap, kBlock}),
                             kSlices);
                       }});
      cases.push_back({&op::loss_grad_kind, name, [=](FixedInputs& in) {
                         const Tensor E = table(in);
                         return in_tiles(
                             op::loss_grad(in.numbers(1, type, {M, D}), in.packed(E, Layout::packed_forward),
                                           in.packed(E, Layout::packed_backward),
                                           in.integers(2, {M}, -1, V - 1), in.filled(f32, {1}, {1.0 / 32}),
                                           in.output(f32, {M}), in.output(type, {M, D}),
                                           in.numbers(3, f32, {V, D}, 0x1p-6), {softcap, kBlock}),
                             kSlices);
                       }});
      cases.push_back({&op::loss_statistics_kind, name, [=](FixedInputs& in) {
                         return in_tiles(op::loss_statistics(in.numbers(1, type, {M, D}),
                                                             in.packed(table(in), Layout::packed_forward),
                                                             in.integers(2, {M}, -1, 2 * V),
                                                             in.output(f32, {3 * kSlices, M}), part),
                                         kSlices);
                       }});
      cases.push_back(
          {&op::loss_part_grad_kind, name, [=](FixedInputs& in) {
             const Tensor E = table(in);
             return in_tiles(
                 op::loss_part_grad(in.numbers(1, type, {M, D}), in.packed(E, Layout::packed_forward),
                                    in.packed(E, Layout::packed_backward), in.integers(2, {M}, -1, 2 * V),
                                    in.filled(f32, {1}, {1.0 / 32}), in.positive(3, f32, {2, M}, 4),
                                    in.output(f32, {M, D}), in.numbers(4, f32, {V, D}, 0x1p-6), part),
                 kSlices);
           }});
    }
  }
  cases.push_back({&op::loss_merge_kind, "f32", [](FixedInputs& in) {
                     return op::loss_merge(in.positive(1, f32, {3 * kSlices, M}, 4),
                                           in.integers(2, {M}, -1, 5), in.output(f32, {M}),
                                           in.output(f32, {2, M}));
                   }});
}

}  // namespace

void add_product_hash_cases(HashCases& cases) {
  add_products(cases);
  add_attention(cases);
  add_losses(cases);
}

}  // namespace toroid::testing
