// Norms, rotary embedding, activations, embedding and the small elementwise kinds. M tokens, D d_model, F ffn
// hidden per branch, N query heads, K key/value heads, H head_dim, V vocabulary.
#include <algorithm>
#include <cmath>

#include "core/op/activation.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/norm.h"
#include "core/op/rope.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16};
constexpr int64_t kWidths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 65, 127, 257, 1152};

Tolerance sum_of(int64_t terms) {
  return {.length = static_cast<double>(terms)};
}

TEST_P(KernelContract, rms_norm) {
  if (!has(op::rms_norm_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const DType weight : kTypes) {
      for (const int64_t D : kWidths) {
        for (const int64_t M : {0, 1, 5}) {
          expect_agreement(
              [&](Workbench& bench) {
                const Tensor rstd = M == 1 ? Tensor{} : bench.output(DType::f32, {M});
                return op::rms_norm(bench.normal(type, {M, D}), bench.normal(weight, {D}, 0.3),
                                    bench.output(type, {M, D}), rstd, {});
              },
              sum_of(D));
        }
      }
    }
  }
}

TEST_P(KernelContract, rms_norm_grad) {
  if (!has(op::rms_norm_grad_kind)) GTEST_SKIP();
  enum Variant { plain, with_skip, onto_dy, onto_skip };
  for (const DType type : kTypes) {
    for (const int64_t D : kWidths) {
      for (const int64_t M : {0, 1, 5, 130}) {
        if (M == 130 && D > 65) continue;
        for (const Variant variant : {plain, with_skip, onto_dy, onto_skip}) {
          expect_agreement(
              [&](Workbench& bench) {
                const Tensor dy = bench.normal(type, {M, D}), x = bench.normal(type, {M, D});
                const Tensor w = bench.normal(type, {D}, 0.3), rstd = bench.output(DType::f32, {M});
                const Call forward = op::rms_norm(x, w, bench.output(type, {M, D}), rstd, {});
                forward.kind->reference(forward);
                Tensor skip, dx = bench.output(type, {M, D});
                if (variant == with_skip || variant == onto_skip) skip = bench.normal(type, {M, D});
                if (variant == onto_skip) dx = skip;
                if (variant == onto_dy) dx = dy;
                const Tensor y = variant == plain ? Tensor{} : bench.output(type, {M, D});
                return op::rms_norm_grad(dy, x, w, rstd, skip, dx, bench.normal(DType::f32, {D}), y, {});
              },
              // Of a single element nothing but rounding is left.
              {.length = static_cast<double>(M + D), .scale = D == 1 ? 100.0 : 0.0},
              "variant " + std::to_string(variant));
        }
      }
    }
  }
}

TEST_P(KernelContract, residual_add) {
  if (!has(op::residual_add_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const int64_t D : kWidths) {
      for (const int64_t M : {0, 1, 5}) {
        for (const bool post : {false, true}) {
          for (const bool in_place : {false, true}) {
            expect_agreement(
                [&](Workbench& bench) {
                  const Tensor x = bench.normal(type, {M, D}), f = bench.normal(type, {M, D});
                  const Tensor w = post ? bench.normal(type, {D}, 0.3) : Tensor{};
                  const Tensor rstd = post ? bench.output(DType::f32, {M}) : Tensor{};
                  return op::residual_add(x, f, w, in_place ? x : bench.output(type, {M, D}), rstd, {});
                },
                {.length = static_cast<double>(D), .intermediate = post ? type : DType::f32});
          }
        }
      }
    }
  }
}

TEST_P(KernelContract, residual_norm) {
  if (!has(op::residual_norm_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const int64_t D : kWidths) {
      for (const int64_t M : {0, 1, 5}) {
        for (const bool post : {false, true}) {
          expect_agreement(
              [&](Workbench& bench) {
                const Tensor x = bench.normal(type, {M, D}), f = bench.normal(type, {M, D});
                const Tensor w_post = post ? bench.normal(type, {D}, 0.3) : Tensor{};
                const Tensor rstd_post = post ? bench.output(DType::f32, {M}) : Tensor{};
                return op::residual_norm(x, f, w_post, bench.normal(type, {D}, 0.3),
                                         bench.output(type, {M, D}), bench.output(type, {M, D}),
                                         bench.output(DType::f32, {M}), rstd_post, {});
              },
              // The norm may be taken of the sum before or after its rounding.
              {.length = static_cast<double>(D), .intermediate = type});
        }
      }
    }
  }
}

struct Heads {
  int64_t N, K, H;
};
constexpr Heads kHeads[] = {{1, 1, 2},  {2, 1, 6},   {3, 3, 16}, {4, 2, 32}, {2, 1, 34},
                            {8, 1, 64}, {2, 1, 256}, {4, 0, 16}, {0, 3, 8}};

op::RopeSpec spec_of(const Heads& heads) {
  return {heads.N, heads.K, heads.H, 1e-6};
}

// Positions that the table's angles must bear: up to the report's context.
Tensor rope_table_of(Workbench& bench, int64_t M, int64_t H) {
  const Tensor table = bench.output(DType::f32, {M, H});
  const Call call = op::rope_table(bench.integers({M}, 0, 8191), table, {});
  call.kind->reference(call);
  return table;
}

TEST_P(KernelContract, rope_table) {
  if (!has(op::rope_table_kind)) GTEST_SKIP();
  for (const double base : {10000.0, 1e6, 100.0}) {
    for (const double scale : {1.0, 8.0}) {
      for (const int64_t H : {2, 6, 16, 34, 64, 256}) {
        for (const int64_t M : {0, 1, 37}) {
          expect_agreement(
              [&](Workbench& bench) {
                return op::rope_table(bench.integers({M}, 0, 8191), bench.output(DType::f32, {M, H}),
                                      {base, scale});
              },
              {});
        }
      }
    }
  }
}

TEST_P(KernelContract, rope) {
  if (!has(op::rope_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const Heads& heads : kHeads) {
      for (const int64_t M : {0, 1, 19}) {
        for (const bool norm : {false, true}) {
          for (const bool in_place : {false, true}) {
            if (norm && in_place) continue;
            expect_agreement(
                [&](Workbench& bench) {
                  const int64_t width = (heads.N + 2 * heads.K) * heads.H;
                  const Tensor qkv = bench.normal(type, {M, width});
                  const Tensor table = rope_table_of(bench, M, heads.H);
                  const Tensor out = in_place ? qkv : bench.output(type, {M, width});
                  if (!norm) return op::rope(qkv, table, {}, {}, out, {}, spec_of(heads));
                  return op::rope(qkv, table, bench.normal(type, {heads.H}, 0.3),
                                  bench.normal(type, {heads.H}, 0.3), out,
                                  bench.output(DType::f32, {M, heads.N + heads.K}), spec_of(heads));
                },
                {.length = static_cast<double>(heads.H), .intermediate = norm ? type : DType::f32});
          }
        }
      }
    }
  }
}

TEST_P(KernelContract, rope_grad) {
  if (!has(op::rope_grad_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const Heads& heads : kHeads) {
      for (const int64_t M : {0, 1, 19, 140}) {
        for (const bool norm : {false, true}) {
          if (M == 140 && !norm) continue;  // only the weights' gradients sum over tokens
          for (const bool in_place : {false, true}) {
            expect_agreement(
                [&](Workbench& bench) {
                  const int64_t width = (heads.N + 2 * heads.K) * heads.H;
                  const Tensor d_out = bench.normal(type, {M, width});
                  const Tensor table = rope_table_of(bench, M, heads.H);
                  const Tensor d_qkv = in_place ? d_out : bench.output(type, {M, width});
                  if (!norm) {
                    return op::rope_grad(d_out, table, {}, {}, {}, {}, d_qkv, {}, {}, spec_of(heads));
                  }
                  const Tensor qkv = bench.normal(type, {M, width}), wq = bench.normal(type, {heads.H}, 0.3),
                               wk = bench.normal(type, {heads.H}, 0.3),
                               rstd = bench.output(DType::f32, {M, heads.N + heads.K});
                  const Call forward =
                      op::rope(qkv, table, wq, wk, bench.output(type, {M, width}), rstd, spec_of(heads));
                  forward.kind->reference(forward);
                  return op::rope_grad(d_out, table, qkv, wq, wk, rstd, d_qkv,
                                       bench.normal(DType::f32, {heads.H}),
                                       bench.normal(DType::f32, {heads.H}), spec_of(heads));
                },
                sum_of(heads.H + M * std::max(heads.N, heads.K)));
          }
        }
      }
    }
  }
}

TEST_P(KernelContract, activate) {
  if (!has(op::activate_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const op::Activation activation : op::all_activations()) {
      for (const bool gated : {true, false}) {
        for (const int64_t F : kWidths) {
          for (const int64_t M : {0, 1, 5}) {
            expect_agreement(
                [&](Workbench& bench) {
                  return op::activate(bench.normal(type, {M, gated ? 2 * F : F}, 4),
                                      bench.output(type, {M, F}), {activation, gated});
                },
                {});
          }
        }
      }
    }
  }
}

TEST_P(KernelContract, activate_grad) {
  if (!has(op::activate_grad_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const op::Activation activation : op::all_activations()) {
      for (const bool gated : {true, false}) {
        for (const int64_t F : kWidths) {
          for (const int64_t M : {0, 1, 5}) {
            for (const bool in_place : {false, true}) {
              expect_agreement(
                  [&](Workbench& bench) {
                    const Tensor d_act = bench.normal(type, {M, F});
                    const Tensor pre = bench.normal(type, {M, gated ? 2 * F : F}, 4);
                    const Tensor d_pre = in_place ? pre : bench.output(type, pre.shape);
                    const Tensor act = in_place ? bench.output(type, {M, F}) : Tensor{};
                    return op::activate_grad(d_act, pre, d_pre, act, {activation, gated});
                  },
                  {});
            }
          }
        }
      }
    }
  }
}

// Far tails: no overflow on the way, exact zeros and passes at the ends.
TEST_P(KernelContract, activate_far_out) {
  if (!has(op::activate_kind)) GTEST_SKIP();
  for (const op::Activation activation : op::all_activations()) {
    expect_agreement(
        [&](Workbench& bench) {
          const Tensor pre = bench.filled(DType::f32, {1, 12},
                                          {-1e4, -100, -20, -9.5, -1e-8, -0.0, 0.0, 1e-8, 9.5, 20, 100, 1e4});
          return op::activate(pre, bench.output(DType::f32, {1, 12}), {activation, false});
        },
        {}, "far out");
  }
}

TEST_P(KernelContract, embed) {
  if (!has(op::embed_kind)) GTEST_SKIP();
  const int64_t V = 37, first = 5;
  for (const DType type : kTypes) {
    for (const DType table : kTypes) {
      for (const int64_t D : kWidths) {
        for (const int64_t M : {0, 1, 50}) {
          expect_agreement(
              [&](Workbench& bench) {  // some ids lie outside the slice of the vocabulary
                return op::embed(bench.integers({M}, 0, V + 2 * first), bench.normal(table, {V, D}),
                                 bench.output(type, {M, D}), {std::sqrt(3072.0), first});
              },
              {});
        }
      }
    }
  }
}

TEST_P(KernelContract, embed_grad) {
  if (!has(op::embed_grad_kind)) GTEST_SKIP();
  const int64_t V = 13, first = 2;
  for (const DType type : kTypes) {
    for (const int64_t D : kWidths) {
      for (const int64_t M : {0, 1, 130}) {
        expect_agreement(
            [&](Workbench& bench) {
              return op::embed_grad(bench.integers({M}, 0, V + 2 * first), bench.normal(type, {M, D}),
                                    bench.normal(DType::f32, {V, D}), {std::sqrt(3072.0), first});
            },
            sum_of(M));
      }
    }
  }
}

TEST_P(KernelContract, softcap) {
  if (!has(op::softcap_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const int64_t n : kOddSizes) {
      for (const bool in_place : {false, true}) {
        expect_agreement(
            [&](Workbench& bench) {
              const Tensor x = bench.normal(type, {3, n}, 40);
              return op::softcap(x, in_place ? x : bench.output(type, {3, n}), {30});
            },
            {});
      }
    }
  }
}

TEST_P(KernelContract, fill) {
  if (!has(op::fill_kind)) GTEST_SKIP();
  for (const DType type : kTypes) {
    for (const int64_t n : kOddSizes) {
      expect_agreement(
          [&](Workbench& bench) { return op::fill(bench.output(type, {n}), {n % 2 ? 0.1 : 0.0}); }, {});
    }
  }
}

TEST_P(KernelContract, add) {
  if (!has(op::add_kind)) GTEST_SKIP();
  for (const DType from : kTypes) {
    for (const DType to : kTypes) {
      for (const int64_t n : kOddSizes) {
        expect_agreement(
            [&](Workbench& bench) { return op::add(bench.normal(from, {n}), bench.normal(to, {n})); }, {});
      }
    }
  }
}

TEST_P(KernelContract, cast) {
  if (!has(op::cast_kind)) GTEST_SKIP();
  for (const DType from : kTypes) {
    for (const DType to : kTypes) {
      for (const int64_t n : kOddSizes) {
        expect_agreement(
            [&](Workbench& bench) { return op::cast(bench.normal(from, {n}), bench.output(to, {n})); }, {});
        expect_agreement(
            [&](Workbench& bench) {
              return op::cast(bench.normal(from, {5, n}, 1, n + 3), bench.output(to, {5, n}));
            },
            {}, "strided");
        expect_agreement(
            [&](Workbench& bench) {
              return op::cast(bench.normal(from, {5, n}), bench.output(to, {5, n}, n + 3));
            },
            {}, "into strided rows");
      }
    }
  }
}

// Rounding is to nearest even on every instruction set, and what is not a number stays so.
TEST_P(KernelContract, cast_rounds_to_nearest_even) {
  if (!has(op::cast_kind)) GTEST_SKIP();
  std::vector<double> values{INFINITY, -INFINITY, NAN, 0.0, -0.0, 3.4e38, 1e-40};
  for (int i = 0; i < 64; ++i) values.push_back(1 + i * 0x1p-9);  // every quarter of a bf16 step
  Workbench bench(devices());
  const auto n = static_cast<int64_t>(values.size());
  const Tensor x = bench.filled(DType::f32, {n}, values), y = bench.output(DType::bf16, {n});
  bench.run(op::cast(x, y));
  for (int64_t i = 0; i < n; ++i) {
    const float want = from_bf16(to_bf16(x.as<float>()[i])), got = from_bf16(y.as<uint16_t>()[i]);
    EXPECT_TRUE(got == want || (std::isnan(got) && std::isnan(want)))
        << x.as<float>()[i] << " became " << got << ", not " << want;
  }
}

TEST_P(KernelContract, init_normal) {
  if (!has(op::init_normal_kind)) GTEST_SKIP();
  const RandomKey key = random_key(7, Purpose::initialise, "a tensor");
  for (const DType type : kTypes) {
    for (const int64_t first : {0, 1, 2, 3, 6, 4097}) {
      for (const int64_t n : kOddSizes) {
        expect_agreement(
            [&](Workbench& bench) {
              return op::init_normal(bench.output(type, {n}), {key, first, 0.02});
            },
            {});
      }
    }
  }
}

}  // namespace
}  // namespace toroid::testing
