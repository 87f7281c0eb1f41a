// A communicator in front of another one that spoils a call of it when it is told to.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/comm/communicator.h"
#include "parallel/zero/unit.h"
#include "train/faults/plan.h"

namespace toroid::faults {

// What a rank's communicators are to do next, shared by all of them.
struct Armed {
  Planned fault;
  uint64_t seed = 1;
  int64_t calls = 0;                    // that could be spoiled and are let through before
  std::vector<const Unit*> units = {};  // of the model: what lies where in their messages
};
using ArmedFaults = std::vector<Armed>;

struct Elements {
  int64_t first = 0, count = 0;
};

// Changes one of those elements of a dense tensor, in the order of the compute queue: to what the fault says,
// or by one of its bits. `armed` draws what is left open.
void spoil(Device& device, const Tensor& tensor, const Armed& armed, const std::vector<Elements>& among);

class SpoiledCommunicator final : public Communicator {
 public:
  // `gradients`: what it sums are gradients of the data axis.
  SpoiledCommunicator(std::unique_ptr<Communicator> inner, Device& device, std::shared_ptr<ArmedFaults> armed,
                      bool gradients);
  Array all_gather(Array in, const CollectiveLabel& label) override;
  Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) override;
  Array all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) override;
  Array reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                              const CollectiveLabel& label) override;
  void all_reduce(const Tensor& in_place, Combine combine, Wire wire, const CollectiveLabel& label) override;
  void broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) override;
  void all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) override;
  void send(const Tensor& from, int peer, const CollectiveLabel& label) override;
  void receive(const Tensor& to, int peer, const CollectiveLabel& label) override;
  Event barrier(const CollectiveLabel& label) override { return inner_->barrier(label); }
  Tensor own(const Tensor& gathered) const override { return inner_->own(gathered); }
  DType wire_type(DType compute, DType exact) const override { return inner_->wire_type(compute, exact); }
  Place place() const override { return inner_->place(); }
  std::string_view axis() const override { return inner_->axis(); }

 private:
  // Takes the fault of this kind that is due with this call.
  bool take(config::Fault::Kind kind, Armed& out);
  // Leaves this call out?
  bool drops(const CollectiveLabel& label);
  void sleep();
  void spoil_gradient(const Tensor& in, const CollectiveLabel& label);
  void spoil_message(const Tensor& arrived, const CollectiveLabel& label);
  // Those that are not padding, which nobody would miss.
  static std::vector<Elements> elements_of(const Armed& armed, const Tensor& tensor,
                                           const CollectiveLabel& label);
  bool is_alone() const { return inner_->place().size == 1; }

  std::unique_ptr<Communicator> inner_;
  Device& device_;
  std::shared_ptr<ArmedFaults> armed_;
  bool gradients_;
};

}  // namespace toroid::faults
