// What products on a GPU promise beside the kernels' contract. m tokens, n outputs, k inputs.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cuda/cublas.h"
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/sim/recording_device.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "core/op/reference.h"
#include "core/op/symmetric_product.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

using cuda::CublasProducts;
using cuda::MatrixProduct;
using stand_in::Scope;

constexpr DType f32 = DType::f32, bf16 = DType::bf16;

Devices gpus() {
  return Devices([](int) {
    CudaDevice::Options options;
    options.bytes = int64_t{192} << 20;
    options.staging_bytes = int64_t{1} << 20;
    return std::make_unique<CudaDevice>(make_cuda_kernels(), options);
  });
}

std::string text_of_error(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

using Build = std::function<Call(Workbench&)>;

// The last operand of a call that is made and run on a bench.
Tensor result(Workbench& bench, const Build& build) {
  const Call call = build(bench);
  bench.run(call);
  return call.operands.back().tensor;
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

// In deterministic mode a GPU and a CPU give the same bits: the same terms in the same tree.
void expect_bits_of_the_cpu(const Build& build, const std::string& what) {
  const auto kernels = make_cpu_kernels(2);
  Devices devices = gpus();
  Workbench on_cpu(kernels.get()), on_gpu(devices);
  const Tensor expected = result(on_cpu, build), actual = result(on_gpu, build);
  EXPECT_EQ(bytes_in(actual), bytes_in(expected)) << what;
  const double most = largest(op::load(actual));
  EXPECT_TRUE(most > 0 && std::isfinite(most)) << what << " was not computed";
}

struct Case {
  int64_t m, n, k, slices, block;
};
// Extents that neither slices nor blocks nor vectors divide; more slices than terms.
constexpr Case kCases[] = {{37, 48, 160, 8, 16}, {5, 130, 64, 4, 64}, {66, 9, 50, 7, 9}, {3, 5, 3, 8, 1}};

TEST(CudaProducts, in_tiles_have_the_bits_of_the_cpu) {
  Scope scope;
  for (const Case& c : kCases) {
    for (const DType type : {f32, bf16}) {
      for (const bool accumulate : {false, true}) {
        const auto out = [=](Workbench& bench, Shape shape) {
          return accumulate ? bench.normal(type, shape) : bench.output(type, shape);
        };
        const auto tiled = [=](Call call) {
          call.tiles = {true, c.slices, c.block};
          return call;
        };
        const std::string what = std::string(name_of(type)) + (accumulate ? ", added to" : "") + ", slices " +
                                 std::to_string(c.slices);
        expect_bits_of_the_cpu(
            [&](Workbench& bench) {
              const Tensor x = bench.normal(type, {c.m, c.k}, 1, c.k + 8);
              const Tensor w = bench.packed(bench.normal(type, {c.n, c.k}), Layout::packed_forward);
              return tiled(op::matmul(x, w, out(bench, {c.m, c.n}), {accumulate}));
            },
            "matmul, " + what);
        expect_bits_of_the_cpu(
            [&](Workbench& bench) {
              const Tensor dy = bench.normal(type, {c.m, c.k}, 1, c.k + 8);
              const Tensor w = bench.packed(bench.normal(type, {c.k, c.n}), Layout::packed_backward);
              return tiled(op::matmul_dx(dy, w, out(bench, {c.m, c.n}), {accumulate}));
            },
            "matmul_dx, " + what);
        expect_bits_of_the_cpu(
            [&](Workbench& bench) {
              const Tensor dw = accumulate ? bench.normal(f32, {c.n, c.k}) : bench.output(f32, {c.n, c.k});
              return tiled(op::matmul_dw(bench.normal(type, {c.m, c.n}), bench.normal(type, {c.m, c.k}), dw,
                                         {accumulate}));
            },
            "matmul_dw, " + what);
      }
      expect_bits_of_the_cpu(
          [&](Workbench& bench) {
            const Tensor a = bench.normal(type, {c.n, c.k}), sum = bench.normal(type, {c.n, c.n});
            Call call = op::symmetric_product(a, a, sum, bench.output(type, {c.n, c.n}),
                                              {false, 2.0315, -4.775, 3.4445});
            call.tiles.deterministic = true;
            return call;
          },
          "symmetric_product");
    }
  }
}

TEST(CudaProducts, refuse_more_pieces_than_their_tree_has_levels_for) {
  Scope scope;
  Devices devices = gpus();
  Workbench bench(devices);
  Call call = op::matmul_dw(bench.normal(f32, {5000, 1}), bench.normal(f32, {5000, 1}),
                            bench.output(f32, {1, 1}), {});
  call.tiles = {true, 1, 1};
  EXPECT_THROW(bench.run(call), InternalError);
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected, double bound,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
  }
  EXPECT_LE(worst, bound) << what;
}

// Wider than a panel: two of them, and the mirror image of what lies below the first one's square.
TEST(CudaProducts, symmetric_ones_of_more_than_a_panel) {
  Scope scope;
  const int64_t n = 2050, k = 3;
  for (const bool transposed : {false, true}) {
    for (const bool deterministic : {false, true}) {
      const auto build = [&](Workbench& bench) {
        const Tensor a = bench.normal(f32, transposed ? Shape{k, n} : Shape{n, k});
        Call call = op::symmetric_product(a, a, {}, bench.output(f32, {n, n}), {transposed, 0.5, 0, 1.25});
        call.tiles.deterministic = deterministic;
        return call;
      };
      Workbench plain;
      Devices devices = gpus();
      Workbench bench(devices);
      const std::vector<double> expected = op::load(result(plain, build)),
                                actual = op::load(result(bench, build));
      // Sums of three terms, the scaling, the last addition and the reference's own: six roundings of at most
      // the largest element, which is on the diagonal.
      expect_near(actual, expected, 6 * 0x1p-24 * largest(expected), transposed ? "transposed" : "by rows");
      EXPECT_TRUE(bench.guards_intact());
    }
  }
}

// Slices of a wider matrix begin at any element, and the library is told so.
TEST(CudaProducts, of_operands_that_begin_anywhere) {
  Scope scope;
  const int64_t m = 33, n = 40, k = 64;
  for (const DType type : {f32, bf16}) {
    for (const int64_t first : {1, 2, 3, 4, 7}) {
      const auto build = [&](Workbench& bench) {
        const Tensor x = bench.normal(type, {m, k + 9}).slice_columns(first, k);
        const Tensor w = bench.packed(bench.normal(type, {n, k}), Layout::packed_forward);
        return op::matmul(x, w, bench.output(f32, {m, n}));
      };
      Workbench plain;
      Devices devices = gpus();
      Workbench bench(devices);
      const std::vector<double> expected = op::load(result(plain, build)),
                                actual = op::load(result(bench, build));
      expect_near(actual, expected, 0x1p-23 * (9 + 2 * std::sqrt(k)) * largest(expected),
                  "from " + std::to_string(first));
    }
  }
}

TEST(CudaProducts, take_a_workspace_that_is_known_without_a_gpu) {
  const auto kernels = make_cuda_kernels();
  const auto peak_of = [](Device& device, bool deterministic) {
    const auto product = [&](int64_t m, int64_t n, int64_t k) {
      const Array x = device.array(bf16, {m, k}, "x"), y = device.array(bf16, {m, n}, "y"),
                  w = device.array(bf16, {n, k}, "w", Layout::packed_forward);
      Call call = op::matmul(x.tensor, w.tensor, y.tensor);
      call.tiles.deterministic = deterministic;
      device.launch(call);
    };
    product(3, 5, 7);
    product(200, 100, 300);
    const Statistics& seen = device.statistics();
    return seen.peak_by_holder.contains("workspace") ? seen.peak_by_holder.at("workspace") : 0;
  };
  for (const bool deterministic : {false, true}) {
    RecordingDevice dry(kernels);
    const int64_t expected = deterministic ? 0 : CublasProducts::kWorkspaceBytes;
    EXPECT_EQ(peak_of(dry, deterministic), expected);
    Scope scope;
    CudaDevice::Options options;
    options.bytes = int64_t{64} << 20;
    CudaDevice device(kernels, options);
    EXPECT_EQ(peak_of(device, deterministic), expected);
  }
}

// Two queues multiply in turn: a workspace that is handed on is waited for, whatever the delays.
TEST(CudaProducts, on_two_queues_do_not_meet) {
  const auto run = [](int delay, unsigned seed) {
    Scope scope;
    scope.delay(delay, seed);
    CudaDevice::Options options;
    options.bytes = int64_t{96} << 20;
    CudaDevice device(make_cuda_kernels(), options);
    const int64_t m = 16, n = 24, k = 640;
    // Of other numbers each, so that one would be seen in the other's sums.
    struct Side {
      Array x, w, y;
    };
    const auto make = [&](const char* name) {
      Side side{device.array(bf16, {m, k}, "x"), device.array(bf16, {n, k}, "w", Layout::packed_forward),
                device.array(f32, {m, n}, "y")};
      Tensor w = side.w.tensor;
      w.layout = Layout::plain;
      device.launch(op::init_normal(side.x.tensor, {random_key(1, Purpose::initialise, name), 0, 1.0}));
      device.launch(op::init_normal(w, {random_key(2, Purpose::initialise, name), 0, 1.0}));
      device.launch(op::fill(side.y.tensor, {0}));
      return side;
    };
    const Side first = make("first"), second = make("second");
    for (int i = 0; i < 50; ++i) {
      for (const auto& [side, queue] :
           {std::pair(&first, Queue::compute), std::pair(&second, Queue::model)}) {
        device.launch(op::matmul(side->x.tensor, side->w.tensor, side->y.tensor, {true}), queue);
      }
    }
    std::vector<float> out(static_cast<size_t>(2 * m * n));
    const auto half = std::as_writable_bytes(std::span(out)).subspan(0, out.size() * sizeof(float) / 2);
    device.read(first.y.tensor, half);
    device.read(second.y.tensor, std::as_writable_bytes(std::span(out)).subspan(half.size()));
    return out;
  };
  const std::vector<float> expected = run(0, 1);
  EXPECT_NE(expected.front(), 0);
  for (const unsigned seed : {1u, 2u, 3u}) EXPECT_EQ(run(300, seed), expected);
}

// A product of the library alone, on a stream of the test's.
class Library : public ::testing::Test {
 protected:
  Library() : products_(0) { (void)cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, 0); }
  ~Library() override { (void)cudaStreamDestroy(stream_); }
  MatrixProduct product(int64_t rows = 8) {
    MatrixProduct out{.rows = rows, .columns = 8, .depth = 16, .type = bf16};
    out.a.data = out.b.data = memory_.data();
    out.a.stride = out.b.stride = 16;
    out.out = memory_.data() + 4096;
    out.out_stride = 8;
    return out;
  }
  void multiply(const MatrixProduct& product) { products_.multiply(stream_, product, workspace_.data()); }

  Scope scope_;
  CublasProducts products_;
  cudaStream_t stream_ = nullptr;
  alignas(64) std::array<std::byte, 8192> memory_{};
  std::vector<std::byte> workspace_ = std::vector<std::byte>(CublasProducts::kWorkspaceBytes);
};

TEST_F(Library, chooses_once_a_shape) {
  multiply(product());
  scope_.fail("cublasLtMatmulAlgoGetHeuristic", 1, CUBLAS_STATUS_NOT_SUPPORTED);
  for (int i = 0; i < 3; ++i) multiply(product());
  MatrixProduct added = product();
  added.accumulate = true;
  multiply(added);
  EXPECT_NE(text_of_error([&] { multiply(product(9)); }), "") << "another shape is another choice";
}

TEST_F(Library, a_call_that_fails_is_named_with_its_shape) {
  for (const char* const call :
       {"cublasLtMatmulDescCreate", "cublasLtMatmulDescSetAttribute", "cublasLtMatrixLayoutCreate",
        "cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceSetAttribute",
        "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"}) {
    scope_.fail(call, 1, CUBLAS_STATUS_NOT_SUPPORTED);
    const std::string text = text_of_error([&] { multiply(product()); });
    expect_part(text, "GPU 0: cuBLASLt cannot multiply bf16[8, 16] by [16, 8] into f32");
    expect_part(text, "CUBLAS_STATUS_NOT_SUPPORTED, said by " + std::string(call));
    multiply(product());  // nothing of the failure is left
    products_ = CublasProducts(0);
  }
}

TEST_F(Library, the_stand_in_refuses_what_the_library_refuses) {
  const auto refused = [&](const std::function<void(MatrixProduct&)>& spoil) {
    MatrixProduct spoiled = product();
    spoil(spoiled);
    return text_of_error([&] { multiply(spoiled); });
  };
  const std::string invalid = "CUBLAS_STATUS_INVALID_VALUE";
  expect_part(refused([](MatrixProduct& p) { p.a.stride = 15; }), invalid);
  expect_part(refused([](MatrixProduct& p) { p.b.turned = true, p.b.stride = 7; }), invalid);
  expect_part(refused([](MatrixProduct& p) { p.out_stride = 7; }), invalid);
  expect_part(refused([](MatrixProduct& p) { p.depth = 0; }), invalid);
  expect_part(refused([](MatrixProduct& p) { p.type = f32, p.out_type = bf16; }),
              "CUBLAS_STATUS_NOT_SUPPORTED");
  expect_part(text_of_error([&] { products_.multiply(stream_, product(), nullptr); }), invalid);
  expect_part(text_of_error([&] { products_.multiply(stream_, product(), workspace_.data() + 8); }), invalid);
  EXPECT_EQ(refused([](MatrixProduct& p) { p.a.turned = true, p.a.stride = 8; }), "");
}

TEST(CudaProducts, name_a_library_that_is_missing) {
  const auto start = [] { const CublasProducts products(0); };
  {
    Scope scope;
    scope.fail("cublasLtCreate", 1, CUBLAS_STATUS_NOT_INITIALIZED);
    expect_part(text_of_error(start), "cuBLASLt does not start on GPU 0: CUBLAS_STATUS_NOT_INITIALIZED");
  }
  Scope scope;
  scope.fail("cublasLtCreate", 1, CUBLAS_STATUS_NOT_INITIALIZED);
  scope.fail("cublasLtGetVersion", 1, CUBLAS_STATUS_NOT_INITIALIZED);
  expect_part(text_of_error(start), "libcublasLt.so.13 is not found; install CUDA's libraries");
  scope.fail("cublasLtCreate", 1, CUBLAS_STATUS_NOT_INITIALIZED);
  scope.fail("cublasLtGetVersion", 1, CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_THROW(start(), UserError);
}

// A library fails like all calls behind a fault; what is told is the fault.
TEST(CudaProducts, behind_a_fault_tell_of_the_fault) {
  Scope scope;
  CudaDevice::Options options;
  options.bytes = int64_t{64} << 20;
  CudaDevice device(make_cuda_kernels(), options);
  const Array x = device.array(f32, {4, 4}, "x"), y = device.array(f32, {4, 4}, "y"),
              w = device.array(f32, {4, 4}, "w", Layout::packed_forward);
  scope.fail("kernel", 1, cudaErrorIllegalAddress);
  const std::string text = text_of_error([&] {
    device.launch(op::fill(x.tensor, {1}));
    while (!stand_in::gpu_died()) {
    }
    device.launch(op::matmul(x.tensor, w.tensor, y.tensor));
  });
  expect_part(text, "an illegal memory access was encountered");
}

TEST(CudaProducts, refuse_f64) {
  Scope scope;
  Devices devices = gpus();
  Workbench bench(devices);
  const DType f64 = DType::f64;
  const Tensor a = bench.normal(f64, {4, 4});
  for (const Call& call : {op::matmul_dw(a, a, bench.output(f64, {4, 4}), {}),
                           op::symmetric_product(a, a, {}, bench.output(f64, {4, 4}), {})}) {
    expect_part(text_of_error([&] { bench.run(call); }), "the GPU computes in f32 and bf16, not in f64");
  }
}

// What measurements may ask for, and that nothing of it stays.
TEST(CudaProducts, have_ways_for_measurements_alone) {
  const Scope scope;
  CudaDevice::Options options;
  options.bytes = int64_t{64} << 20;
  options.staging_bytes = int64_t{1} << 20;
  CudaDevice device(make_cuda_kernels(), options);
  ProductWays* const ways = device.product_ways();
  ASSERT_NE(ways, nullptr);
  const int64_t n = 32;
  const auto filled = [&](const char* name, Layout layout) {
    const Array plain = device.array(f32, {n, n}, "test");
    device.launch(
        op::init_normal(plain.tensor.reshape({n * n}), {random_key(1, Purpose::synthetic, name), 0, 1}));
    Array out = device.array(f32, {n, n}, "test", layout);
    if (layout == Layout::plain) {
      device.copy(out.tensor, plain.tensor);
    } else {
      device.launch(op::pack(std::span(&plain.tensor, 1), out.tensor));
    }
    return out;
  };
  const Array x = filled("x", Layout::plain), w = filled("w", Layout::packed_forward),
              y = device.array(f32, {n, n}, "test");
  const auto product = [&] {
    device.launch(op::matmul(x.tensor, w.tensor, y.tensor));
    std::vector<float> out(static_cast<size_t>(n * n));
    device.read(y.tensor, std::as_writable_bytes(std::span(out)));
    return out;
  };
  const std::vector<float> own = product();
  EXPECT_EQ(ways->count(), 1) << "the program knows one";
  ways->take(0);
  (void)product();
  ASSERT_EQ(ways->count(), 2);
  ways->take(1);
  const std::vector<float> other = product();
  EXPECT_NE(other, own) << "a sum in another order";
  for (size_t i = 0; i < own.size(); ++i) EXPECT_NEAR(other[i], own[i], 1e-4);
  ways->take(2);
  expect_part(text_of_error([&] { (void)product(); }), "CUBLAS_STATUS_NOT_SUPPORTED");
  ways->take(std::nullopt);
  device.launch(op::fill(y.tensor, {3}));
  ways->leave_out(true);
  EXPECT_EQ(product(), std::vector<float>(own.size(), 3.0f));
  ways->leave_out(false);
  EXPECT_EQ(product(), own);
}

}  // namespace
}  // namespace toroid::testing
