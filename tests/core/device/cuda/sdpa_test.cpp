// Which calls of attention go by cuDNN, and what happens where it has no kernel for one. That its graphs give
// attention's numbers is the contract's (contract_cuda_test.cpp). B sequences of T queries and S keys, N
// query heads, K key/value heads, H head_dim.
#include "core/device/cuda/sdpa.h"

#include <cudnn.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/sdpa_rule.h"
#include "core/op/attention.h"
#include "core/op/reference.h"
#include "tests/core/device/cuda/shaped_attention.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16;

std::unique_ptr<Device> make_gpu(bool fused) {
  CudaDevice::Options options;
  options.bytes = int64_t{64} << 20;
  options.staging_bytes = int64_t{1} << 20;
  options.attention = {fused};
  return std::make_unique<CudaDevice>(make_cuda_kernels(fused), options);
}

struct Case {
  const char* what;
  bool taken;
  DType type = bf16;
  int64_t B = 2, T = 24, S = 24, N = 4, K = 2, H = 16, gap = 0;
  DType gradients = bf16;
  bool tiles = false;
};
const Case kCases[] = {
    {.what = "bf16, grouped heads", .taken = true},
    {.what = "one token", .taken = true, .B = 1, .T = 1, .S = 1},
    {.what = "heads of 256", .taken = true, .N = 1, .K = 1, .H = 256},
    {.what = "fp32", .taken = false, .type = f32, .gradients = f32},
    {.what = "a cache of earlier keys", .taken = false, .T = 8},
    {.what = "heads of 12", .taken = false, .H = 12},
    {.what = "heads of 264", .taken = false, .N = 1, .K = 1, .H = 264},
    {.what = "rows that begin anywhere", .taken = false, .gap = 4},
    {.what = "partial sums in fp32", .taken = false, .gradients = f32},
    {.what = "deterministic mode", .taken = false, .tiles = true},
    {.what = "no tokens", .taken = false, .T = 0, .S = 0},
};

struct Calls {
  Call forward, backward;
};
Calls calls_of(Workbench& bench, const Case& c) {
  const int64_t q = c.N * c.H, kv = c.K * c.H;
  const auto rows = [&](int64_t tokens, int64_t width) {
    return bench.normal(c.type, {c.B * tokens, width + c.gap}).slice_columns(0, width);
  };
  const op::AttentionSpec spec{c.B, c.N, c.K, c.H, 0.25};
  const Tensor queries = rows(c.T, q), keys = rows(c.S, kv), values = rows(c.S, kv), o = rows(c.T, q),
               lse = bench.output(f32, {c.N, c.B * c.T}),
               starts = bench.integers({c.B * c.T}, std::vector<int64_t>(static_cast<size_t>(c.B * c.T), 0));
  Calls out{op::attention(queries, keys, values, starts, o, lse, spec),
            op::attention_grad(rows(c.T, q), queries, keys, values, o, lse, starts, rows(c.T, q),
                               bench.output(c.gradients, {c.B * c.S, kv}),
                               bench.output(c.gradients, {c.B * c.S, kv}), spec)};
  if (c.tiles) out.forward.tiles = out.backward.tiles = {true, 2, 16};
  return out;
}

class CudnnAttention : public ::testing::Test {
 protected:
  // What launching the call says where cuDNN's next kernel fails; empty where none was asked for.
  std::string failure_of(const Case& c, bool backward) {
    std::string said;
    {
      Devices devices([](int) { return make_gpu(true); });
      Workbench bench(devices);
      const Calls calls = calls_of(bench, c);
      scope_->fail("cudnnBackendExecute", 1, CUDNN_STATUS_EXECUTION_FAILED);
      try {
        bench.run(backward ? calls.backward : calls.forward);
      } catch (const SystemError& error) {
        said = error.what();
      }
    }
    scope_.reset();  // a failure that was not asked for goes with it
    scope_.emplace();
    return said;
  }

  std::optional<stand_in::Scope> scope_{std::in_place};
};

TEST_F(CudnnAttention, goes_by_the_rule) {
  for (const Case& c : kCases) {
    for (const bool backward : {false, true}) {
      SCOPED_TRACE(std::string(c.what) + (backward ? ", backward" : ""));
      if (c.H > 256) continue;  // Toroid's own kernel refuses them too
      // Whose gradients are not in bf16 has a forward pass like others.
      const bool taken = c.taken || (c.gradients == f32 && c.type == bf16 && !backward);
      const std::string said = failure_of(c, backward);
      if (taken) {
        EXPECT_NE(said.find("cuDNN 9.19.0 refuses cudnnBackendExecute: CUDNN_STATUS_EXECUTION_FAILED"),
                  std::string::npos)
            << said;
      } else {
        EXPECT_EQ(said, "");
      }
    }
  }
}

TEST_F(CudnnAttention, the_rule_is_one_of_shapes) {
  Devices devices([](int) { return make_gpu(false); });
  Workbench bench(devices);
  for (const Case& c : kCases) {
    const Calls calls = calls_of(bench, c);
    EXPECT_EQ(cuda::sdpa_takes(calls.backward), c.taken) << c.what;
  }
}

// Gradients and outputs, as bits.
std::vector<std::vector<double>> results(bool fused, const Case& c) {
  Devices devices([&](int) { return make_gpu(fused); });
  Workbench bench(devices);
  const Calls calls = calls_of(bench, c);
  bench.run(calls.forward);
  bench.run(calls.backward);
  std::vector<std::vector<double>> out;
  for (const size_t i : {4, 5}) out.push_back(op::load(calls.forward[i]));
  for (const size_t i : {7, 8, 9}) out.push_back(op::load(calls.backward[i]));
  return out;
}

// cuDNN says that a kernel's bits may vary, wants more memory than was foreseen, or has none.
TEST_F(CudnnAttention, is_toroids_own_where_cudnn_has_no_kernel_for_it) {
  const Case& c = kCases[0];
  const auto own = results(false, c);
  EXPECT_NE(results(true, c), own) << "cuDNN's bits are others, or this test shows nothing";
  const struct {
    const char* call;
    int code;
    const char* why;
  } kRefusals[] = {{"a note of cuDNN", CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
                    "the bits of cuDNN's may vary from run to run"},
                   {"more workspace of cuDNN", 256, "cuDNN's wants 512 B of memory, and 256 B are foreseen"}};
  for (const auto& refusal : kRefusals) {
    SCOPED_TRACE(refusal.call);
    // Of both passes.
    scope_->fail(refusal.call, 1, refusal.code);
    Devices devices([](int) { return make_gpu(true); });
    Workbench bench(devices);
    const Calls calls = calls_of(bench, c);
    bench.run(calls.forward);
    scope_->fail(refusal.call, 1, refusal.code);
    bench.run(calls.backward);
    // Not asked again: the answer for a shape stays.
    bench.run(calls.forward);
    EXPECT_EQ(op::load(calls.forward[4]), own[0]);
    EXPECT_EQ(op::load(calls.backward[7]), own[2]);
    EXPECT_EQ(op::load(calls.backward[8]), own[3]);
    const std::vector<std::string> remarks = devices.with(1).remarks();
    ASSERT_EQ(remarks.size(), 2u);
    EXPECT_EQ(
        remarks[0],
        std::string("attention of 24 tokens with 4 heads of 16 goes by Toroid's own kernel: ") + refusal.why);
  }
  scope_->fail("cudnnBackendFinalize", 1, CUDNN_STATUS_NOT_SUPPORTED);
  const auto refused = results(true, c);
  EXPECT_EQ(refused[0], own[0]);
}

TEST_F(CudnnAttention, starts_need_not_be_read_where_all_documents_are_seen) {
  Devices devices([](int) { return make_gpu(true); });
  Workbench bench(devices);
  const Calls calls = calls_of(bench, kCases[0]);
  auto spec = calls.forward.get<op::AttentionSpec>();
  bench.run(calls.forward);
  const auto with = op::load(calls.forward[4]);
  spec.documents = false;
  Call call = calls.forward;
  call.attributes = spec;
  for (int64_t i = 0; i < call[3].elements(); ++i) call[3].as<int32_t>()[i] = 1000;  // not looked at
  bench.run(call);
  EXPECT_EQ(op::load(call[4]), with);
}

// As a dry run, which holds no numbers, asks it.
TEST(SdpaRule, leaves_long_gradients_and_calls_without_lse_to_toroids_own) {
  const auto calls = [](int64_t T, bool with_lse) {
    return ShapedAttention(T, {1, 8, 1, 256, 0.0625}, with_lse);
  };
  EXPECT_TRUE(cuda::sdpa_takes(calls(16384, true).forward));
  EXPECT_TRUE(cuda::sdpa_takes(calls(16384, true).backward));
  EXPECT_TRUE(cuda::sdpa_takes(calls(32768, true).forward)) << "which stores no scores";
  EXPECT_FALSE(cuda::sdpa_takes(calls(32768, true).backward)) << "17 GB";
  EXPECT_FALSE(cuda::sdpa_takes(calls(1024, false).forward));
}

// A failure of the moment is none of the shape.
TEST_F(CudnnAttention, fails_where_cudnn_does_and_asks_again) {
  Devices devices([](int) { return make_gpu(true); });
  Workbench bench(devices);
  const Calls calls = calls_of(bench, kCases[0]);
  (void)devices.with(1);
  scope_->fail("cudnnBackendFinalize", 1, CUDNN_STATUS_INTERNAL_ERROR);
  EXPECT_THROW(bench.run(calls.forward), SystemError);
  bench.run(calls.forward);
  EXPECT_TRUE(devices.with(1).remarks().empty());
}

TEST_F(CudnnAttention, does_not_start_without_a_word) {
  scope_->fail("cudnnCreate", 1, CUDNN_STATUS_INTERNAL_ERROR);
  try {
    (void)make_gpu(true);
    FAIL();
  } catch (const SystemError& error) {
    EXPECT_STREQ(error.what(),
                 "cuDNN does not start on GPU 0: CUDNN_STATUS_INTERNAL_ERROR, said by cudnnCreate");
  }
}

TEST_F(CudnnAttention, is_remarked_on_where_it_is_toroids_own_and_could_be_cudnns) {
  Devices devices([](int) {
    CudaDevice::Options options;
    options.bytes = int64_t{64} << 20;
    options.staging_bytes = int64_t{1} << 20;
    options.attention = {false, "Toroid's own kernels: libcudnn.so.9 is not found"};
    return std::make_unique<CudaDevice>(make_cuda_kernels(false), options);
  });
  Workbench bench(devices);
  const auto remarks = [&] { return devices.with(1).remarks(); };
  for (const Case& c : kCases) {
    if (c.taken || c.H > 256) continue;
    bench.run(calls_of(bench, c).backward);
    EXPECT_EQ(remarks(), std::vector<std::string>{}) << c.what;
  }
  bench.run(calls_of(bench, kCases[0]).forward);
  EXPECT_EQ(remarks(),
            std::vector<std::string>{"attention goes by Toroid's own kernels: libcudnn.so.9 is not found"});
}

TEST_F(CudnnAttention, is_chosen_by_the_kind_of_gpu) {
  const auto on = [&](const stand_in::Machine& machine) {
    scope_.reset();
    scope_.emplace(machine);
    return cuda::attention_library();
  };
  EXPECT_TRUE(on({.capability = 90}).fused);
  const auto with_version = [&](int version) {
    scope_.reset();
    scope_.emplace();
    scope_->fail("cudnnGetVersion", 1, version);
    return cuda::attention_library();
  };
  EXPECT_EQ(with_version(-1).text, "Toroid's own kernels: libcudnn.so.9 is not found");
  EXPECT_FALSE(with_version(-1).fused);
  EXPECT_EQ(with_version(91800).text,
            "Toroid's own kernels: cuDNN 9.18.0 is here, and 9.19 or newer is wanted");
  EXPECT_FALSE(with_version(91800).fused);
  EXPECT_EQ(on({.capability = 90}).text, "cuDNN 9.19.0");
  EXPECT_FALSE(on({.capability = 80}).fused);
  EXPECT_NE(on({.capability = 100}).text.find("compute capability 10.0"), std::string::npos);
  // A dry run without a GPU.
  EXPECT_TRUE(on({.gpus = 0}).fused);
}

}  // namespace
}  // namespace toroid::testing
