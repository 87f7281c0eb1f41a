// Fused kinds on a device that lacks their kernels: it issues the declared parts, which are what is charged.
// That results agree with the fused kind's, at every shape of the contract, is seen in tests/core/device;
// here what has to agree in every bit. M tokens, V vocabulary, D d_model.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/device/reference_device.h"
#include "core/device/sim/recording_device.h"
#include "core/op/elementwise.h"
#include "core/op/kinds.h"
#include "core/op/loss.h"
#include "core/op/norm.h"
#include "core/op/reference.h"
#include "core/op/update.h"
#include "tests/core/op/gradient_check.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32, f64 = DType::f64;

// Every kind is primitive, or fused and then declares its parts.
constexpr std::string_view kFused[] = {"loss", "loss_grad", "residual_add", "residual_norm"};
constexpr std::string_view kPrimitive[] = {"activate",
                                           "activate_grad",
                                           "adamw",
                                           "add",
                                           "attention",
                                           "attention_grad",
                                           "cast",
                                           "checksum",
                                           "combine",
                                           "compare_checksums",
                                           "compress",
                                           "decide",
                                           "descend",
                                           "ema",
                                           "embed",
                                           "embed_grad",
                                           "fill",
                                           "init_normal",
                                           "lion",
                                           "loss_merge",
                                           "loss_part_grad",
                                           "loss_statistics",
                                           "matmul",
                                           "matmul_dw",
                                           "matmul_dx",
                                           "momentum",
                                           "nesterov",
                                           "outer_gradient",
                                           "pack",
                                           "rms_norm",
                                           "rms_norm_grad",
                                           "rope",
                                           "rope_grad",
                                           "rope_table",
                                           "softcap",
                                           "sum",
                                           "sum_squares",
                                           "sum_wires",
                                           "symmetric_product",
                                           "unit_norm"};

TEST(Expansion, every_kind_is_primitive_or_declares_its_parts) {
  const std::set<std::string_view> fused(std::begin(kFused), std::end(kFused)),
      primitive(std::begin(kPrimitive), std::end(kPrimitive));
  for (const OpKind* kind : op::all_kinds()) {
    EXPECT_NE(fused.contains(kind->name), primitive.contains(kind->name))
        << kind->name << " is in one of the two lists";
    EXPECT_EQ(fused.contains(kind->name), kind->expand != nullptr) << kind->name;
  }
  EXPECT_EQ(fused.size() + primitive.size(), op::all_kinds().size()) << "the lists name kinds alone";
}

TEST(Expansion, a_device_that_lacks_a_primitive_kind_is_told_which) {
  EXPECT_TRUE(missing_kinds(*primitive_kernels()).empty());
  KernelRegistry few;
  add_reference_kernels(few);
  KernelRegistry fewer;
  for (const OpKind* kind : op::all_kinds()) {
    if (kind != &op::add_kind && kind != &op::decide_kind && kind != &op::loss_kind) {
      fewer.add(*kind, *few.find(*kind));
    }
  }
  EXPECT_EQ(missing_kinds(fewer), (std::vector<const OpKind*>{&op::add_kind, &op::decide_kind}));
}

std::vector<const OpKind*> launched(const RecordingDevice& device) {
  std::vector<const OpKind*> kinds;
  for (const Record& record : device.records()) {
    if (record.kind != Record::Kind::launch) continue;
    for (const OpKind* kind : op::all_kinds()) {
      if (kind->name == record.op) kinds.push_back(kind);
    }
  }
  return kinds;
}

class Recorded : public ::testing::Test {
 protected:
  Tensor array(DType type, Shape shape, Layout layout = Layout::plain) {
    arrays_.push_back(device_.array(type, shape, "operand", layout));
    return arrays_.back().tensor;
  }
  // The parts that ran for `call`, whose memory is as it was before.
  std::vector<Record> parts(Call call) {
    device_.clear();
    const int64_t bytes = device_.statistics().bytes_now;
    device_.launch(call, Queue::model);
    EXPECT_EQ(device_.statistics().bytes_now, bytes) << "temporaries are given back";
    std::vector<Record> out;
    for (const Record& record : device_.records()) {
      if (record.kind != Record::Kind::launch) continue;
      EXPECT_EQ(record.queue, Queue::model) << record.text;
      EXPECT_EQ(record.phase, call.phase) << record.text;
      out.push_back(record);
    }
    return out;
  }
  RecordingDevice device_{primitive_kernels()};

 private:
  std::vector<Array> arrays_;
};

Cost sum(const std::vector<Record>& records) {
  Cost total;
  for (const Record& record : records) {
    total.products.insert(total.products.end(), record.cost.products.begin(), record.cost.products.end());
    total.vector_flops += record.cost.vector_flops;
    total.bytes_read += record.cost.bytes_read;
    total.bytes_written += record.cost.bytes_written;
  }
  return total;
}

// mid = x; mid += f; y = norm(mid): what is read and written by three passes instead of one.
TEST_F(Recorded, residual_norm_is_charged_as_its_parts) {
  const int64_t M = 6, D = 10, matrix = M * D * 2;
  Call call =
      op::residual_norm(array(DType::bf16, {M, D}), array(DType::bf16, {M, D}), {}, array(DType::bf16, {D}),
                        array(DType::bf16, {M, D}), array(DType::bf16, {M, D}), array(f32, {M}), {}, {});
  call.phase = Phase::recompute;
  const std::vector<Record> records = parts(call);
  EXPECT_EQ(launched(device_),
            (std::vector<const OpKind*>{&op::cast_kind, &op::add_kind, &op::rms_norm_kind}));
  const Cost cost = sum(records), fused = call.kind->cost(call);
  EXPECT_EQ(cost.bytes_read, matrix + 2 * matrix + matrix + D * 2);
  EXPECT_EQ(cost.bytes_written, matrix + matrix + matrix + M * 4);
  EXPECT_EQ(cost.flops(), fused.flops()) << "the same sums, in more passes";
  EXPECT_GT(cost.bytes_read, fused.bytes_read);
}

TEST_F(Recorded, residual_add_in_place_copies_nothing) {
  const Tensor x = array(f32, {4, 8}), f = array(f32, {4, 8}), w = array(f32, {8}), rstd = array(f32, {4});
  parts(op::residual_add(x, f, {}, x, {}, {}));
  EXPECT_EQ(launched(device_), (std::vector<const OpKind*>{&op::add_kind}));
  parts(op::residual_add(x, f, w, x, rstd, {}));
  EXPECT_EQ(launched(device_), (std::vector<const OpKind*>{&op::rms_norm_kind, &op::add_kind}));
}

// The statistics' pass multiplies h by the table, and the gradient's pass does so again.
TEST_F(Recorded, loss_grad_is_charged_as_its_parts) {
  const int64_t M = 5, V = 12, D = 8;
  const Tensor h = array(f32, {M, D}), forward = array(f32, {V, D}, Layout::packed_forward),
               backward = array(f32, {V, D}, Layout::packed_backward), targets = array(DType::i32, {M}),
               losses = array(f32, {M});
  Call call = op::loss_grad(h, forward, backward, targets, array(f32, {1}), losses, array(f32, {M, D}),
                            array(f32, {V, D}), {});
  call.tiles = {true, 4, 16};
  std::vector<Record> records = parts(call);
  EXPECT_EQ(launched(device_), (std::vector<const OpKind*>{&op::loss_statistics_kind, &op::loss_merge_kind,
                                                           &op::loss_part_grad_kind}));
  EXPECT_EQ(sum(records).products.size(), call.kind->cost(call).products.size() + 1);
  EXPECT_NE(records[0].text.find("f32[12, 5]"), std::string::npos)
      << "statistics of each of four slices: " << records[0].text;
  call = op::loss(h, forward, targets, losses, {});
  records = parts(call);
  EXPECT_EQ(launched(device_), (std::vector<const OpKind*>{&op::loss_statistics_kind, &op::loss_merge_kind}));
  EXPECT_NE(records[0].text.find("f32[3, 5]"), std::string::npos) << records[0].text;
}

// Sums and norms lose nothing by being taken apart: what is rounded is rounded at the same places.
TEST(Expansion, of_residuals_has_the_bits_of_the_fused_kind) {
  Devices expanding([](int) { return std::make_unique<ReferenceDevice>(primitive_kernels()); });
  for (const DType type : {f32, DType::bf16}) {
    for (const bool post : {false, true}) {
      for (const bool with_norm : {false, true}) {
        Workbench fused, parts(expanding);
        std::vector<Call> calls;
        for (Workbench* bench : {&fused, &parts}) {
          const int64_t M = 7, D = 33;
          const Tensor x = bench->normal(type, {M, D}), f = bench->normal(type, {M, D}),
                       w = bench->normal(type, {D}, 0.3),
                       w_post = post ? bench->normal(type, {D}, 0.3) : Tensor{},
                       mid = bench->output(type, {M, D}), y = bench->output(type, {M, D}),
                       rstd = bench->output(f32, {M}), rstd_post = post ? bench->output(f32, {M}) : Tensor{};
          calls.push_back(with_norm ? op::residual_norm(x, f, w_post, w, mid, y, rstd, rstd_post, {})
                                    : op::residual_add(x, f, w_post, mid, rstd_post, {}));
          bench->run(calls.back());
        }
        EXPECT_TRUE(parts.guards_intact());
        for (size_t i = 0; i < calls[0].operands.size(); ++i) {
          EXPECT_EQ(bytes_in(calls[0][i]), bytes_in(calls[1][i])) << describe(calls[0]) << ", operand " << i;
        }
      }
    }
  }
}

TEST(Expansion, of_the_loss_has_the_gradient_of_the_loss) {
  Devices expanding([](int) { return std::make_unique<ReferenceDevice>(primitive_kernels()); });
  constexpr int64_t M = 5, V = 7, D = 3;
  for (const double softcap : {0.0, 2.0}) {
    Workbench bench(expanding);
    const op::LossSpec spec{softcap, 2};
    const Tensor h = bench.normal(f64, {M, D}), table = bench.normal(f64, {V, D}),
                 targets = bench.integers({M}, -1, V - 1), losses = bench.output(f64, {M}),
                 again = bench.output(f64, {M}), dh = bench.output(f64, {M, D}),
                 d_table = bench.normal(f64, {V, D}, 0), scale = bench.filled(f64, {1}, {0.25});
    targets.as<int32_t>()[2] = -1;  // masked
    Tensor forward_table = table, backward_table = table;
    forward_table.layout = Layout::packed_forward;
    backward_table.layout = Layout::packed_backward;
    const Call forward = op::loss(h, forward_table, targets, losses, spec);
    bench.run(forward);
    bench.run(op::loss_grad(h, forward_table, backward_table, targets, scale, again, dh, d_table, spec));
    EXPECT_EQ(op::load(again), op::load(losses));
    EXPECT_EQ(op::load(losses)[2], 0) << "a masked token has no loss";
    Workbench fused;
    const Tensor whole = fused.output(f64, {M});
    const Call reference = op::loss(h, forward_table, targets, whole, spec);
    reference.kind->reference(reference);
    for (size_t m = 0; m < M; ++m) EXPECT_NEAR(op::load(losses)[m], op::load(whole)[m], 1e-12);
    const Tensor along = bench.filled(f64, {M}, std::vector<double>(M, 0.25));
    check_gradients(
        {[&] { bench.run(forward); }, {losses}, {along}, {{"h", h, dh}, {"table", table, d_table}}});
  }
}

}  // namespace
}  // namespace toroid::testing
