// A communicator in front of another one, for tests that spoil what it carries.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/comm/communicator.h"

namespace toroid::train {

// Hands every call on, cut ones too.
class PassedOn : public Communicator {
 public:
  PassedOn(std::unique_ptr<Communicator> inner, Device& device) : inner_(std::move(inner)), device_(device) {}
  Array all_gather(Array in, const CollectiveLabel& label) override {
    return inner_->all_gather(std::move(in), label);
  }
  Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) override {
    return inner_->reduce_scatter(std::move(in), wire, label);
  }
  Array all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) override {
    return inner_->all_gather_beside(std::move(in), use, label);
  }
  Array reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                              const CollectiveLabel& label) override {
    return inner_->reduce_scatter_beside(std::move(in), wire, make, label);
  }
  void all_reduce(const Tensor& in_place, Combine combine, Wire wire, const CollectiveLabel& label) override {
    inner_->all_reduce(in_place, combine, wire, label);
  }
  void broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) override {
    inner_->broadcast(in_place, root, label);
  }
  void all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) override {
    inner_->all_to_all(in, out, label);
  }
  void send(const Tensor& from, int peer, const CollectiveLabel& label) override {
    inner_->send(from, peer, label);
  }
  void receive(const Tensor& to, int peer, const CollectiveLabel& label) override {
    inner_->receive(to, peer, label);
  }
  Event barrier(const CollectiveLabel& label) override { return inner_->barrier(label); }
  Tensor own(const Tensor& gathered) const override { return inner_->own(gathered); }
  DType wire_type(DType compute, DType exact) const override { return inner_->wire_type(compute, exact); }
  Place place() const override { return inner_->place(); }
  std::string_view axis() const override { return inner_->axis(); }

 protected:
  void scale(const Tensor& tensor, float factor) const {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    device_.read(tensor, std::as_writable_bytes(std::span(values)));
    for (float& value : values) value *= factor;
    device_.write(tensor, std::as_bytes(std::span(values)), Queue::compute);
  }

  std::unique_ptr<Communicator> inner_;
  Device& device_;
};

}  // namespace toroid::train
