#include "core/comm/communicator.h"

namespace toroid {
namespace {

class GroupOfOne final : public Communicator {
 public:
  Array all_gather(Array in, std::string_view) override { return in; }
  Array reduce_scatter(Array in, Wire, std::string_view) override { return in; }
  void all_reduce(const Tensor&, Combine, Wire) override {}
  Tensor own(const Tensor& gathered) const override { return gathered; }
  DType wire_type(DType compute, DType) const override { return compute; }
  std::pair<int, int> place() const override { return {0, 1}; }
};

}  // namespace

std::unique_ptr<Communicator> make_group_of_one() {
  return std::make_unique<GroupOfOne>();
}

}  // namespace toroid
