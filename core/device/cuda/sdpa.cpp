#include "core/device/cuda/sdpa.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cuda/gpus.h"
#include "core/device/cuda/sdpa_graph.h"
#include "core/device/cuda/sdpa_rule.h"

namespace toroid::cuda {
namespace {

constexpr size_t kLeastVersion = 91900;
const char* const kTried = "9.0";

struct SdpaPlan {
  SdpaGraph values;  // its graph has gone to the kernel
  std::optional<CudnnPlan> kernel;
  std::string declined;  // why there is none
};

SdpaShape shape_of(const Call& call) {
  const auto& spec = call.get<op::AttentionSpec>();
  SdpaShape out;
  out.backward = call.kind == &op::attention_grad_kind;
  const size_t first = out.backward ? 1 : 0;
  out.T = call[first].rows() / spec.sequences;
  out.N = spec.heads;
  out.K = spec.kv_heads;
  out.H = spec.head_dim;
  out.lse_stride = out.backward ? out.T : call[first].rows();
  const std::vector<size_t> rows =
      out.backward ? std::vector<size_t>{1, 2, 3, 4, 0, 7, 8, 9} : std::vector<size_t>{0, 1, 2, 4};
  for (size_t i = 0; i < rows.size(); ++i) out.strides[i] = call[rows[i]].row_stride;
  out.scale = spec.scale;
  out.softcap = spec.softcap;
  out.window = spec.window >= out.T ? 0 : spec.window;
  out.documents = spec.documents;
  return out;
}

// Sequence b of a matrix.
void* rows_of(const Tensor& t, int64_t b, int64_t T) {
  return t.data() + b * T * t.row_stride * bytes_of(t.type);
}

}  // namespace

AttentionLibrary attention_library() {
  const std::string own = "Toroid's own kernels: ";
  if (gpu_count() == 0) return {true, "cuDNN, as on an H100 or H200"};
  if (const std::string capability = gpu_info(0).capability; capability != kTried) {
    return {false,
            own + "the GPU has compute capability " + capability + ", and cuDNN's were tried on " + kTried};
  }
  const size_t number = cudnnGetVersion();
  const std::string version = text_of_cudnn(number);
  if (number == 0) return {false, own + "libcudnn.so.9 is not found"};
  if (number < kLeastVersion)
    return {false, own + "cuDNN " + version + " is here, and 9.19 or newer is wanted"};
  return {true, "cuDNN " + version};
}

struct Sdpa::Plans {
  struct Destroy {
    void operator()(cudnnContext* one) const { (void)cudnnDestroy(one); }
  };
  std::unique_ptr<cudnnContext, Destroy> handle;
  std::map<SdpaShape, SdpaPlan> of;

  const SdpaPlan& find(const SdpaShape& shape, int64_t workspace) {
    const auto found = of.find(shape);
    if (found != of.end()) return found->second;
    SdpaPlan plan;
    try {
      plan.values = sdpa_graph(shape);
      plan.kernel.emplace(std::move(plan.values.graph), CudnnTarget{.handle = handle.get()});
      const int64_t wanted = plan.kernel->workspace_bytes();
      if (plan.kernel->may_vary()) {
        plan.declined = "the bits of cuDNN's may vary from run to run";
      } else if (wanted > workspace) {
        plan.declined = "cuDNN's wants " + human_bytes(wanted) + " of memory, and " + human_bytes(workspace) +
                        " are foreseen";
      }
    } catch (const CudnnDeclined& error) {
      plan.declined = error.what();
    }
    if (!plan.declined.empty()) plan.kernel.reset();
    return of.emplace(shape, std::move(plan)).first->second;
  }
};

Sdpa::Sdpa(int gpu) : plans_(std::make_unique<Plans>()) {
  cudnnHandle_t handle = nullptr;
  if (const cudnnStatus_t code = cudnnCreate(&handle); code != CUDNN_STATUS_SUCCESS) {
    throw SystemError("cuDNN does not start on GPU " + std::to_string(gpu) + ": " +
                      cudnnGetErrorString(code) + ", said by cudnnCreate");
  }
  plans_->handle.reset(handle);
}

Sdpa::~Sdpa() = default;

std::vector<std::string> Sdpa::remarks() const {
  std::vector<std::string> out;
  for (const auto& [shape, plan] : plans_->of) {
    if (plan.kernel) continue;
    std::string text = shape.backward ? "the gradient of attention of " : "attention of ";
    text += std::to_string(shape.T) + " tokens with " + std::to_string(shape.N) + " heads of " +
            std::to_string(shape.H);
    if (shape.window > 0) text += " and a window of " + std::to_string(shape.window);
    text += " goes by Toroid's own kernel: " + plan.declined;
    if (std::find(out.begin(), out.end(), text) == out.end()) out.push_back(text);
  }
  return out;
}

bool Sdpa::run(const Call& call, const LaunchContext& context) {
  const SdpaShape shape = shape_of(call);
  const SdpaWorkspace memory = sdpa_workspace(call);
  const SdpaPlan& plan = plans_->find(shape, memory.kernel);
  if (!plan.kernel) return false;
  auto* const stream = static_cast<cudaStream_t>(context.stream);
  if (const cudnnStatus_t code = cudnnSetStream(plans_->handle.get(), stream); code != CUDNN_STATUS_SUCCESS)
    throw SystemError(std::string("cuDNN does not take a stream: ") + cudnnGetErrorString(code));

  const int64_t sequences = call.get<op::AttentionSpec>().sequences;
  const SdpaGraph& is = plan.values;
  for (int64_t b = 0; b < sequences; ++b) {
    const auto of = [&](size_t operand) { return rows_of(call[operand], b, shape.T); };
    std::vector<CudnnPlan::Binding> bindings;
    if (shape.backward) {
      // cuDNN reads an lse whose heads lie behind each other.
      std::byte* lse = call[5].data();
      if (sequences > 1) {
        const auto row = static_cast<size_t>(shape.T * bytes_of(DType::f32));
        std::byte* const packed = context.workspace + memory.lse;
        (void)cudaMemcpy2DAsync(packed, row, lse + static_cast<size_t>(b) * row,
                                static_cast<size_t>(sequences) * row, row, static_cast<size_t>(shape.N),
                                cudaMemcpyDeviceToDevice, stream);
        lse = packed;
      }
      bindings = {{is.q, of(1)},   {is.k, of(2)},
                  {is.v, of(3)},   {is.o, of(4)},
                  {is.d_o, of(0)}, {is.dq, of(7)},
                  {is.dk, of(8)},  {is.dv, of(9)},
                  {is.lse, lse},   {is.sums, context.workspace + memory.sums}};
      if (shape.documents) bindings.push_back({is.starts, rows_of(call[6], b, shape.T)});
    } else {
      bindings = {{is.q, of(0)},
                  {is.k, of(1)},
                  {is.v, of(2)},
                  {is.o, of(4)},
                  {is.lse, call[5].data() + b * shape.T * bytes_of(DType::f32)}};
      if (shape.documents) bindings.push_back({is.starts, rows_of(call[3], b, shape.T)});
    }
    plan.kernel->run(plans_->handle.get(), bindings, context.workspace);
  }
  return true;
}

}  // namespace toroid::cuda
