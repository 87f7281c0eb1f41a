#include "core/device/cuda/cublas.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <compare>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace toroid::cuda {
namespace {

constexpr int kMostWays = 32;           // of a product that measurements ask for
constexpr uint32_t kMostAligned = 256;  // what the library takes for granted where it is told nothing

// As far as it may decide. Blocks begin at more, so it follows from the place in a block: the same on every
// run, whatever else is in memory.
uint32_t alignment_of(const std::byte* address) {
  const auto bits = reinterpret_cast<uintptr_t>(address) | kMostAligned;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

cudaDataType_t data_type(DType type) {
  return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

std::string matrix(int64_t rows, int64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

template <class T, cublasStatus_t (*kDestroy)(T*)>
struct Destroy {
  void operator()(T* one) const { (void)kDestroy(one); }
};
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t,
                               Destroy<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>>;
using Operation = std::unique_ptr<cublasLtMatmulDescOpaque_t,
                                  Destroy<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                    Destroy<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy>>;
using Handle = std::unique_ptr<cublasLtContext, Destroy<cublasLtContext, cublasLtDestroy>>;

// What decides how a product is computed, and all that its descriptors say.
struct Shape {
  int64_t rows, columns, depth, a_stride, b_stride, out_stride;
  bool a_turned, b_turned;
  DType type, out_type;
  uint32_t a_alignment, b_alignment, out_alignment;
  auto operator<=>(const Shape&) const = default;  // NOLINT(modernize-use-nullptr): of the compiler's 0
};

struct Plan {
  Operation operation;
  Layout a, b, out;
  cublasLtMatmulAlgo_t algorithm{};
  int ways = 1;
};

}  // namespace

class CublasProducts::Plans {
 public:
  explicit Plans(int gpu);
  void multiply(cudaStream_t stream, const MatrixProduct& product, std::byte* workspace);

  std::optional<int> nth;  // way; nothing: as ever
  int ways = 1;            // of the last product
  bool left_out = false;

 private:
  const Plan& plan_of(const Shape& shape);
  Plan make_plan(const Shape& shape) const;
  Layout make_layout(const Shape& shape, DType type, int64_t rows, int64_t columns, int64_t stride) const;
  void check(cublasStatus_t code, std::string_view call, const Shape& shape) const;

  int gpu_;
  Handle handle_;
  std::map<std::pair<Shape, std::optional<int>>, Plan> plans_;  // the program's, and those of ways
};

CublasProducts::CublasProducts(int gpu) : plans_(std::make_unique<Plans>(gpu)) {}
CublasProducts::~CublasProducts() = default;
CublasProducts::CublasProducts(CublasProducts&&) noexcept = default;
CublasProducts& CublasProducts::operator=(CublasProducts&&) noexcept = default;

void CublasProducts::multiply(cudaStream_t stream, const MatrixProduct& product, std::byte* workspace) {
  plans_->multiply(stream, product, workspace);
}
int CublasProducts::count() const {
  return plans_->ways;
}
void CublasProducts::take(std::optional<int> nth) {
  plans_->nth = nth;
}
void CublasProducts::leave_out(bool out) {
  plans_->left_out = out;
}

CublasProducts::Plans::Plans(int gpu) : gpu_(gpu) {
  cublasLtHandle_t handle = nullptr;
  const cublasStatus_t code = cublasLtCreate(&handle);
  if (code != CUBLAS_STATUS_SUCCESS) {
    if (cublasLtGetVersion() == 0) {
      throw UserError("matrix products on a GPU need cuBLASLt, and libcublasLt.so." +
                      std::to_string(CUBLAS_VER_MAJOR) +
                      " is not found; install CUDA's libraries, or add their folder to LD_LIBRARY_PATH");
    }
    throw SystemError("cuBLASLt does not start on GPU " + std::to_string(gpu) + ": " +
                      cublasLtGetStatusName(code) + ", said by cublasLtCreate");
  }
  handle_.reset(handle);
}

void CublasProducts::Plans::check(cublasStatus_t code, std::string_view call, const Shape& s) const {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  throw SystemError("GPU " + std::to_string(gpu_) + ": cuBLASLt cannot multiply " +
                    std::string(name_of(s.type)) + matrix(s.rows, s.depth) + " by " +
                    matrix(s.depth, s.columns) + " into " + std::string(name_of(s.out_type)) + " (rows " +
                    std::to_string(s.a_stride) + ", " + std::to_string(s.b_stride) + " and " +
                    std::to_string(s.out_stride) + " elements apart): " + cublasLtGetStatusName(code) +
                    ", said by " + std::string(call));
}

Layout CublasProducts::Plans::make_layout(const Shape& shape, DType type, int64_t rows, int64_t columns,
                                          int64_t stride) const {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, data_type(type), static_cast<uint64_t>(rows),
                                   static_cast<uint64_t>(columns), stride),
        "cublasLtMatrixLayoutCreate", shape);
  return Layout(layout);
}

// The library counts by columns: what it sees is the result turned, out^T = b a^T, so that b is its first
// factor. A row of memory is a column to it.
Plan CublasProducts::Plans::make_plan(const Shape& s) const {
  Plan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  check(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate", s);
  plan.operation.reset(operation);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, cublasOperation_t turn) {
    const int32_t value = turn;
    check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute", s);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, s.b_turned ? CUBLAS_OP_N : CUBLAS_OP_T);
  set(CUBLASLT_MATMUL_DESC_TRANSB, s.a_turned ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan.b = s.b_turned ? make_layout(s, s.type, s.columns, s.depth, s.b_stride)
                      : make_layout(s, s.type, s.depth, s.columns, s.b_stride);
  plan.a = s.a_turned ? make_layout(s, s.type, s.rows, s.depth, s.a_stride)
                      : make_layout(s, s.type, s.depth, s.rows, s.a_stride);
  plan.out = make_layout(s, s.out_type, s.columns, s.rows, s.out_stride);

  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate", s);
  const Preference owner(preference);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute", s);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  // A sum that is cut is put together in the workspace, in fp32 and in one order: neither in place, in the
  // order of arrival, nor from parts that were rounded to the result's type.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t{nth ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.b_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.a_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.out_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.out_alignment);

  std::array<cublasLtMatmulHeuristicResult_t, kMostWays> found{};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle_.get(), operation, plan.b.get(), plan.a.get(), plan.out.get(),
                                       plan.out.get(), preference, nth ? kMostWays : 1, found.data(), &count),
        "cublasLtMatmulAlgoGetHeuristic", s);
  const auto which = static_cast<size_t>(nth.value_or(0));
  check(which < static_cast<size_t>(count) ? found[which].state : CUBLAS_STATUS_NOT_SUPPORTED,
        "cublasLtMatmulAlgoGetHeuristic", s);
  plan.algorithm = found[which].algo;
  plan.ways = count;
  return plan;
}

const Plan& CublasProducts::Plans::plan_of(const Shape& shape) {
  const std::pair key(shape, nth);
  const auto found = plans_.find(key);
  return found != plans_.end() ? found->second : plans_.emplace(key, make_plan(shape)).first->second;
}

void CublasProducts::Plans::multiply(cudaStream_t stream, const MatrixProduct& p, std::byte* workspace) {
  if (left_out) return;
  const Shape shape{.rows = p.rows,
                    .columns = p.columns,
                    .depth = p.depth,
                    .a_stride = p.a.stride,
                    .b_stride = p.b.stride,
                    .out_stride = p.out_stride,
                    .a_turned = p.a.turned,
                    .b_turned = p.b.turned,
                    .type = p.type,
                    .out_type = p.out_type,
                    .a_alignment = alignment_of(p.a.data),
                    .b_alignment = alignment_of(p.b.data),
                    .out_alignment = alignment_of(p.out)};
  const Plan& plan = plan_of(shape);
  ways = plan.ways;
  const float alpha = 1, beta = p.accumulate ? 1.0f : 0.0f;
  check(cublasLtMatmul(handle_.get(), plan.operation.get(), &alpha, p.b.data, plan.b.get(), p.a.data,
                       plan.a.get(), &beta, p.out, plan.out.get(), p.out, plan.out.get(), &plan.algorithm,
                       workspace, static_cast<size_t>(kWorkspaceBytes), stream),
        "cublasLtMatmul", shape);
}

}  // namespace toroid::cuda
