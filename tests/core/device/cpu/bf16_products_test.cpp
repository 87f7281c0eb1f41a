// Which way of computing bf16 products a machine takes, and that a widened weight stays bf16.
#include "core/device/cpu/bf16_products.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/pack.h"
#include "core/op/matmul.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

using cpu::Isa;

TEST(Bf16Products, TheFasterInstructionWins) {
  const auto chosen = [](Isa isa, double bf16, double fp32) {
    return cpu::faster_products(isa, {bf16, fp32});
  };
  EXPECT_EQ(chosen(Isa::avx512_bf16, 87e9, 178e9), Bf16Products::widened);
  EXPECT_EQ(chosen(Isa::avx512_bf16, 230e9, 118e9), Bf16Products::native);
  EXPECT_EQ(chosen(Isa::avx512_bf16, 178e9, 178e9), Bf16Products::native) << "bf16 reads fewer bytes";
  EXPECT_EQ(chosen(Isa::amx, 87e9, 178e9), Bf16Products::native) << "whatever the dot products do";
  EXPECT_EQ(chosen(Isa::avx512, 0, 178e9), Bf16Products::widened);
  EXPECT_EQ(chosen(Isa::avx2, 0, 0), Bf16Products::widened);
}

TEST(Bf16Products, RatesAreThoseOfThisMachine) {
  const cpu::RegisterRates rates = cpu::measure_register_rates();
  EXPECT_EQ(rates.bf16 > 0, cpu::has_native_products());
  EXPECT_GT(rates.fp32, 1e8);
  EXPECT_LT(rates.fp32, 1e13) << "a loop that does nothing would be faster";
  EXPECT_EQ(cpu::fastest_products(), cpu::fastest_products());
  EXPECT_TRUE(cpu::has_native_products() || cpu::fastest_products() == Bf16Products::widened);
}

TEST(Bf16Products, NativeWantsTheInstructions) {
  if (cpu::has_native_products()) {
    EXPECT_NO_THROW((void)make_cpu_kernels(1, Bf16Products::native));
    return;
  }
  try {
    (void)make_cpu_kernels(1, Bf16Products::native);
    FAIL() << "native products without instructions";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("set train.bf16_products to WIDENED or AUTO"),
              std::string::npos);
  }
}

TEST(Bf16Products, AWidenedWeightStaysBf16AndOnlyPanelsAreFp32) {
  const auto kernels = make_cpu_kernels(1, Bf16Products::widened);
  const int64_t N = 4096, K = 512, M = 64;
  Workbench bench(kernels.get());
  const Tensor weight = bench.normal(DType::bf16, {N, K});
  for (const Layout layout : {Layout::packed_forward, Layout::packed_backward}) {
    EXPECT_EQ(kernels->traits.packed_bytes(DType::bf16, {N, K}, layout), 2 * N * K);
    const bool forward = layout == Layout::packed_forward;
    const Tensor x = bench.normal(DType::bf16, {M, forward ? K : N}),
                 y = bench.output(DType::bf16, {M, forward ? N : K}), packed = bench.packed(weight, layout);
    const Call call = forward ? op::matmul(x, packed, y) : op::matmul_dx(x, packed, y);
    const int64_t workspace = kernels->find(*call.kind)->workspace_bytes(call, {});
    EXPECT_LT(workspace, 2 * N * K) << "half of an fp32 copy of the weight";
  }
}

TEST(Bf16Products, APanelIsTheWeightsElements) {
  for (const Layout layout : {Layout::packed_forward, Layout::packed_backward}) {
    const auto kernels = make_cpu_kernels(1, Bf16Products::widened);
    Workbench bench(kernels.get());
    const int64_t N = 150, K = 70;
    const Tensor weight = bench.normal(DType::bf16, {N, K}), packed = bench.packed(weight, layout);
    const cpu::PackedWeight of(DType::bf16, weight.shape, layout, Bf16Products::widened);
    ASSERT_TRUE(of.widened());
    const bool forward = layout == Layout::packed_forward;
    const auto element = [&](int64_t row, int64_t column) {
      const int64_t at = forward ? column * K + row : row * K + column;
      return from_bf16(weight.as<uint16_t>()[at]);
    };
    const cpu::PackedFormat format = of.piece_format(0);
    for (const int64_t first_row : {int64_t{0}, int64_t{16}}) {
      for (const int64_t first : {int64_t{0}, int64_t{64}}) {
        const int64_t rows = of.contracted - first_row, columns = of.columns - first;
        const cpu::PackedFormat wide = cpu::packed_format(DType::f32, rows, columns, false);
        std::vector<float> panel(static_cast<size_t>(wide.bytes()) / sizeof(float), -1.0f);
        if (columns <= 0) continue;
        cpu::widen_panel(format, packed.data(), first_row, rows, first, columns, panel.data());
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < columns; ++c) {
            ASSERT_EQ(panel[static_cast<size_t>(wide.index(r, c))], element(first_row + r, first + c))
                << r << ", " << c;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace toroid::testing
