// A stand-in for cuDNN's backend interface: descriptors are told attributes, a graph's operations are
// computed one after the other on a stream (cudnn_graph.h). It refuses what the library refuses: attributes
// of another type, descriptors that were not finished or were changed after, operations that do not fit each
// other, memory that is missing or less aligned than was said. What a kernel may use of its workspace it
// overwrites, so that one that is too small, or somebody else's, shows.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/core/device/cuda/stand_in/cudnn_graph.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"

struct cudnnContext {
  cudaStream_t stream = nullptr;
};

namespace toroid::testing::stand_in {
namespace {

struct Descriptor;
using Shared = std::shared_ptr<Descriptor>;

struct Descriptor {
  struct Attribute {
    cudnnBackendAttributeType_t type{};
    int64_t count = 0;
    std::vector<std::byte> bytes;
    std::vector<Shared> others;
  };
  explicit Descriptor(cudnnBackendDescriptorType_t of) : type(of) {}

  bool has(int name) const { return attributes.count(name) > 0; }
  template <class T>
  T value(int name, T otherwise = T{}) const {
    const auto found = attributes.find(name);
    if (found == attributes.end() || found->second.bytes.size() < sizeof(T)) return otherwise;
    T out{};
    std::memcpy(&out, found->second.bytes.data(), sizeof out);
    return out;
  }
  Shared other(int name) const {
    const auto found = attributes.find(name);
    return found == attributes.end() || found->second.others.empty() ? nullptr : found->second.others.front();
  }

  cudnnBackendDescriptorType_t type;
  bool finished = false;
  std::map<int, Attribute> attributes;
  std::shared_ptr<const CudnnProgram> program;  // of a graph, an engine, its configuration and its plan
};

Shared* handle_of(cudnnBackendDescriptor_t descriptor) {
  return static_cast<Shared*>(descriptor);
}

size_t bytes_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_NUMERICAL_NOTE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_REDUCTION_OPERATOR_TYPE:
      return 4;
    default:
      return 8;
  }
}

cudnnBackendAttributeType_t type_of(int name) {
  switch (name) {
    case CUDNN_ATTR_POINTWISE_MODE:
      return CUDNN_TYPE_POINTWISE_MODE;
    case CUDNN_ATTR_POINTWISE_MATH_PREC:
    case CUDNN_ATTR_TENSOR_DATA_TYPE:
    case CUDNN_ATTR_MATMUL_COMP_TYPE:
    case CUDNN_ATTR_REDUCTION_COMP_TYPE:
      return CUDNN_TYPE_DATA_TYPE;
    case CUDNN_ATTR_POINTWISE_AXIS:
    case CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT:
    case CUDNN_ATTR_TENSOR_DIMENSIONS:
    case CUDNN_ATTR_TENSOR_STRIDES:
    case CUDNN_ATTR_TENSOR_UNIQUE_ID:
    case CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS:
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      return CUDNN_TYPE_INT64;
    case CUDNN_ATTR_TENSOR_IS_VIRTUAL:
    case CUDNN_ATTR_TENSOR_IS_BY_VALUE:
      return CUDNN_TYPE_BOOLEAN;
    case CUDNN_ATTR_ENGINEHEUR_MODE:
      return CUDNN_TYPE_HEUR_MODE;
    case CUDNN_ATTR_EXECUTION_PLAN_HANDLE:
    case CUDNN_ATTR_OPERATIONGRAPH_HANDLE:
      return CUDNN_TYPE_HANDLE;
    case CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS:
    case CUDNN_ATTR_VARIANT_PACK_WORKSPACE:
      return CUDNN_TYPE_VOID_PTR;
    case CUDNN_ATTR_REDUCTION_OPERATOR:
      return CUDNN_TYPE_REDUCTION_OPERATOR_TYPE;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      return CUDNN_TYPE_NUMERICAL_NOTE;
    case CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION:
      return CUDNN_TYPE_CHAR;
    default:
      return CUDNN_TYPE_BACKEND_DESCRIPTOR;
  }
}

// 0 where there is none.
int64_t id_of(const Descriptor& operation, int name) {
  const Shared tensor = operation.other(name);
  return tensor == nullptr ? 0 : tensor->value<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
}

CudnnTensor tensor_of(const Descriptor& d) {
  CudnnTensor out;
  out.id = d.value<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  out.type = d.value(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT);
  out.dims = d.value<CudnnDims>(CUDNN_ATTR_TENSOR_DIMENSIONS);
  out.strides = d.value<CudnnDims>(CUDNN_ATTR_TENSOR_STRIDES);
  out.alignment = d.value<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1);
  out.is_virtual = d.value(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false);
  out.by_value = d.value(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false);
  return out;
}

CudnnOperation operation_of(const Descriptor& d) {
  CudnnOperation out;
  switch (d.type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      out.kind = CudnnOperation::Kind::multiply;
      out.x = id_of(d, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
      out.y = id_of(d, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
      out.out = id_of(d, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
      break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      out.kind = CudnnOperation::Kind::reduce;
      out.x = id_of(d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
      out.out = id_of(d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
      out.mode = d.other(CUDNN_ATTR_OPERATION_REDUCTION_DESC)->value<int32_t>(CUDNN_ATTR_REDUCTION_OPERATOR);
      break;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      out.kind = CudnnOperation::Kind::reshape;
      out.x = id_of(d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
      out.out = id_of(d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
      break;
    default: {
      const Shared how = d.other(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
      out.mode = how->value<int32_t>(CUDNN_ATTR_POINTWISE_MODE);
      out.axis = how->value<int64_t>(CUDNN_ATTR_POINTWISE_AXIS);
      out.x = id_of(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
      const bool grad = out.mode == CUDNN_POINTWISE_TANH_BWD;
      out.y = id_of(d, grad ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
      out.which = id_of(d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
      out.out = id_of(d, grad ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
      break;
    }
  }
  return out;
}

cudnnStatus_t finish_graph(Descriptor& graph) {
  auto program = std::make_shared<CudnnProgram>();
  const auto found = graph.attributes.find(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  if (found == graph.attributes.end()) return CUDNN_STATUS_BAD_PARAM;
  for (const Shared& one : found->second.others) {
    for (const auto& [name, attribute] : one->attributes) {
      for (const Shared& part : attribute.others) {
        if (part->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR) continue;
        const CudnnTensor tensor = tensor_of(*part);
        program->tensors[tensor.id] = tensor;
      }
    }
    program->operations.push_back(operation_of(*one));
  }
  if (!program->is_sound()) return CUDNN_STATUS_BAD_PARAM;
  graph.program = std::move(program);
  return CUDNN_STATUS_SUCCESS;
}

// What each type cannot do without.
const std::map<int, std::vector<int>>& needs() {
  static const std::map<int, std::vector<int>> all = {
      {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
       {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_DIMENSIONS,
        CUDNN_ATTR_TENSOR_STRIDES, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT}},
      {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, {CUDNN_ATTR_POINTWISE_MODE, CUDNN_ATTR_POINTWISE_MATH_PREC}},
      {CUDNN_BACKEND_MATMUL_DESCRIPTOR, {CUDNN_ATTR_MATMUL_COMP_TYPE}},
      {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, {CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_ATTR_REDUCTION_COMP_TYPE}},
      {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
       {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC}},
      {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
       {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC,
        CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_ATTR_OPERATION_MATMUL_DESC}},
      {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
       {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_ATTR_OPERATION_REDUCTION_YDESC,
        CUDNN_ATTR_OPERATION_REDUCTION_DESC}},
      {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
       {CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_ATTR_OPERATION_RESHAPE_YDESC}},
      {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, {CUDNN_ATTR_OPERATIONGRAPH_OPS}},
      {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
       {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_MODE}},
      {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG}},
      {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
       {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
        CUDNN_ATTR_VARIANT_PACK_WORKSPACE}},
  };
  return all;
}

cudnnStatus_t finish(Descriptor& d) {
  const auto found = needs().find(d.type);
  if (found != needs().end() &&
      !std::all_of(found->second.begin(), found->second.end(), [&](int name) { return d.has(name); }))
    return CUDNN_STATUS_BAD_PARAM;
  if (d.type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) return finish_graph(d);
  if (d.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)
    d.program = d.other(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)->program;
  if (d.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    d.program = d.other(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->program;
    if (d.program == nullptr) return CUDNN_STATUS_BAD_PARAM;
  }
  return CUDNN_STATUS_SUCCESS;
}

template <class T>
void answer(int64_t wanted, int64_t* count, void* values, T value) {
  *count = 1;
  if (wanted > 0) std::memcpy(values, &value, sizeof value);
}

cudnnStatus_t get(Descriptor& d, int name, int64_t wanted, int64_t* count, void* values) {
  switch (name) {
    // Descriptors that the caller has made are filled.
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
    case CUDNN_ATTR_ENGINECFG_ENGINE: {
      *count = d.program != nullptr && d.program->has_kernel() ? 1 : 0;
      if (*count == 0) return CUDNN_STATUS_SUCCESS;
      if (wanted < 1) return CUDNN_STATUS_SUCCESS;
      Descriptor& filled = **handle_of(*static_cast<cudnnBackendDescriptor_t*>(values));
      filled.program = d.program;
      filled.finished = true;
      return d.program == nullptr ? CUDNN_STATUS_BAD_PARAM : CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
      const int code = failure_of("a note of cuDNN");
      answer(wanted, count, values,
             code == 0 ? CUDNN_NUMERICAL_NOTE_TENSOR_CORE : static_cast<cudnnBackendNumericalNote_t>(code));
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      answer(wanted, count, values, d.program->workspace_bytes() + failure_of("more workspace of cuDNN"));
      return CUDNN_STATUS_SUCCESS;
    default:
      return CUDNN_STATUS_NOT_SUPPORTED;
  }
}

cudnnStatus_t execute(cudaStream_t stream, const Descriptor& plan, const Descriptor& pack) {
  const auto& ids = pack.attributes.at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto& data = pack.attributes.at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (ids.count != data.count) return CUDNN_STATUS_BAD_PARAM;
  auto program = plan.program;
  std::map<int64_t, void*> memory;
  auto scalars =
      std::make_shared<std::map<int64_t, float>>();  // of the call, which ends before the kernel runs
  for (int64_t i = 0; i < ids.count; ++i) {
    int64_t id = 0;
    void* at = nullptr;
    std::memcpy(&id, ids.bytes.data() + i * 8, 8);
    std::memcpy(&at, data.bytes.data() + i * 8, 8);
    const auto found = program->tensors.find(id);
    if (found == program->tensors.end() || at == nullptr || found->second.is_virtual)
      return CUDNN_STATUS_BAD_PARAM;
    if (found->second.by_value) {
      float& own = (*scalars)[id];
      std::memcpy(&own, at, sizeof own);
      at = &own;
    } else if (reinterpret_cast<uintptr_t>(at) % static_cast<uintptr_t>(found->second.alignment) != 0) {
      return CUDNN_STATUS_BAD_PARAM;
    }
    memory[id] = at;
  }
  for (const auto& [id, tensor] : program->tensors) {
    if (!tensor.is_virtual && memory.count(id) == 0) return CUDNN_STATUS_BAD_PARAM;
  }
  auto* const workspace = pack.value<std::byte*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (workspace == nullptr) return CUDNN_STATUS_BAD_PARAM;
  enqueue(stream, [program, memory = std::move(memory), scalars, workspace] {
    std::memset(workspace, 0xff, static_cast<size_t>(program->workspace_bytes()));
    program->run(memory);
    std::memset(workspace, 0xff, static_cast<size_t>(program->workspace_bytes()));
  });
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t enter_library(std::string_view call) {
  const int code = failure_of(call);
  return code != 0    ? static_cast<cudnnStatus_t>(code)
         : gpu_died() ? CUDNN_STATUS_EXECUTION_FAILED
                      : CUDNN_STATUS_SUCCESS;
}

}  // namespace
}  // namespace toroid::testing::stand_in

using namespace toroid::testing::stand_in;  // NOLINT: a file of one library's calls

extern "C" {

// That of a failure, where a test has one of it: below 0 the library is not there.
size_t cudnnGetVersion() {
  const int other = failure_of(__func__);
  return other == 0 ? 91900 : static_cast<size_t>(std::max(other, 0));
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
      return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_INTERNAL_ERROR:
      return "CUDNN_STATUS_INTERNAL_ERROR";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
  }
  return "an unknown status";
}
void cudnnGetLastErrorString(char* message, size_t bytes) {
  if (bytes > 0) *message = '\0';
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (const cudnnStatus_t code = enter_library(__func__); code != CUDNN_STATUS_SUCCESS) return code;
  *handle = new cudnnContext;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (const cudnnStatus_t code = enter_library(__func__); code != CUDNN_STATUS_SUCCESS) return code;
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  *descriptor = new Shared(std::make_shared<Descriptor>(type));
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete handle_of(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  Descriptor& d = **handle_of(descriptor);
  if (d.finished || type != type_of(name) || count < 1 || values == nullptr) return CUDNN_STATUS_BAD_PARAM;
  Descriptor::Attribute attribute{type, count, {}, {}};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    const auto* const others = static_cast<const cudnnBackendDescriptor_t*>(values);
    for (int64_t i = 0; i < count; ++i) {
      const Shared& other = *handle_of(others[i]);
      if (!other->finished) return CUDNN_STATUS_BAD_PARAM;
      attribute.others.push_back(other);
    }
  } else {
    const auto* const bytes = static_cast<const std::byte*>(values);
    attribute.bytes.assign(bytes, bytes + static_cast<size_t>(count) * bytes_of(type));
  }
  d.attributes[name] = std::move(attribute);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t* count,
                                       void* values) {
  Descriptor& d = **handle_of(descriptor);
  if (!d.finished || type != type_of(name) || count == nullptr) return CUDNN_STATUS_BAD_PARAM;
  return get(d, name, wanted, count, values);
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  if (const cudnnStatus_t code = enter_library(__func__); code != CUDNN_STATUS_SUCCESS) return code;
  Descriptor& d = **handle_of(descriptor);
  if (d.finished) return CUDNN_STATUS_BAD_PARAM;
  const cudnnStatus_t code = finish(d);
  d.finished = code == CUDNN_STATUS_SUCCESS;
  return code;
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  if (const cudnnStatus_t code = enter_library(__func__); code != CUDNN_STATUS_SUCCESS) return code;
  const Shared &of_plan = *handle_of(plan), &of_pack = *handle_of(pack);
  if (!of_plan->finished || !of_pack->finished || of_plan->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
      of_pack->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
    return CUDNN_STATUS_BAD_PARAM;
  return execute(handle->stream, *of_plan, *of_pack);
}
}
