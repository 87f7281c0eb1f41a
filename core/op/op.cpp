#include "core/op/op.h"

#include <iterator>

#include "core/base/error.h"
#include "core/op/check.h"
#include "core/op/kinds.h"

namespace toroid {

std::string_view name_of(Phase phase) {
  static constexpr std::string_view kNames[] = {"forward", "recompute", "backward", "optimizer", "setup"};
  const auto index = static_cast<size_t>(phase);
  return index < std::size(kNames) ? kNames[index] : "unknown phase";
}

int64_t Cost::flops() const {
  int64_t total = vector_flops;
  for (const Product& product : products) total += product.flops();
  return total;
}

void KernelRegistry::add(const OpKind& kind, Kernel kernel) {
  require(kernel.run != nullptr, "a registered kernel can be run");
  kernels_[&kind] = kernel;
}

const Kernel* KernelRegistry::find(const OpKind& kind) const {
  const auto found = kernels_.find(&kind);
  return found == kernels_.end() ? nullptr : &found->second;
}

int64_t KernelRegistry::packed_bytes(DType type, const Shape& shape, Layout) const {
  return shape.elements() * bytes_of(type);
}

void add_reference_kernels(KernelRegistry& registry) {
  const Kernel reference{.run = [](const Call& call, std::byte*, int) { call.kind->reference(call); }};
  for (const OpKind* kind : op::all_kinds()) registry.add(*kind, reference);
}

std::vector<const OpKind*> missing_kinds(const KernelRegistry& kernels) {
  std::vector<const OpKind*> missing;
  for (const OpKind* kind : op::all_kinds()) {
    if (kind->expand == nullptr && kernels.find(*kind) == nullptr) missing.push_back(kind);
  }
  return missing;
}

std::string describe(const Call& call) {
  std::string in, out;
  for (const Operand& operand : call.operands) {
    std::string& list = operand.access == Access::in ? in : out;
    if (!list.empty()) list += ", ";
    list += operand.tensor ? operand.tensor.text() : "-";
  }
  return std::string(call.kind->name) + "(" + in + " -> " + out + ")";
}

namespace op {

void fail(std::string_view op, std::string_view relation, std::initializer_list<Named> tensors) {
  std::string message = std::string(op) + ": ";
  size_t i = 0;
  for (const Named& named : tensors) {
    if (i > 0) message += i + 1 == tensors.size() ? " and " : ", ";
    message += std::string(named.name) + " " + (named.tensor ? named.tensor.text() : "absent");
    ++i;
  }
  throw InternalError(message + " must satisfy: " + std::string(relation));
}

void issue_part(Issuer& issuer, const Call& whole, Call part) {
  part.tiles = whole.tiles;
  part.phase = whole.phase;
  issuer.issue(part);
}

Cost traffic(const Call& call) {
  Cost cost;
  for (const Operand& operand : call.operands) {
    if (!operand.tensor) continue;
    if (operand.access != Access::out) cost.bytes_read += operand.tensor.bytes();
    if (operand.access != Access::in) cost.bytes_written += operand.tensor.bytes();
  }
  return cost;
}

}  // namespace op
}  // namespace toroid
