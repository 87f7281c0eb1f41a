// A stand-in for cuBLASLt: plain loops on a stream, in fp32. It refuses what the library refuses: matrices
// that do not fit, rows that overlap, addresses less aligned than was claimed when the algorithm was chosen,
// a workspace smaller than that needs. Like the library it computes some shapes otherwise than others: where
// the result is small its sum is cut in two, whose parts meet in the workspace.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>
#include <vector>

#include "core/tensor/dtype.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"

struct cublasLtContext {
  uint64_t alive = 0;
};

namespace toroid::testing::stand_in {
namespace {

constexpr uint64_t kAlive = 0x6375626c61734c74, kChosen = 0x616c676f72697468;
constexpr uint64_t kSmall = 4096;  // elements of a result whose sum is cut

// Where opaque types keep what they were told.
enum : size_t { kType, kRows, kColumns, kStride };
enum : size_t { kCompute, kScale, kTurnA, kTurnB };
enum : size_t { kMostWorkspace, kReduction, kAligned };  // four alignments from kAligned on
enum : size_t { kMagic, kProblem, kNeeds, kParts, kNeedsAligned };

cublasStatus_t enter_library(std::string_view call) {
  const int code = failure_of(call);
  return code != 0    ? static_cast<cublasStatus_t>(code)
         : gpu_died() ? CUBLAS_STATUS_EXECUTION_FAILED
                      : CUBLAS_STATUS_SUCCESS;
}

struct Matrix {
  explicit Matrix(const cublasLtMatrixLayoutOpaque_t* layout, bool is_turned = false)
      : bf16(layout->data[kType] == CUDA_R_16BF),
        turned(is_turned),
        rows(layout->data[kRows]),
        columns(layout->data[kColumns]),
        stride(layout->data[kStride]) {}
  // As they count in the product.
  uint64_t height() const { return turned ? columns : rows; }
  uint64_t width() const { return turned ? rows : columns; }
  // Stored by columns, `stride` elements apart, which do not overlap.
  bool is_sound() const { return rows > 0 && columns > 0 && stride >= rows; }
  float at(const void* data, uint64_t row, uint64_t column) const {
    if (turned) std::swap(row, column);
    const uint64_t place = column * stride + row;
    return bf16 ? from_bf16(static_cast<const uint16_t*>(data)[place])
                : static_cast<const float*>(data)[place];
  }
  void put(void* data, uint64_t row, uint64_t column, float value) const {
    const uint64_t place = column * stride + row;
    if (bf16) {
      static_cast<uint16_t*>(data)[place] = to_bf16(value);
    } else {
      static_cast<float*>(data)[place] = value;
    }
  }
  bool operator==(const Matrix&) const = default;

  bool bf16, turned;
  uint64_t rows, columns, stride;
};

struct Problem {
  Problem(const cublasLtMatmulDescOpaque_t* operation, const cublasLtMatrixLayoutOpaque_t* of_a,
          const cublasLtMatrixLayoutOpaque_t* of_b, const cublasLtMatrixLayoutOpaque_t* of_c,
          const cublasLtMatrixLayoutOpaque_t* of_d)
      : a(of_a, operation->data[kTurnA] == CUBLAS_OP_T),
        b(of_b, operation->data[kTurnB] == CUBLAS_OP_T),
        c(of_c),
        d(of_d),
        computes_in_fp32(operation->data[kCompute] == CUBLAS_COMPUTE_32F &&
                         operation->data[kScale] == CUDA_R_32F) {}
  bool is_sound() const {
    return a.is_sound() && b.is_sound() && d.is_sound() && c == d && a.height() == d.rows &&
           a.width() == b.height() && b.width() == d.columns;
  }
  bool is_supported() const { return computes_in_fp32 && a.bf16 == b.bf16 && (a.bf16 || !d.bf16); }
  // What tells an algorithm's problem from others.
  uint64_t hash() const {
    uint64_t h = 14695981039346656037u;
    for (const Matrix* of : {&a, &b, &d}) {
      for (const uint64_t value :
           {of->rows, of->columns, of->stride, uint64_t{of->bf16}, uint64_t{of->turned}}) {
        h = (h ^ value) * 1099511628211u;
      }
    }
    return h;
  }
  uint64_t depth() const { return a.width(); }

  Matrix a, b, c, d;
  bool computes_in_fp32;
};

// sums[column][row] = the product's terms [first, last).
void add_up(const Problem& p, const void* a, const void* b, uint64_t first, uint64_t last, float* sums) {
  std::fill_n(sums, p.d.rows * p.d.columns, 0.0f);
  std::vector<float> left(p.d.rows);
  for (uint64_t i = first; i < last; ++i) {
    for (uint64_t row = 0; row < p.d.rows; ++row) left[row] = p.a.at(a, row, i);
    for (uint64_t column = 0; column < p.d.columns; ++column) {
      const float right = p.b.at(b, i, column);
      float* const to = sums + column * p.d.rows;
      for (uint64_t row = 0; row < p.d.rows; ++row) to[row] += left[row] * right;
    }
  }
}

struct Run {
  Problem problem;
  float alpha, beta;
  const void *a, *b, *c;
  void *d, *workspace;
  uint64_t parts;

  void operator()() const {
    const uint64_t elements = problem.d.rows * problem.d.columns, depth = problem.depth();
    std::vector<float> own(parts == 1 ? elements : 0);
    auto* const sums = parts == 1 ? own.data() : static_cast<float*>(workspace);
    for (uint64_t part = 0; part < parts; ++part) {
      add_up(problem, a, b, depth * part / parts, depth * (part + 1) / parts, sums + part * elements);
    }
    for (uint64_t i = elements; i < parts * elements; ++i) sums[i % elements] += sums[i];
    for (uint64_t column = 0; column < problem.d.columns; ++column) {
      for (uint64_t row = 0; row < problem.d.rows; ++row) {
        float value = alpha * sums[column * problem.d.rows + row];
        if (beta != 0) value += beta * problem.c.at(c, row, column);
        problem.d.put(d, row, column, value);
      }
    }
  }
};

template <class Opaque, size_t kCount>
cublasStatus_t make(std::string_view call, Opaque** to, const uint64_t (&values)[kCount]) {
  if (const cublasStatus_t code = enter_library(call); code != CUBLAS_STATUS_SUCCESS) return code;
  *to = new Opaque{};
  std::copy(std::begin(values), std::end(values), (*to)->data);
  return CUBLAS_STATUS_SUCCESS;
}

// An attribute of T; InvalidValue where it is given as anything else.
template <class T>
cublasStatus_t take(const void* value, size_t bytes, uint64_t& to) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  T given;
  std::memcpy(&given, value, sizeof given);
  to = static_cast<uint64_t>(given);
  return CUBLAS_STATUS_SUCCESS;
}

bool is_aligned(const void* address, uint64_t bytes) {
  return address != nullptr && reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

}  // namespace
}  // namespace toroid::testing::stand_in

namespace stand_in = toroid::testing::stand_in;

extern "C" {

size_t cublasLtGetVersion() {
  return stand_in::failure_of(__func__) != 0 ? 0 : 130100;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const cublasStatus_t code = stand_in::enter_library(__func__); code != CUBLAS_STATUS_SUCCESS)
    return code;
  *handle = new cublasLtContext{stand_in::kAlive};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  handle->alive = 0;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  return stand_in::make(__func__, layout,
                        {static_cast<uint64_t>(type), rows, columns, static_cast<uint64_t>(ld)});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return stand_in::make(
      __func__, operation,
      {static_cast<uint64_t>(compute), static_cast<uint64_t>(scale), CUBLAS_OP_N, CUBLAS_OP_N});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  if (const cublasStatus_t code = stand_in::enter_library(__func__); code != CUBLAS_STATUS_SUCCESS)
    return code;
  const size_t place = attribute == CUBLASLT_MATMUL_DESC_TRANSA ? stand_in::kTurnA : stand_in::kTurnB;
  return stand_in::take<int32_t>(value, bytes, operation->data[place]);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return stand_in::make(__func__, preference, {0, CUBLASLT_REDUCTION_SCHEME_MASK, 256, 256, 256, 256});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  if (const cublasStatus_t code = stand_in::enter_library(__func__); code != CUBLAS_STATUS_SUCCESS)
    return code;
  uint64_t* const data = preference->data;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return stand_in::take<uint64_t>(value, bytes, data[stand_in::kMostWorkspace]);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
    return stand_in::take<uint32_t>(value, bytes, data[stand_in::kReduction]);
  const auto which = static_cast<size_t>(attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  return stand_in::take<uint32_t>(value, bytes, data[stand_in::kAligned + which]);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  if (const cublasStatus_t code = stand_in::enter_library(__func__); code != CUBLAS_STATUS_SUCCESS)
    return code;
  const stand_in::Problem problem(operation, a, b, c, d);
  if (handle->alive != stand_in::kAlive || wanted < 1 || !problem.is_sound())
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!problem.is_supported()) return CUBLAS_STATUS_NOT_SUPPORTED;
  const uint64_t* const likes = preference->data;
  const uint64_t elements = problem.d.rows * problem.d.columns, needs = 2 * elements * sizeof(float);
  const bool can_cut = problem.depth() > 1 && needs <= likes[stand_in::kMostWorkspace] &&
                       (likes[stand_in::kReduction] & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0;
  const bool cut_first = can_cut && elements <= stand_in::kSmall;
  *count = std::min(wanted, can_cut ? 2 : 1);
  for (int i = 0; i < *count; ++i) {
    const bool cut = cut_first == (i == 0);
    results[i] = {};
    uint64_t* const chosen = results[i].algo.data;
    chosen[stand_in::kMagic] = stand_in::kChosen;
    chosen[stand_in::kProblem] = problem.hash();
    chosen[stand_in::kNeeds] = cut ? needs : 0;
    chosen[stand_in::kParts] = cut ? 2 : 1;
    std::copy_n(likes + stand_in::kAligned, 4, chosen + stand_in::kNeedsAligned);
    results[i].workspaceSize = chosen[stand_in::kNeeds];
    results[i].state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  if (const cublasStatus_t code = stand_in::enter_library(__func__); code != CUBLAS_STATUS_SUCCESS)
    return code;
  const stand_in::Problem problem(operation, a_layout, b_layout, c_layout, d_layout);
  const uint64_t* const chosen = algorithm->data;
  const uint64_t* const aligned = chosen + stand_in::kNeedsAligned;
  if (handle->alive != stand_in::kAlive || !problem.is_sound() ||
      chosen[stand_in::kMagic] != stand_in::kChosen || chosen[stand_in::kProblem] != problem.hash() ||
      workspace_bytes < chosen[stand_in::kNeeds] || !stand_in::is_aligned(workspace, 16) ||
      !stand_in::is_aligned(a, aligned[0]) || !stand_in::is_aligned(b, aligned[1]) ||
      !stand_in::is_aligned(c, aligned[2]) || !stand_in::is_aligned(d, aligned[3])) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  stand_in::enqueue(
      stream, stand_in::Run{problem, *static_cast<const float*>(alpha), *static_cast<const float*>(beta), a,
                            b, c, d, workspace, chosen[stand_in::kParts]});
  return CUBLAS_STATUS_SUCCESS;
}
}
