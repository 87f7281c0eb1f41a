// Which kernel attention goes by.
#include <algorithm>

#include "core/device/cuda/attention_kernels.h"
#include "core/device/cuda/libraries.h"
#include "core/device/cuda/sdpa_rule.h"
#include "core/op/attention.h"

namespace toroid::cuda {
namespace {

bool went_by_cudnn(const Call& call, const LaunchContext& context) {
  if (!sdpa_takes(call)) return false;
  Libraries& libraries = libraries_of(context);
  libraries.misses_cudnn = libraries.attention == nullptr;
  return libraries.attention != nullptr && libraries.attention->run(call, context);
}

void attention(const Call& call, const LaunchContext& context) {
  if (!went_by_cudnn(call, context)) own_attention(call, context);
}

void attention_grad(const Call& call, const LaunchContext& context) {
  if (!went_by_cudnn(call, context)) own_attention_grad(call, context);
}

// Enough for either, since whether cuDNN has a kernel for the shape is known when it is asked.
int64_t attention_workspace(const Call& call, const LaunchContext&) {
  return sdpa_takes(call) ? sdpa_workspace(call).bytes : 0;
}
int64_t attention_grad_workspace(const Call& call, const LaunchContext& context) {
  return std::max(attention_workspace(call, context), own_attention_grad_workspace(call, context));
}

}  // namespace

void add_attention_kernels(KernelRegistry& registry, bool fused) {
  if (fused) {
    registry.add(op::attention_kind, {attention, attention_workspace});
    registry.add(op::attention_grad_kind, {attention_grad, attention_grad_workspace});
  } else {
    registry.add(op::attention_kind, {attention});
    registry.add(op::attention_grad_kind, {attention_grad, own_attention_grad_workspace});
  }
}

}  // namespace toroid::cuda
