// What a rank holds of each tensor, by name: for checkpoints, certificates and tests.
#include "parallel/zero/zero.h"

namespace toroid {

// `values` begin at element `begin` of the flat buffer.
NamedTensor Zero::named(size_t u, size_t t, const Piece& piece, const std::string& part, const Tensor& values,
                        int64_t begin) const {
  const TensorSpec& spec = units_[u].spec.tensors[t];
  const Slice& slice = units_[u].slices[t];
  NamedTensor out{spec.name, part, {}, spec.shape, piece.global, true};
  out.tensor = values.slice_rows(piece.offset - begin, piece.elements);
  if (piece.elements == spec.shape.elements()) out.tensor = out.tensor.reshape(spec.shape);
  const bool alone = sharded_ || groups_.gather.place().rank == 0;
  out.counted = slice.counted && alone;
  return out;
}

std::vector<NamedTensor> Zero::parts() const {
  std::vector<NamedTensor> out;
  const int pod = groups_.pod.place().rank;
  const bool apart = pods_ && pods_->apart(), differ = pods_ && pods_->steps_apart() > 0;
  for (size_t u = 0; u < units_.size(); ++u) {
    const Held& held = held_[u];
    for (size_t t = 0; t < units_[u].slices.size(); ++t) {
      for (const Piece& piece : units_[u].pieces(t, held.begin, held.end)) {
        // `differs`: from pod to pod, now; `own`: it may do so at some time.
        const auto add = [&](const std::string& part, const Tensor& values, int64_t begin, bool own,
                             bool differs) {
          NamedTensor& added = out.emplace_back(named(u, t, piece, part, values, begin));
          if (own) added.pod = pod;
          added.counted = added.counted && (pod == 0 || differs);
          return &added;
        };
        add("master", held.master.tensor, held.begin, apart, differ);
        for (size_t s = 0; options_.training && s < held.stated[t].states.size(); ++s) {
          const Stated& stated = held.stated[t];
          add(stated.names[s], stated.states[s], own_run(u, t).first, apart, apart);
        }
        if (held.ema.tensor) add("ema", held.ema.tensor, held.begin, apart, apart);
        for (const pathways::KeptPart& kept : pods_ ? pods_->kept(u) : std::vector<pathways::KeptPart>()) {
          NamedTensor* const added = add(std::string(kept.part), kept.values, held.begin, kept.own, kept.own);
          added->needed = false;
          added->counted = added->counted && kept.differs;  // else what stands in for it is the same
        }
      }
    }
  }
  if (!whole_) return out;
  const bool alone = sharded_ || groups_.gather.place().rank == 0;
  for (const WholeMatrices::Kept& kept : whole_->kept()) {
    const TensorSpec& spec = units_[kept.unit].spec.tensors[kept.tensor];
    NamedTensor& added = out.emplace_back(NamedTensor{spec.name, kept.name, kept.values.tensor, spec.shape});
    if (apart) added.pod = pod;
    added.counted = alone && (pod == 0 || apart);
  }
  return out;
}

void Zero::make_checksums() {
  std::vector<StateChecksums::Group> groups;
  const bool apart = pods_->apart();
  for (size_t u = 0; u < units_.size(); ++u) {
    Held& held = held_[u];
    for (size_t t = 0; t < units_[u].slices.size(); ++t) {
      const Run own = own_run(u, t);
      if (own.elements() == 0) continue;
      Stated& stated = held.stated[t];
      const auto run = [&](const Array& array) {
        return array.tensor.slice_rows(own.first - held.begin, own.elements());
      };
      StateChecksums::Group group{{run(held.master)}, stated.told.name, {"master"}, !stated.whole, !apart};
      group.arrays.insert(group.arrays.end(), stated.states.begin(), stated.states.end());
      group.parts.insert(group.parts.end(), stated.names.begin(), stated.names.end());
      if (held.ema.tensor) {
        group.arrays.push_back(run(held.ema));
        group.parts.emplace_back("ema");
      }
      stated.checksums = groups.size();
      groups.push_back(std::move(group));
    }
    for (const pathways::KeptPart& kept : pods_->kept(u)) {
      groups.push_back({{kept.values}, units_[u].spec.name, {std::string(kept.part)}, false, !kept.own});
    }
  }
  for (const WholeMatrices::Kept& kept : whole_->kept()) {
    const Tensor values = kept.values.tensor.reshape({kept.values.tensor.elements()});
    const std::string& name = units_[kept.unit].spec.tensors[kept.tensor].name;
    groups.push_back({{values}, name, {kept.name}, false, !apart});
  }
  checksums_.emplace(device_, std::move(groups), options_.checksums_every, device_.traits().elements_at_once);
}

std::vector<NamedTensor> Zero::gradient_tensors() const {
  std::vector<NamedTensor> out;
  for (size_t u = 0; u < units_.size(); ++u) {
    if (held_[u].pending.empty()) continue;
    for (size_t t = 0; t < units_[u].slices.size(); ++t) {
      for (const Piece& piece : units_[u].pieces(t, held_[u].begin, held_[u].end)) {
        out.push_back(named(u, t, piece, "gradient", held_[u].pending[0].tensor, held_[u].begin));
        out.back().counted = out.back().counted && groups_.pod.place().rank == 0;
      }
    }
  }
  return out;
}

}  // namespace toroid
