// Norms, rotary embedding, activations, embedding and the elementwise kinds. M tokens, D d_model, F ffn
// hidden per branch, N query heads, K key/value heads, H head_dim, V vocabulary.
#include <cmath>

#include "core/op/activation.h"
#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/rope.h"
#include "tests/core/device/cuda/hash_cases.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16;
constexpr int64_t kLengths[] = {255, 4104};

void add_norms(HashCases& cases) {
  for (const DType type : kHashedTypes) {
    // One at a time, in vectors, and too long for registers.
    for (const int64_t D : {33, 1152, 8264}) {
      const int64_t M = D == 33 ? 37 : 3;
      const std::string name = text_of(type) + " D=" + std::to_string(D);
      cases.push_back({&op::rms_norm_kind, name, [=](FixedInputs& in) {
                         return op::rms_norm(in.numbers(1, type, {M, D}), in.numbers(2, type, {D}, 0.25),
                                             in.output(type, {M, D}), in.output(f32, {M}), {});
                       }});
      cases.push_back({&op::rms_norm_grad_kind, name, [=](FixedInputs& in) {
                         return op::rms_norm_grad(in.numbers(1, type, {M, D}), in.numbers(2, type, {M, D}),
                                                  in.numbers(3, type, {D}, 0.25),
                                                  in.positive(4, f32, {M}, 0.5), in.numbers(5, type, {M, D}),
                                                  in.output(type, {M, D}), in.numbers(6, f32, {D}),
                                                  in.output(type, {M, D}), {});
                       }});
      cases.push_back({&op::residual_add_kind, name, [=](FixedInputs& in) {
                         return op::residual_add(in.numbers(1, type, {M, D}), in.numbers(2, type, {M, D}),
                                                 in.numbers(3, type, {D}, 0.25), in.output(type, {M, D}),
                                                 in.output(f32, {M}), {});
                       }});
      cases.push_back({&op::residual_norm_kind, name, [=](FixedInputs& in) {
                         return op::residual_norm(in.numbers(1, type, {M, D}), in.numbers(2, type, {M, D}),
                                                  in.numbers(3, type, {D}, 0.25),
                                                  in.numbers(4, type, {D}, 0.25), in.output(type, {M, D}),
                                                  in.output(type, {M, D}), in.output(f32, {M}),
                                                  in.output(f32, {M}), {});
                       }});
    }
  }
}

void add_rope(HashCases& cases) {
  // The host takes the base to powers, by its own library: of this base they are powers of two.
  constexpr double kBase = 65536;
  cases.push_back(
      {&op::rope_table_kind, "f32", [](FixedInputs& in) {
         return op::rope_table(in.integers(1, {37}, 0, 8191), in.output(f32, {37, 32}), {kBase, 8});
       }});
  struct Heads {
    int64_t N, K, H;
  };
  for (const DType type : kHashedTypes) {
    for (const Heads heads : {Heads{2, 1, 34}, Heads{4, 2, 32}}) {
      for (const bool norm : {false, true}) {
        const int64_t M = norm ? 140 : 19, width = (heads.N + 2 * heads.K) * heads.H, H = heads.H;
        const op::RopeSpec spec{heads.N, heads.K, H, 1e-6};
        const std::string name = text_of(type) + " H=" + std::to_string(H) + (norm ? " with norms" : "");
        cases.push_back({&op::rope_kind, name, [=](FixedInputs& in) {
                           const Tensor qkv = in.numbers(1, type, {M, width}),
                                        table = in.numbers(2, f32, {M, H}), out = in.output(type, {M, width});
                           if (!norm) return op::rope(qkv, table, {}, {}, out, {}, spec);
                           return op::rope(qkv, table, in.numbers(3, type, {H}, 0.25),
                                           in.numbers(4, type, {H}, 0.25), out,
                                           in.output(f32, {M, heads.N + heads.K}), spec);
                         }});
        cases.push_back({&op::rope_grad_kind, name, [=](FixedInputs& in) {
                           const Tensor d_out = in.numbers(1, type, {M, width}),
                                        table = in.numbers(2, f32, {M, H}),
                                        d_qkv = in.output(type, {M, width});
                           if (!norm) return op::rope_grad(d_out, table, {}, {}, {}, {}, d_qkv, {}, {}, spec);
                           return op::rope_grad(d_out, table, in.numbers(3, type, {M, width}),
                                                in.numbers(4, type, {H}, 0.25),
                                                in.numbers(5, type, {H}, 0.25),
                                                in.positive(6, f32, {M, heads.N + heads.K}, 0.5), d_qkv,
                                                in.numbers(7, f32, {H}), in.numbers(8, f32, {H}), spec);
                         }});
      }
    }
  }
}

void add_activations(HashCases& cases) {
  for (const DType type : kHashedTypes) {
    for (const op::Activation activation : op::all_activations()) {
      for (const int64_t F : {33, 264}) {
        // These two have neither an exponential nor a quotient.
        const bool plain = activation == op::activation_of<op::activation::Relu> ||
                           activation == op::activation_of<op::activation::Relu2>;
        const bool gated = F == 264, exact = type == f32 || plain;
        const Shape pre{5, gated ? 2 * F : F};
        const std::string name =
            text_of(type) + " " + std::string(op::description_of(activation).name) + (gated ? " gated" : "");
        const op::ActivationSpec spec{activation, gated};
        cases.push_back({&op::activate_kind, name,
                         [=](FixedInputs& in) {
                           return op::activate(in.numbers(1, type, pre, 4), in.output(type, {5, F}), spec);
                         },
                         exact});
        cases.push_back({&op::activate_grad_kind, name,
                         [=](FixedInputs& in) {
                           return op::activate_grad(in.numbers(1, type, {5, F}), in.numbers(2, type, pre, 4),
                                                    in.output(type, pre), in.output(type, {5, F}), spec);
                         },
                         exact});
      }
    }
  }
}

void add_embedding(HashCases& cases) {
  const int64_t V = 13, first = 2, M = 130;  // some ids lie outside the slice of the vocabulary
  for (const DType type : kHashedTypes) {
    for (const int64_t D : {33, 264}) {
      const std::string name = text_of(type) + " D=" + std::to_string(D);
      cases.push_back({&op::embed_kind, name, [=](FixedInputs& in) {
                         return op::embed(in.integers(1, {M}, 0, V + 2 * first), in.numbers(2, f32, {V, D}),
                                          in.output(type, {M, D}), {55.4256, first});
                       }});
      cases.push_back({&op::embed_grad_kind, name, [=](FixedInputs& in) {
                         return op::embed_grad(in.integers(1, {M}, 0, V + 2 * first),
                                               in.numbers(2, type, {M, D}), in.numbers(3, f32, {V, D}),
                                               {55.4256, first});
                       }});
    }
  }
}

void add_elementwise(HashCases& cases) {
  const RandomKey key = random_key(7, Purpose::initialise, "a tensor");
  for (const int64_t n : kLengths) {
    const std::string size = " n=" + std::to_string(n);
    for (const DType type : kHashedTypes) {
      const std::string name = text_of(type) + size;
      cases.push_back(
          {&op::fill_kind, name, [=](FixedInputs& in) { return op::fill(in.output(type, {n}), {0.1}); }});
      cases.push_back({&op::softcap_kind, name, [=](FixedInputs& in) {
                         return op::softcap(in.numbers(1, type, {3, n}, 32), in.output(type, {3, n}), {30});
                       }});
      // In vectors where the first number begins a block of four.
      cases.push_back({&op::init_normal_kind, name, [=](FixedInputs& in) {
                         return op::init_normal(in.output(type, {n}), {key, n % 8 == 0 ? 4096 : 4097, 0.02});
                       }});
      cases.push_back({&op::pack_kind, name, [=](FixedInputs& in) {
                         const Tensor parts[] = {in.numbers(1, f32, {3, n}), in.numbers(2, f32, {1, n})};
                         return op::pack(parts, in.output(type, {4, n}));
                       }});
      for (const DType from : kHashedTypes) {
        const std::string both = text_of(from) + " to " + name;
        cases.push_back({&op::add_kind, both, [=](FixedInputs& in) {
                           return op::add(in.numbers(1, from, {n}), in.numbers(2, type, {n}));
                         }});
        cases.push_back({&op::cast_kind, both, [=](FixedInputs& in) {
                           return op::cast(in.numbers(1, from, {5, n}, 1, n + 3), in.output(type, {5, n}));
                         }});
        cases.push_back({&op::combine_kind, both, [=](FixedInputs& in) {
                           return op::combine(in.numbers(1, from, {n}), in.numbers(2, f32, {n}),
                                              in.output(type, {n}), {-4.775, 2.0315});
                         }});
      }
    }
  }
  // Nothing is flushed to zero, neither on the way in nor on the way out.
  cases.push_back({&op::add_kind, "f32 denormal", [](FixedInputs& in) {
                     return op::add(in.numbers(1, f32, {255}, 0x1p-127), in.numbers(2, f32, {255}, 0x1p-127));
                   }});
  cases.push_back({&op::combine_kind, "f32 denormal", [](FixedInputs& in) {
                     return op::combine(in.numbers(1, f32, {255}, 0x1p-127),
                                        in.numbers(2, f32, {255}, 0x1p-124), in.output(f32, {255}),
                                        {0.3, -0.7});
                   }});
  // Halfway between two of bf16, past its largest, below its least, and what is no number.
  cases.push_back({&op::cast_kind, "f32 to bf16 at the ends", [](FixedInputs& in) {
                     return op::cast(in.filled(f32, {11},
                                               {INFINITY, -INFINITY, NAN, 0.0, -0.0, 3.4e38, -3.4e38,
                                                1 + 0x1p-8, 1 + 3 * 0x1p-8, 0x1p-134, 0x1p-140}),
                                     in.output(bf16, {11}));
                   }});
}

}  // namespace

void add_layer_hash_cases(HashCases& cases) {
  add_norms(cases);
  add_rope(cases);
  add_activations(cases);
  add_embedding(cases);
  add_elementwise(cases);
}

}  // namespace toroid::testing
