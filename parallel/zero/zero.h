// Who holds what of a unit, and when: master weights, optimizer states, gradients, and the packed copy that
// products read (ZeRO: Rajbhandari et al. 2020). Stage 3 shares all of it over the data axis: weights are
// gathered just before use and freed after, gradients are reduce-scattered as the backward pass goes. Stage 2
// keeps the weights whole, stage 1 the gradients too, stage 0 the states too. On one chip nothing travels:
// the packed copy is made once per optimizer step and stays.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/device/update_rule.h"
#include "core/model/context.h"
#include "parallel/pathways/in_world.h"
#include "parallel/zero/state_checksums.h"
#include "parallel/zero/unit.h"
#include "parallel/zero/visit.h"
#include "parallel/zero/whole_matrices.h"

namespace toroid {

struct ZeroOptions {
  DType compute = DType::bf16;
  double ema_decay = 0;         // 0: no average is kept
  DType ema_type = DType::f32;  // f32, or bf16, which is rounded stochastically
  uint64_t seed = 0;            // of the bits of stochastic rounding
  bool training = true;         // false: no gradients and no optimizer states (generation)
  Tiles tiles;
  int stage = 3;
  int prefetch = 1;                   // visits gathered ahead of the one in use
  bool reshard_after_forward = true;  // false: gathered weights stay until the backward pass has used them
  int64_t whole_below = 0;            // units of fewer elements are gathered once a step and stay
  int64_t max_live = 0;               // elements gathered at a time that prefetching keeps to; 0: no limit
  Wire wire = Wire::exact;            // of the gradients within a pod
  int64_t checksums_every = 0;        // updates between two looks for memory that has changed; 0: none
  bool replays = false;               // memory for checksums of a microbatch's gradients
  bool round_gradients = false;       // whole units' are of the compute type; devices without numbers alone
  pathways::Options pods;             // what pods exchange, and who does it
  pathways::MakePods make_pods = pathways::make_in_world_pods;
};

// The axes of the mesh as this rank's groups. The data axis has two queues.
struct ZeroGroups {
  Communicator& gather;  // data
  Communicator& reduce;  // data
  Communicator& model;
  Communicator& pod;
};

// All axes of one chip.
inline ZeroGroups alone(Communicator& group_of_one) {
  return {group_of_one, group_of_one, group_of_one, group_of_one};
}

// What this rank holds of one tensor of one part ("master", "exp_avg", ..., "ema"), for checkpoints and
// tests.
struct NamedTensor {
  std::string name, part;
  Tensor tensor;  // f32 or, of a state, bf16; the tensor in its own shape where it is held whole, else a flat
                  // run of it
  Shape shape;    // of the whole tensor
  int64_t first = 0;    // element of the whole at which `tensor` begins
  bool counted = true;  // this rank is the one that saves it; others may hold a replica
  // Pods that train apart hold other values: pod p > 0 saves its own as "PART.pod-P". A checkpoint without
  // them is one that all pods shared, or that knows fewer pods: `part` stands in.
  int pod = 0;
  bool needed = true;  // else a checkpoint may lack it: zeros, or for "outer_master" the masters
  std::string saved_part() const { return pod == 0 ? part : part + ".pod-" + std::to_string(pod); }
};

class Zero {
 public:
  Zero(Device& device, std::vector<UnitSpec> specs, const UpdateRule& optimizer, ZeroOptions options,
       ZeroGroups groups);

  // Zeros everywhere, the padding included: before parts() are filled from outside.
  void clear();
  // An average as it begins: the master, rounded to nearest.
  void begin_average(const Tensor& average, const Tensor& master) const;
  // Draws every master weight from its counter-based generator; states become zero.
  void initialise(uint64_t seed);
  // After masters, and maybe states, were written from outside: casts this rank's shards, gathers and packs
  // what stays, and takes checksums of all.
  void masters_changed();

  const std::vector<Unit>& units() const { return units_; }
  const Weights& weights(int unit) const { return live_[static_cast<size_t>(unit)].weights; }

  // Makes ready what visits[at] reads and starts gathering for the visits after it; `again`: the first visit
  // follows the last.
  void acquire(std::span<const Visit> visits, size_t at, bool again);
  // Frees what neither the next visits nor, without resharding, the backward pass will read.
  void release(std::span<const Visit> visits, size_t at, bool again);

  void begin_step(int64_t microbatches, std::span<const Visit> visits);
  void begin_microbatch(int64_t index);
  // Where visits add to the unit's gradient.
  std::span<Gradient> gradients(int unit);
  // A visit has added its part to the units it writes; a unit's last part sends its gradient on its way.
  void reduce(const Visit& visit);
  void end_microbatch();
  // From here on the gradients of a microbatch have checksums, each unit's as it is complete on this rank and
  // before it is reduced: table `which` of two. Nothing: no more.
  void note_gradients(std::optional<int> which) { noted_gradients_ = which; }
  // Between the two a microbatch's gradients go nowhere.
  void begin_replay();
  void end_replay();
  // One for each unit; blocks.
  std::vector<Checksum> noted_gradients(int which);
  // Sums of squares of all gradient blocks of the model: equal on all ranks, in deterministic mode in an
  // order that does not depend on the layout.
  Array gradient_partials();
  // Updates the shards; where one is due, the outer step of the pods follows.
  void update(const StepScalars& scalars);
  // The outer step at once, if pods have trained apart since the last one: for the end of a run.
  void meet_pods();
  bool keeps_pods() const;                   // whether pods hold parts of their own
  pathways::Pods& pods() { return *pods_; }  // where the rank trains

  // Of what this rank holds between updates; nullptr: none are taken.
  StateChecksums* checksums() { return checksums_ ? &*checksums_ : nullptr; }

  std::vector<NamedTensor> parts() const;
  // The step's gradients before clipping; they are gone after an outer step.
  std::vector<NamedTensor> gradient_tensors() const;

 private:
  // What the rule keeps for the run of a tensor that this rank holds.
  struct Stated {
    UpdatedTensor told;
    bool whole = false;              // its owner keeps the states
    std::vector<std::string> names;  // of the states that are here
    std::vector<Tensor> states;      // [run], of the rule's type
    op::Rounding average = {};       // of the run of the average
    size_t checksums = 0;            // the group of its master, states and average
  };
  struct Held {                  // this rank's shard of a unit
    int64_t begin = 0, end = 0;  // in the flat buffer
    Array master, ema, cast;     // cast: the compute type, to be gathered
    std::vector<Array> state_memory;
    std::vector<Stated> stated;  // of each tensor of the unit
    // Reduced gradients: a stack of complete subtrees over the microbatches, the largest at the bottom; one
    // alone in the fast mode.
    std::vector<Array> pending;
    int64_t size() const { return end - begin; }
  };
  struct Live {  // a unit while it is gathered
    bool stays = false;
    Array flat;  // compute type, in flight until its first use; freed once packed
    Array vectors;
    std::vector<Array> packed;
    bool forward = false, backward = false;  // packed
    bool in_place = false;                   // some products read `flat` itself
    Weights weights;
  };
  struct Open {  // the gradient of a unit under way
    Array flat;
    int contributions = 0;
    std::vector<Gradient> gradients;
  };
  struct Arrival {
    size_t unit;
    Array shard;
  };

  void launch(Call call, Phase phase) const;
  bool accumulates_whole() const;
  Tensor plain(size_t unit, size_t tensor) const;
  void gather(size_t unit, Phase phase);
  void make(size_t unit, const UnitRead& read, Phase phase);
  void make_vectors(size_t unit, Phase phase);
  void make_packs(size_t unit, bool forward, bool backward, Phase phase);
  Tensor in_place(std::span<const Tensor> parts, Layout layout) const;
  void drop(size_t unit);
  int64_t live_elements() const;
  void make_states(size_t unit);
  op::RunIndex run_index(size_t unit, size_t tensor) const;
  Run own_run(size_t unit, size_t tensor) const;
  Array gradient_buffer(size_t unit) const;
  void reduce_unit(size_t unit);
  void absorb(size_t keep);
  void note_gradient(size_t unit);
  void outer_step();
  void make_checksums();
  void update_run(size_t unit, size_t tensor, const Run& run, const StepScalars& scalars) const;
  void publish_masters();
  std::vector<Tensor> masters() const;
  // Blocks of the norm in deterministic mode: those of each canonical slice, and of what is never split.
  struct CanonicalBlocks {
    int64_t slices = 0, each = 0, whole = 0;
    int64_t all() const { return slices * each + whole; }
  };
  CanonicalBlocks canonical_blocks() const;
  Tensor canonical_partials();
  NamedTensor named(size_t unit, size_t tensor, const Piece& piece, const std::string& part,
                    const Tensor& values, int64_t begin) const;

  Device& device_;
  const UpdateRule& optimizer_;
  ZeroOptions options_;
  ZeroGroups groups_;
  bool sharded_;  // states over the data axis
  std::vector<Unit> units_;
  std::unique_ptr<pathways::Pods> pods_;  // where the rank trains
  std::vector<Held> held_;
  std::unique_ptr<WholeMatrices> whole_;  // where the rank trains
  std::vector<Live> live_;
  std::vector<Open> open_;
  std::vector<int> contributions_;  // of a microbatch, by unit
  std::deque<Arrival> arrived_;     // reduced shards that have not been added yet
  int64_t microbatches_ = 0, microbatch_ = 0;
  Array partials_;
  std::optional<StateChecksums> checksums_;
  Array gradient_sums_[2];  // i64[blocks of the units' flat buffers, 2]
  std::optional<int> noted_gradients_;
  bool replaying_ = false;
  std::vector<Open> kept_open_;  // what has been added up, while a replay goes on
};

}  // namespace toroid
