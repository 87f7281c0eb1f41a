// An operator is data: a kind, operands, and attributes that never change between steps. Whatever changes
// from step to step is an operand. A kind is one header/source pair in core/op; a device's fast kernel for it
// is one file in that device's folder, registered by one explicit call on a KernelRegistry. Operands are
// dense unless the kind's header says that their rows may be strided; where it says f32 for a statistic, a
// loss or a weight's gradient, f64 is meant when everything else is f64.
#pragma once

#include <any>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor/block.h"
#include "core/tensor/tensor.h"

namespace toroid {

enum class Access : uint8_t { in, out, inout };
enum class Phase : uint8_t { forward, recompute, backward, optimizer, setup };
// "forward"; ends in a zero byte. A value that a confused peer sent has a name too.
std::string_view name_of(Phase phase);

struct Operand {
  Tensor tensor;  // an absent optional operand has no block
  Access access = Access::in;
};

// `count` products of an m x k by a k x n matrix.
struct Product {
  int64_t m = 0, n = 0, k = 0, count = 1;
  DType type = DType::f32;
  int64_t flops() const { return 2 * m * n * k * count; }
};

// Charged from shapes alone: windows and causality count, document boundaries do not.
struct Cost {
  std::vector<Product> products;
  int64_t vector_flops = 0;
  int64_t bytes_read = 0, bytes_written = 0;
  int64_t flops() const;
};

// The canonical cut of deterministic mode (docs/design.md section 4): a sum over a split dimension is a
// balanced binary tree over `slices` equal pieces, a sum over tokens a balanced binary tree over blocks of
// `token_block` tokens.
struct Tiles {
  bool deterministic = false;
  int64_t slices = 1;
  int64_t token_block = 64;
};

struct OpKind;

struct Call {
  const OpKind* kind = nullptr;
  std::vector<Operand> operands;
  std::any attributes;  // the struct that the kind's header declares
  Tiles tiles;
  Phase phase = Phase::forward;

  const Tensor& operator[](size_t i) const { return operands[i].tensor; }
  template <class T>
  const T& get() const {
    return *std::any_cast<T>(&attributes);
  }
};

// What an expansion issues its parts through, in the place of the call that it stands for.
class Issuer {
 public:
  virtual void issue(const Call& part) = 0;
  // A dense array of undefined contents, of the device's until the last part is issued.
  virtual Tensor temporary(DType type, Shape shape) = 0;

 protected:
  ~Issuer() = default;
};

struct OpKind {
  std::string_view name;
  Cost (*cost)(const Call&) = nullptr;
  // Plain and slow, any float type incl. f64, computing in double and rounding once at each output.
  void (*reference)(const Call&) = nullptr;
  // A fused kind, which others can express: issues its parts, on a device that has no kernel for it. nullptr
  // for a primitive kind, of which every device needs a kernel.
  void (*expand)(const Call&, Issuer&) = nullptr;
};

// What a kernel is given beside its call.
struct LaunchContext {
  Queue queue{};                   // whose entry it is
  void* stream = nullptr;          // the queue's handle where the device has one, such as a cudaStream_t
  void* libraries = nullptr;       // what the device keeps for its kernels, such as a library's handle
  int threads = 1;                 // of the host's team that it may use
  std::byte* workspace = nullptr;  // as many bytes as workspace_bytes() asked for
};

// A device's kernel. It allocates nothing: scratch memory is asked for before launch, by shapes and by the
// context that the kernel is to get, which has no workspace yet.
struct Kernel {
  void (*run)(const Call&, const LaunchContext&) = nullptr;
  int64_t (*workspace_bytes)(const Call&, const LaunchContext&) = nullptr;  // nullptr: none
};

// Kinds to kernels of one device type; filled once, before the device is made.
class KernelRegistry {
 public:
  void add(const OpKind& kind, Kernel kernel);  // a later call for the same kind replaces the earlier one
  const Kernel* find(const OpKind& kind) const;

 private:
  std::map<const OpKind*, Kernel> kernels_;
};

// Registers every kind's reference kernel: a device in plain C++ against which the fast ones are tested.
void add_reference_kernels(KernelRegistry& registry);

// The primitive kinds that `kernels` lacks, in the order of op::all_kinds().
std::vector<const OpKind*> missing_kinds(const KernelRegistry& kernels);

// Text for records and errors: "matmul(bf16[4, 8], bf16[16, 8] -> bf16[4, 16])".
std::string describe(const Call& call);

}  // namespace toroid
