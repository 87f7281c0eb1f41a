#include "core/comm/communicator.h"

#include <utility>

#include "core/base/error.h"

namespace toroid {
namespace {

class GroupOfOne final : public Communicator {
 public:
  Array all_gather(Array in, const CollectiveLabel&) override { return in; }
  Array reduce_scatter(Array in, Wire, const CollectiveLabel&) override { return in; }
  void all_reduce(const Tensor&, Combine, Wire, const CollectiveLabel&) override {}
  void broadcast(const Tensor&, int, const CollectiveLabel&) override {}
  void all_to_all(const Tensor&, const Tensor&, const CollectiveLabel&) override { no_peer(); }
  void send(const Tensor&, int, const CollectiveLabel&) override { no_peer(); }
  void receive(const Tensor&, int, const CollectiveLabel&) override { no_peer(); }
  Event barrier(const CollectiveLabel&) override { return {}; }
  Tensor own(const Tensor& gathered) const override { return gathered; }
  DType wire_type(DType compute, DType) const override { return compute; }
  Place place() const override { return {}; }
  std::string_view axis() const override { return "one"; }

 private:
  [[noreturn]] static void no_peer() { throw InternalError("a group of one has no peer to send to"); }
};

}  // namespace

Array Communicator::all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) {
  Array out = all_gather(std::move(in), label);
  use(out.tensor, 0);
  return out;
}

Array Communicator::reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                                          const CollectiveLabel& label) {
  make(in.tensor, 0);
  return reduce_scatter(std::move(in), wire, label);
}

std::unique_ptr<Communicator> make_group_of_one() {
  return std::make_unique<GroupOfOne>();
}

}  // namespace toroid
