#include "train/faults/spoiled_communicator.h"

#include <array>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>

#include "core/base/log.h"
#include "core/base/text.h"

namespace toroid::faults {

using config::Fault;

void spoil(Device& device, const Tensor& tensor, const Armed& armed, const std::vector<Elements>& among) {
  const Planned& fault = armed.fault;
  int64_t elements = 0;
  for (const Elements& part : among) elements += part.count;
  if (elements == 0) return;
  const std::string name = fault.id + "@" + std::to_string(fault.fault.step());
  const uint64_t high = draw(armed.seed, name, 0), low = draw(armed.seed, name, 1);
  auto at = static_cast<int64_t>((high << 32 | low) % static_cast<uint64_t>(elements));
  for (const Elements& part : among) {
    if (at < part.count) {
      at += part.first;
      break;
    }
    at -= part.count;
  }
  const Tensor element = tensor.reshape({tensor.elements()}).slice_rows(at, 1);
  std::array<std::byte, 8> bytes{};
  const std::span value(bytes.data(), static_cast<size_t>(element.bytes()));
  device.read(element, value);
  if (fault.fault.has_value() && tensor.type == DType::f32) {
    const auto to = static_cast<float>(fault.fault.value());
    std::memcpy(bytes.data(), &to, sizeof to);
  } else {
    const auto bits = static_cast<uint32_t>(8 * value.size());
    const auto wanted = static_cast<uint32_t>(fault.fault.bit());
    const uint32_t bit = (fault.fault.has_bit() ? wanted : draw(armed.seed, name, 2)) % bits;
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
  device.write(element, value, Queue::compute);
  log::warn("faults: {}: changed element {} of {}", fault.text(), at, tensor.text());
}

SpoiledCommunicator::SpoiledCommunicator(std::unique_ptr<Communicator> inner, Device& device,
                                         std::shared_ptr<ArmedFaults> armed, bool gradients)
    : inner_(std::move(inner)), device_(device), armed_(std::move(armed)), gradients_(gradients) {}

bool SpoiledCommunicator::take(Fault::Kind kind, Armed& out) {
  for (auto each = armed_->begin(); each != armed_->end(); ++each) {
    if (each->fault.fault.kind() != kind || each->calls-- > 0) continue;
    out = std::move(*each);
    armed_->erase(each);
    return true;
  }
  return false;
}

bool SpoiledCommunicator::drops(const CollectiveLabel& label) {
  Armed due;
  if (is_alone() || !take(Fault::DROP, due)) return false;
  log::warn("faults: {}: leaves out a collective of the {} axis for '{}'", due.fault.text(), axis(),
            printable(label.tensor));
  return true;
}

void SpoiledCommunicator::sleep() {
  for (Armed due; take(Fault::SLOW, due);) {
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(due.fault.fault.milliseconds()));
  }
}

void SpoiledCommunicator::spoil_gradient(const Tensor& in, const CollectiveLabel& label) {
  Armed due;
  if (gradients_ && take(Fault::GRADIENT, due)) spoil(device_, in, due, elements_of(due, in, label));
}

void SpoiledCommunicator::spoil_message(const Tensor& arrived, const CollectiveLabel& label) {
  Armed due;
  if (!is_alone() && take(Fault::MESSAGE, due))
    spoil(device_, arrived, due, elements_of(due, arrived, label));
}

std::vector<Elements> SpoiledCommunicator::elements_of(const Armed& armed, const Tensor& tensor,
                                                       const CollectiveLabel& label) {
  for (const Unit* unit : armed.units) {
    if (unit->flat_elements != tensor.elements() || !label.tensor.starts_with(unit->spec.name + " "))
      continue;
    std::vector<Elements> out;
    for (const Slice& slice : unit->slices) out.push_back({slice.offset, slice.elements});
    return out;
  }
  return {{0, tensor.elements()}};
}

Array SpoiledCommunicator::all_gather(Array in, const CollectiveLabel& label) {
  sleep();
  if (drops(label)) {
    const int64_t rows = in.tensor.rows() * place().size;
    Array out = device_.array(in.tensor.type, in.tensor.shape.with_rows(rows), label.holder);
    device_.copy(own(out.tensor), in.tensor);
    return out;
  }
  Array out = inner_->all_gather(std::move(in), label);
  spoil_message(out.tensor, label);
  return out;
}

Array SpoiledCommunicator::reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) {
  sleep();
  spoil_gradient(in.tensor, label);
  if (drops(label)) {
    const Tensor mine = own(in.tensor);
    Array out = device_.array(mine.type, mine.shape, label.holder);
    device_.copy(out.tensor, mine);
    return out;
  }
  Array out = inner_->reduce_scatter(std::move(in), wire, label);
  spoil_message(out.tensor, label);
  return out;
}

Array SpoiledCommunicator::all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) {
  if (is_alone() || armed_->empty()) return inner_->all_gather_beside(std::move(in), use, label);
  const int64_t mine = place().rank * in.tensor.rows();
  const RowWork spoiled = [&](const Tensor& rows, int64_t first) {
    if (first != mine) spoil_message(rows, label);
    use(rows, first);
  };
  return inner_->all_gather_beside(std::move(in), spoiled, label);
}

Array SpoiledCommunicator::reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                                                 const CollectiveLabel& label) {
  Array out = inner_->reduce_scatter_beside(std::move(in), wire, make, label);
  spoil_message(out.tensor, label);
  return out;
}

void SpoiledCommunicator::all_reduce(const Tensor& in_place, Combine combine, Wire wire,
                                     const CollectiveLabel& label) {
  sleep();
  spoil_gradient(in_place, label);
  if (drops(label)) return;
  inner_->all_reduce(in_place, combine, wire, label);
  spoil_message(in_place, label);
}

void SpoiledCommunicator::broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) {
  inner_->broadcast(in_place, root, label);
  if (place().rank != root) spoil_message(in_place, label);
}

void SpoiledCommunicator::all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) {
  if (drops(label)) return;
  inner_->all_to_all(in, out, label);
  spoil_message(out, label);
}

void SpoiledCommunicator::send(const Tensor& from, int peer, const CollectiveLabel& label) {
  inner_->send(from, peer, label);
}

void SpoiledCommunicator::receive(const Tensor& to, int peer, const CollectiveLabel& label) {
  inner_->receive(to, peer, label);
  spoil_message(to, label);
}

}  // namespace toroid::faults
