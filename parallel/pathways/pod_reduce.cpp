#include "parallel/pathways/pod_reduce.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/op/elementwise.h"
#include "core/op/update.h"
#include "core/op/wire.h"

namespace toroid::pathways {
namespace {

constexpr int64_t kSmall = int64_t{1} << 18;  // elements; fewer wait for others to travel with
// Gathered wires that are kept before the oldest are added up, while the backward pass goes on.
constexpr size_t kInFlight = 2;

}  // namespace

PodReduce::PodReduce(Device& device, Communicator& pod, PodWire wire, std::vector<Shard> shards,
                     std::string what)
    : device_(device),
      pod_(pod),
      wire_(pod.place().size > 1 ? wire : PodWire::fp32),
      shards_(std::move(shards)),
      what_(std::move(what)),
      values_(shards_.size()),
      sums_(shards_.size()) {
  for (const Shard& shard : shards_) {
    require(shard.elements % op::kQuantBlock == 0, "a shard is whole blocks of quantisation");
    if (compresses()) residuals_.push_back(device_.array(DType::f32, {shard.elements}, "pod residuals"));
  }
}

void PodReduce::clear() {
  for (const Array& residual : residuals_) {
    Call call = op::fill(residual.tensor, {0});
    call.phase = Phase::setup;
    device_.launch(call);
  }
}

int64_t PodReduce::wire_size(int64_t elements) const {
  return wire_ == PodWire::int8 ? op::quantised_bytes(elements) : elements;
}

void PodReduce::start(size_t s, Array values, Phase phase) {
  values_[s] = std::move(values);
  if (pod_.place().size == 1) return;
  if (shards_[s].elements >= kSmall) return send({s}, phase);
  small_.push_back(s);
  int64_t together = 0;
  for (const size_t waiting : small_) together += shards_[waiting].elements;
  if (together >= kSmall) send(std::exchange(small_, {}), phase);
}

void PodReduce::send(std::vector<size_t> shards, Phase phase) {
  const auto launch = [&](Call call) {
    call.phase = phase;
    device_.launch(call);
  };
  CollectiveLabel label{shards_[shards[0]].unit + " " + what_, "between pods", phase};
  if (shards.size() > 1)
    label.tensor = shards_[shards[0]].unit + " to " + shards_[shards.back()].unit + " " + what_;
  Bucket bucket{std::move(shards), {}};
  int64_t size = 0, at = 0;
  for (const size_t s : bucket.shards) size += wire_size(shards_[s].elements);
  if (compresses()) {
    const DType type = wire_ == PodWire::bf16 ? DType::bf16 : DType::u8;
    Array wire = device_.array(type, {size}, "between pods");
    for (const size_t s : bucket.shards) {
      const int64_t count = wire_size(shards_[s].elements);
      launch(op::compress(values_[s].tensor, residuals_[s].tensor, wire.tensor.slice_rows(at, count)));
      at += count;
    }
    bucket.moved = pod_.all_gather(std::move(wire), label);
  } else if (bucket.shards.size() == 1) {
    pod_.all_reduce(values_[bucket.shards[0]].tensor, Combine::sum, Wire::exact, label);
  } else {
    bucket.moved = device_.array(DType::f32, {size}, "between pods");
    for (const size_t s : bucket.shards) {
      device_.copy(bucket.moved.tensor.slice_rows(at, shards_[s].elements), values_[s].tensor);
      at += shards_[s].elements;
    }
    pod_.all_reduce(bucket.moved.tensor, Combine::sum, Wire::exact, label);
  }
  sent_.push_back(std::move(bucket));
  while (sent_.size() > kInFlight) settle();
}

void PodReduce::settle() {
  const Bucket bucket = std::move(sent_.front());
  sent_.pop_front();
  const int64_t pods = pod_.place().size;
  int64_t at = 0;
  for (const size_t s : bucket.shards) {
    const int64_t count = wire_size(shards_[s].elements);
    if (compresses()) {
      const Tensor wires = bucket.moved.tensor.reshape({pods, bucket.moved.tensor.elements() / pods});
      sums_[s] = device_.array(DType::f32, {shards_[s].elements}, "gradients");
      device_.launch(op::sum_wires(wires.slice_columns(at, count), sums_[s].tensor));
    } else if (bucket.moved.tensor) {
      device_.copy(values_[s].tensor, bucket.moved.tensor.slice_rows(at, count));
    }
    at += count;
  }
}

Array PodReduce::finish(size_t s) {
  if (std::find(small_.begin(), small_.end(), s) != small_.end()) {
    send(std::exchange(small_, {}), Phase::optimizer);
  }
  const auto holds = [s](const Bucket& bucket) {
    return std::find(bucket.shards.begin(), bucket.shards.end(), s) != bucket.shards.end();
  };
  while (std::any_of(sent_.begin(), sent_.end(), holds)) settle();
  return std::move(compresses() ? sums_[s] : values_[s]);
}

void PodReduce::keep_rest(const Tensor& control) {
  if (!compresses()) return;
  for (size_t s = 0; s < shards_.size(); ++s) {
    if (!values_[s].tensor) continue;
    if (control) {
      // An average that forgets at once is a copy that a skipped step leaves out.
      device_.launch(op::ema(values_[s].tensor, control, residuals_[s].tensor, {0}));
    } else {
      device_.copy(residuals_[s].tensor, values_[s].tensor);
    }
    values_[s] = Array{};
  }
}

}  // namespace toroid::pathways
