// A graph of operations that cuDNN makes one kernel of, told by its backend interface (NVIDIA, "cuDNN Backend
// API"). All arrays have four dimensions. SystemError, which names call and reason, where cuDNN fails.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"

namespace toroid::cuda {

// It has no kernel for what it was told, and never has: nothing of it depends on the moment.
class CudnnDeclined : public SystemError {
 public:
  using SystemError::SystemError;
};

// "9.19.0" of 91900.
std::string text_of_cudnn(size_t version);

// What cuDNN knows something by: told attribute after attribute, then finished.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& other);
  void set(cudnnBackendAttributeName_t name, int64_t value);
  void finalize();
  cudnnBackendDescriptor_t get() const { return descriptor_.get(); }

 private:
  struct Destroy {
    void operator()(void* one) const { (void)cudnnBackendDestroyDescriptor(one); }
  };
  std::unique_ptr<void, Destroy> descriptor_;
};

class CudnnGraph {
 public:
  using Dims = std::array<int64_t, 4>;
  struct Value {
    int64_t id = 0;  // by which memory is bound to it
  };

  // Memory whose address is a multiple of `alignment` bytes.
  Value array(cudnnDataType_t type, const Dims& dims, const Dims& strides, int64_t alignment = 16);
  // What exists within the kernel alone.
  Value temporary(cudnnDataType_t type, const Dims& dims);
  // The same with strides of its own: what a reshape makes is read by them.
  Value temporary(cudnnDataType_t type, const Dims& dims, const Dims& strides);
  Value scalar(float value);

  // out[.., m, n] = sum over k of a[.., m, k] b[.., k, n], in fp32; heads of b, or of a, may serve several.
  void multiply(const Value& a, const Value& b, const Value& out);
  // out = x mode y, where the mode has two operands; dimensions of 1 are repeated.
  void pointwise(cudnnPointwiseMode_t mode, const Value& out, const Value& x, const Value* y = nullptr);
  // In integers: the place along the axis, of an array shaped as x.
  void index(const Value& out, const Value& x, int64_t axis);
  // out = x mode y, true or false.
  void compare(cudnnPointwiseMode_t mode, const Value& out, const Value& x, const Value& y);
  // out = which ? x : y.
  void select(const Value& out, const Value& which, const Value& x, const Value& y);
  // out = the gradient of mode (of CUDNN_POINTWISE_..._BWD) at x, times gradient.
  void pointwise_grad(cudnnPointwiseMode_t mode, const Value& out, const Value& x, const Value& gradient);
  // Over the dimensions that out has fewer of, in fp32.
  void reduce(cudnnReduceTensorOp_t how, const Value& out, const Value& x);
  // The same elements by other dimensions and strides.
  void reshape(const Value& out, const Value& x);

 private:
  friend class CudnnPlan;
  struct Scalar {
    int64_t id = 0;
    float value = 0;
  };
  enum class Place { memory, kernel, call };  // call: its value is told with it
  Value add(cudnnDataType_t type, const Dims& dims, const Dims& strides, Place place, int64_t alignment);
  const CudnnDescriptor& of(const Value& value) const { return tensors_[static_cast<size_t>(value.id - 1)]; }
  void point(const CudnnDescriptor& how, const Value* x, const Value* y, const Value* which,
             const Value& out);

  std::vector<CudnnDescriptor> tensors_, operations_;
  std::vector<Scalar> scalars_;
};

// For which GPU a plan is made.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;  // of the GPU in use, or
  const CudnnDescriptor* description =
      nullptr;  // of one that need not be here: its plans are looked at and not run
};
// A finished description, from cuDNN's own JSON of a GPU's properties: so that what cuDNN makes for an H200
// is known on machines without one (cudnn_plans_test).
CudnnDescriptor describe_gpu(std::string_view json);

// A graph as a kernel: the first that cuDNN's heuristic answers with, which follows from the graph and the
// kind of GPU, never from a timing.
class CudnnPlan {
 public:
  CudnnPlan(CudnnGraph graph, const CudnnTarget& target);

  int64_t workspace_bytes() const { return workspace_bytes_; }
  // Whether cuDNN says of the kernel that its bits may differ from run to run.
  bool may_vary() const { return may_vary_; }

  struct Binding {
    CudnnGraph::Value value;
    void* data = nullptr;
  };
  // In the order of the handle's stream. `bindings`: of every array of the graph.
  void run(cudnnHandle_t handle, std::span<const Binding> bindings, std::byte* workspace) const;

 private:
  CudnnGraph parts_;
  CudnnDescriptor graph_, plan_;
  int64_t workspace_bytes_ = 0;
  bool may_vary_ = false;
};

}  // namespace toroid::cuda
