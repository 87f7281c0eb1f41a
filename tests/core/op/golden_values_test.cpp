// Published values of single operators (docs of their sources in each test), and operators by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string_view>

#include "core/base/error.h"
#include "core/op/activation.h"
#include "core/op/attention.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/kinds.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/reduce.h"
#include "core/op/reference.h"
#include "core/op/rope.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32;

void run(const Call& call) {
  call.kind->reference(call);
}

void expect_values(const Tensor& tensor, const std::vector<double>& want, double tolerance) {
  const std::vector<double> got = op::load(tensor);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << "element " << i;
}

// google-deepmind/gemma, gm/nn/_layers_test.py
TEST(GoldenValues, rms_norm) {
  Workbench bench;
  const Tensor y = bench.output(f32, {1, 2});
  run(op::rms_norm(bench.filled(f32, {1, 2}, {0.1, 0.2}), bench.filled(f32, {2}, {0, 0}), y, {}, {}));
  expect_values(y, {0.6324429, 1.2648858}, 1e-6);
}

// google-deepmind/gemma, gm/math/_positional_embeddings_test.py
TEST(GoldenValues, rope) {
  Workbench bench;
  const Tensor table = bench.output(f32, {1, 4});
  run(op::rope_table(bench.integers({1}, 1, 1), table, {100, 1}));
  const Tensor qkv = bench.filled(f32, {1, 12}, std::vector<double>(12, 1.0)),
               out = bench.output(f32, {1, 12});
  run(op::rope(qkv, table, {}, {}, out, {}, {1, 1, 4, 1e-6}));
  const std::vector<double> turned{-0.30116868, 0.89517075, 1.3817732, 1.0948375};
  expect_values(out.slice_columns(0, 4), turned, 1e-6);
  expect_values(out.slice_columns(4, 4), turned, 1e-6);
  expect_values(out.slice_columns(8, 4), {1, 1, 1, 1}, 0);  // values pass
}

// google-deepmind/gemma: an embedder of ones [10, 4] gives sqrt(4).
TEST(GoldenValues, embed) {
  Workbench bench;
  const Tensor x = bench.output(f32, {2, 4});
  run(op::embed(bench.integers({2}, 0, 9), bench.filled(f32, {10, 4}, std::vector<double>(40, 1.0)), x,
                {std::sqrt(4.0), 0}));
  expect_values(x, std::vector<double>(8, 2.0), 0);
}

// The scale takes the activations' type before it multiplies: sqrt(3072) is 55.5 in bf16, 55.4256 in f32.
TEST(GoldenValues, embed_scale_is_rounded_first) {
  for (const auto& [type, want] : {std::pair{DType::bf16, 55.5}, {f32, 55.42562584220407}}) {
    Workbench bench;
    const Tensor x = bench.output(type, {1, 1});
    run(op::embed(bench.integers({1}, 0, 0), bench.filled(type, {1, 1}, {1}), x, {std::sqrt(3072.0), 0}));
    expect_values(x, {want}, 1e-5);
  }
}

// Which keys each query sees, read off an attention whose scores are all equal and whose values name the keys
// in binary: weight 2^-s times the number of keys seen.
std::vector<std::vector<int>> visible_keys(int64_t T, int64_t window, const std::vector<int64_t>& starts) {
  Workbench bench;
  const Tensor q = bench.normal(DType::f64, {T, 1}, 0), k = bench.normal(DType::f64, {T, 1}, 0),
               v = bench.output(DType::f64, {T, 1}), o = bench.output(DType::f64, {T, 1}),
               lse = bench.output(DType::f64, {1, T});
  for (int64_t s = 0; s < T; ++s) v.as<double>()[s] = std::ldexp(1.0, static_cast<int>(s));
  run(op::attention(q, k, v, bench.integers({T}, starts), o, lse, {1, 1, 1, 1, 1, window, 0}));
  std::vector<std::vector<int>> seen;
  for (int64_t t = 0; t < T; ++t) {
    const auto bits = std::llround(o.as<double>()[t] * std::exp(lse.as<double>()[t]));
    std::vector<int> row;
    for (int64_t s = 0; s < T; ++s) row.push_back(static_cast<int>((bits >> s) & 1));
    seen.push_back(row);
  }
  return seen;
}

// Query i sees j with i - W < j <= i (google-deepmind/gemma, _modules_test.py: W = 2).
TEST(GoldenValues, sliding_mask) {
  EXPECT_EQ(visible_keys(4, 2, {0, 0, 0, 0}),
            (std::vector<std::vector<int>>{{1, 0, 0, 0}, {1, 1, 0, 0}, {0, 1, 1, 0}, {0, 0, 1, 1}}));
  // Two documents packed in one sequence.
  EXPECT_EQ(visible_keys(5, 2, {0, 0, 2, 2, 2}),
            (std::vector<std::vector<int>>{
                {1, 0, 0, 0, 0}, {1, 1, 0, 0, 0}, {0, 0, 1, 0, 0}, {0, 0, 1, 1, 0}, {0, 0, 0, 1, 1}}));
}

// keras-hub, gemma_backbone_test.py: W = 5 over 10 positions.
TEST(GoldenValues, sliding_mask_of_five) {
  const auto seen = visible_keys(10, 5, std::vector<int64_t>(10, 0));
  for (int i = 0; i < 10; ++i) {
    for (int j = 0; j < 10; ++j) {
      EXPECT_EQ(seen[static_cast<size_t>(i)][static_cast<size_t>(j)], j <= i && j > i - 5 ? 1 : 0)
          << i << " " << j;
    }
  }
}

// Key/value head g serves query heads [g N/K, (g+1) N/K).
TEST(GoldenValues, grouped_heads) {
  Workbench bench;
  const Tensor q = bench.normal(f32, {1, 4}), k = bench.normal(f32, {1, 2}), o = bench.output(f32, {1, 4});
  run(op::attention(q, k, bench.filled(f32, {1, 2}, {3, 5}), bench.integers({1}, 0, 0), o, {}, {1, 4, 2, 1}));
  expect_values(o, {3, 3, 5, 5}, 0);
}

// The activations of torch and transformers at -3, -1, 0, 1 and 3.
TEST(GoldenValues, activations) {
  const std::map<std::string_view, std::vector<double>> golden{
      {"GELU_TANH", {-0.00363739, -0.15880796, 0, 0.84119201, 2.99636269}},
      {"SILU", {-0.14227763, -0.26894143, 0, 0.73105860, 2.85772252}},
      {"RELU", {0, 0, 0, 1, 3}},
      {"GELU", {-0.00404969, -0.15865526, 0, 0.84134475, 2.99595031}},
      {"RELU2", {0, 0, 0, 1, 9}},
      {"QUICK_GELU", {-0.01807131, -0.15420423, 0, 0.84579577, 2.98192869}},
  };
  for (const op::Activation activation : op::all_activations()) {
    const std::string_view name = op::description_of(activation).name;
    SCOPED_TRACE(name);
    ASSERT_TRUE(golden.contains(name)) << "an activation needs its values here";
    Workbench bench;
    const Tensor y = bench.output(f32, {1, 5});
    run(op::activate(bench.filled(f32, {1, 5}, {-3, -1, 0, 1, 3}), y, {activation, false}));
    expect_values(y, golden.at(name), 1e-6);
  }
}

TEST(GoldenValues, gate_comes_before_up) {
  Workbench bench;
  const Tensor act = bench.output(f32, {1, 2});
  run(op::activate(bench.filled(f32, {1, 4}, {1, 2, 10, 20}), act,
                   {op::activation_of<op::activation::Relu>, true}));
  expect_values(act, {10, 40}, 0);
}

// A uniform softmax: the loss is log V whatever the target, and nothing where it is masked.
TEST(GoldenValues, loss_of_a_uniform_model) {
  Workbench bench;
  const int64_t targets[] = {0, -1, 6};
  const Tensor table = bench.packed(bench.normal(f32, {7, 3}), Layout::packed_forward),
               losses = bench.output(f32, {3});
  run(op::loss(bench.normal(f32, {3, 3}, 0), table, bench.integers({3}, targets), losses, {}));
  expect_values(losses, {std::log(7.0), 0, std::log(7.0)}, 1e-6);
}

TEST(GoldenValues, softcap) {
  Workbench bench;
  const Tensor x = bench.filled(f32, {3}, {-1000, 0, 30});
  run(op::softcap(x, x, {30}));
  expect_values(x, {-30, 0, 30 * std::tanh(1.0)}, 1e-5);
}

TEST(GoldenValues, sums) {
  Workbench bench;
  const int64_t n = op::kReduceBlock + 3;
  const Tensor x = bench.filled(f32, {n}, std::vector<double>(static_cast<size_t>(n), 2.0)),
               partial = bench.output(f32, {2}), total = bench.filled(f32, {1}, {5});
  run(op::sum_squares(x, partial));
  expect_values(partial, {4.0 * op::kReduceBlock, 12}, 0);
  run(op::sum(x, total, {true}));
  expect_values(total, {5 + 2.0 * static_cast<double>(n)}, 0);
  run(op::sum(bench.normal(f32, {0}), total));
  expect_values(total, {0}, 0);
}

// An element's number depends on its global index alone.
TEST(GoldenValues, init_normal_does_not_depend_on_the_cut) {
  Workbench bench;
  const RandomKey key = random_key(3, Purpose::initialise, "w");
  const Tensor whole = bench.output(f32, {101}), parts = bench.output(f32, {101});
  run(op::init_normal(whole, {key, 40, 0.02}));
  run(op::init_normal(parts.slice_rows(0, 33), {key, 40, 0.02}));
  run(op::init_normal(parts.slice_rows(33, 68), {key, 73, 0.02}));
  EXPECT_EQ(op::load(parts), op::load(whole));
}

TEST(Operators, a_wrong_shape_is_one_sentence_with_the_op_and_both_shapes) {
  Workbench bench;
  const Tensor x = bench.normal(f32, {4, 8}),
               w = bench.packed(bench.normal(f32, {16, 9}), Layout::packed_forward);
  try {
    op::matmul(x, w, bench.output(f32, {4, 16}));
    FAIL() << "matmul took shapes that do not fit";
  } catch (const InternalError& error) {
    EXPECT_STREQ(
        error.what(),
        "matmul: x f32[4, 8] and w f32[16, 9] must satisfy: x [m, k] and w packed_forward [n, k] of one "
        "type");
  }
}

TEST(Operators, describe) {
  Workbench bench;
  const Tensor x = bench.normal(DType::bf16, {4, 8}), w = bench.normal(f32, {8});
  EXPECT_EQ(describe(op::rms_norm(x, w, bench.output(DType::bf16, {4, 8}), {}, {})),
            "rms_norm(bf16[4, 8], f32[8] -> bf16[4, 8], -)");
}

TEST(Operators, every_kind_has_a_name_a_cost_and_a_reference) {
  for (const OpKind* kind : op::all_kinds()) {
    EXPECT_FALSE(kind->name.empty());
    EXPECT_NE(kind->cost, nullptr) << kind->name;
    EXPECT_NE(kind->reference, nullptr) << kind->name;
    for (const OpKind* other : op::all_kinds())
      EXPECT_TRUE(other == kind || other->name != kind->name) << kind->name;
  }
}

TEST(Cost, product) {
  Workbench bench;
  const Tensor x = bench.normal(DType::bf16, {4, 8}),
               w = bench.packed(bench.normal(DType::bf16, {16, 8}), Layout::packed_forward);
  const Call call = op::matmul(x, w, bench.output(f32, {4, 16}));
  const Cost cost = call.kind->cost(call);
  EXPECT_EQ(cost.flops(), 2 * 4 * 8 * 16);
  EXPECT_EQ(cost.bytes_read, 2 * (4 * 8 + 16 * 8));
  EXPECT_EQ(cost.bytes_written, 4 * 4 * 16);
}

int64_t attention_product_flops(int64_t T, int64_t S, int64_t window, const std::vector<int64_t>& starts) {
  Workbench bench;
  const Tensor q = bench.output(f32, {T, 8}), k = bench.output(f32, {S, 4}), v = bench.output(f32, {S, 4});
  const Call call = op::attention(q, k, v, bench.integers({T}, starts), bench.output(f32, {T, 8}), {},
                                  {1, 2, 1, 4, 1, window, 0});
  int64_t flops = 0;
  for (const Product& product : call.kind->cost(call).products) flops += product.flops();
  return flops;
}

// Two products of 2 H flops for each pair of query and key that causality and the window leave, for two
// heads.
TEST(Cost, attention_charges_causality_and_windows_not_documents) {
  const std::vector<int64_t> whole(7, 0), documents{0, 0, 0, 3, 3, 3, 3};
  EXPECT_EQ(attention_product_flops(7, 7, 0, whole), 2 * 2 * (2 * 4) * (7 * 8 / 2));
  EXPECT_EQ(attention_product_flops(7, 7, 0, documents), attention_product_flops(7, 7, 0, whole));
  EXPECT_EQ(attention_product_flops(7, 7, 1, whole), 2 * 2 * (2 * 4) * 7);
  EXPECT_EQ(attention_product_flops(1, 10, 0, {0}), 2 * 2 * (2 * 4) * 10);
  EXPECT_EQ(attention_product_flops(0, 0, 0, {}), 0);
}

}  // namespace
}  // namespace toroid::testing
