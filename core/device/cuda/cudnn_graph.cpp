#include "core/device/cuda/cudnn_graph.h"

#include <algorithm>
#include <utility>

#include "core/base/text.h"

namespace toroid::cuda {
namespace {

void check(cudnnStatus_t code, std::string_view call) {
  if (code == CUDNN_STATUS_SUCCESS) return;
  constexpr size_t kLongest = 512;
  std::array<char, kLongest> why{};
  cudnnGetLastErrorString(why.data(), kLongest);
  why.back() = '\0';
  const std::string text = "cuDNN " + text_of_cudnn(cudnnGetVersion()) + " refuses " + std::string(call) +
                           ": " + cudnnGetErrorString(code) +
                           (why.front() == '\0' ? "" : ", " + printable(why.data(), kLongest));
  // What it was told, or what it has: codes of the groups BAD_PARAM and NOT_SUPPORTED.
  if (code >= CUDNN_STATUS_BAD_PARAM && code < CUDNN_STATUS_INTERNAL_ERROR) throw CudnnDeclined(text);
  throw SystemError(text);
}

constexpr int64_t kAligned = 16;  // of what has no address

CudnnGraph::Dims dense(const CudnnGraph::Dims& dims) {
  return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
}

// How an operation computes, its attributes unset.
CudnnDescriptor pointwise_mode(cudnnPointwiseMode_t mode, cudnnDataType_t precision) {
  CudnnDescriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision);
  return how;
}

}  // namespace

std::string text_of_cudnn(size_t version) {
  constexpr size_t kMajor = 10000, kMinor = 100;
  return std::to_string(version / kMajor) + "." + std::to_string(version % kMajor / kMinor) + "." +
         std::to_string(version % kMinor);
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t one = nullptr;
  check(cudnnBackendCreateDescriptor(type, &one), "cudnnBackendCreateDescriptor");
  descriptor_.reset(one);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                          const void* values) {
  check(cudnnBackendSetAttribute(get(), name, type, count, values),
        "attribute " + std::to_string(static_cast<int>(name)));
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, const CudnnDescriptor& other) {
  cudnnBackendDescriptor_t one = other.get();
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one);
}

void CudnnDescriptor::set(cudnnBackendAttributeName_t name, int64_t value) {
  set(name, CUDNN_TYPE_INT64, 1, &value);
}

void CudnnDescriptor::finalize() {
  check(cudnnBackendFinalize(get()), "cudnnBackendFinalize");
}

CudnnGraph::Value CudnnGraph::add(cudnnDataType_t type, const Dims& dims, const Dims& strides, Place place,
                                  int64_t alignment) {
  const Value out{static_cast<int64_t>(tensors_.size()) + 1};
  CudnnDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, out.id);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
  const bool yes = true;
  if (place == Place::kernel) tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
  if (place == Place::call) tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
  tensor.finalize();
  tensors_.push_back(std::move(tensor));
  return out;
}

CudnnGraph::Value CudnnGraph::array(cudnnDataType_t type, const Dims& dims, const Dims& strides,
                                    int64_t alignment) {
  return add(type, dims, strides, Place::memory, alignment);
}
CudnnGraph::Value CudnnGraph::temporary(cudnnDataType_t type, const Dims& dims) {
  return temporary(type, dims, dense(dims));
}
CudnnGraph::Value CudnnGraph::temporary(cudnnDataType_t type, const Dims& dims, const Dims& strides) {
  return add(type, dims, strides, Place::kernel, kAligned);
}
CudnnGraph::Value CudnnGraph::scalar(float value) {
  const Value out = add(CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, Place::call, kAligned);
  scalars_.push_back({out.id, value});
  return out;
}

void CudnnGraph::multiply(const Value& a, const Value& b, const Value& out) {
  const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
  CudnnDescriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
  how.finalize();
  CudnnDescriptor& one = operations_.emplace_back(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  one.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, of(a));
  one.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, of(b));
  one.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, of(out));
  one.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
  one.finalize();
}

void CudnnGraph::point(const CudnnDescriptor& how, const Value* x, const Value* y, const Value* which,
                       const Value& out) {
  CudnnDescriptor& one = operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  one.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  if (x != nullptr) one.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, of(*x));
  if (y != nullptr) one.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, of(*y));
  if (which != nullptr) one.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, of(*which));
  one.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, of(out));
  one.finalize();
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, const Value& out, const Value& x, const Value* y) {
  CudnnDescriptor how = pointwise_mode(mode, CUDNN_DATA_FLOAT);
  how.finalize();
  point(how, &x, y, nullptr, out);
}

void CudnnGraph::index(const Value& out, const Value& x, int64_t axis) {
  CudnnDescriptor how = pointwise_mode(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT);
  how.set(CUDNN_ATTR_POINTWISE_AXIS, axis);
  how.finalize();
  point(how, &x, nullptr, nullptr, out);
}

void CudnnGraph::compare(cudnnPointwiseMode_t mode, const Value& out, const Value& x, const Value& y) {
  CudnnDescriptor how = pointwise_mode(mode, CUDNN_DATA_BOOLEAN);
  how.finalize();
  point(how, &x, &y, nullptr, out);
}

void CudnnGraph::select(const Value& out, const Value& which, const Value& x, const Value& y) {
  CudnnDescriptor how = pointwise_mode(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT);
  how.finalize();
  point(how, &x, &y, &which, out);
}

void CudnnGraph::pointwise_grad(cudnnPointwiseMode_t mode, const Value& out, const Value& x,
                                const Value& gradient) {
  CudnnDescriptor how = pointwise_mode(mode, CUDNN_DATA_FLOAT);
  how.finalize();
  CudnnDescriptor& one = operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  one.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  one.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, of(x));
  one.set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, of(gradient));
  one.set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, of(out));
  one.finalize();
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t reduction, const Value& out, const Value& x) {
  const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
  CudnnDescriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &reduction);
  how.finalize();
  CudnnDescriptor& one = operations_.emplace_back(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  one.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, of(x));
  one.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, of(out));
  one.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  one.finalize();
}

void CudnnGraph::reshape(const Value& out, const Value& x) {
  CudnnDescriptor& one = operations_.emplace_back(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  one.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, of(x));
  one.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, of(out));
  one.finalize();
}

CudnnDescriptor describe_gpu(std::string_view json) {
  CudnnDescriptor out(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  out.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(json.size()),
          json.data());
  out.finalize();
  return out;
}

CudnnPlan::CudnnPlan(CudnnGraph graph, const CudnnTarget& target)
    : parts_(std::move(graph)),
      graph_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR),
      plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const CudnnDescriptor& one : parts_.operations_) operations.push_back(one.get());
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
             static_cast<int64_t>(operations.size()), operations.data());
  if (target.handle != nullptr)
    graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  graph_.finalize();

  const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
  CudnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (target.description != nullptr) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.description);
  heuristic.finalize();
  const CudnnDescriptor choice(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  cudnnBackendDescriptor_t first = choice.get();
  int64_t count = 0;
  check(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &first),
        "its heuristic's answer");
  check(count > 0 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED, "a kernel for the graph");

  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t of_engine = engine.get();
  check(cudnnBackendGetAttribute(choice.get(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &count, &of_engine),
        "the kernel's engine");
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  check(cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 static_cast<int64_t>(notes.size()), &count, notes.data()),
        "the engine's notes");
  const auto known = std::min(notes.size(), static_cast<size_t>(std::max<int64_t>(count, 0)));
  may_vary_ =
      std::find(notes.begin(), notes.begin() + static_cast<ptrdiff_t>(known),
                CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) != notes.begin() + static_cast<ptrdiff_t>(known);

  plan_.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, choice);
  if (target.handle != nullptr)
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  if (target.description != nullptr) plan_.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.description);
  plan_.finalize();
  check(cudnnBackendGetAttribute(plan_.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                 &count, &workspace_bytes_),
        "the kernel's workspace");
}

void CudnnPlan::run(cudnnHandle_t handle, std::span<const Binding> bindings, std::byte* workspace) const {
  std::vector<int64_t> ids;
  std::vector<void*> data;
  std::vector<float> values;
  values.reserve(parts_.scalars_.size());
  for (const Binding& one : bindings) {
    ids.push_back(one.value.id);
    data.push_back(one.data);
  }
  for (const CudnnGraph::Scalar& one : parts_.scalars_) {
    ids.push_back(one.id);
    data.push_back(&values.emplace_back(one.value));
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const auto count = static_cast<int64_t>(ids.size());
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize();
  check(cudnnBackendExecute(handle, plan_.get(), pack.get()), "cudnnBackendExecute");
}

}  // namespace toroid::cuda
