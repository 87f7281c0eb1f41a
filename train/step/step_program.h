// The training step, written once against Device and Communicator: what runs on a CPU is what a dry run
// records and what a simulated pod will time. Nothing here reads a tensor's value or a clock.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/ends.h"
#include "core/model/layer.h"
#include "core/model/next_token.h"
#include "core/op/update.h"
#include "optim/optimizer.h"
#include "parallel/zero/zero.h"
#include "train/step/deal.h"

namespace toroid::train {

enum class Remat : uint8_t { none, cheap, full };

struct StepOptions {
  int64_t tokens_per_sequence = 0;    // T
  int64_t global_sequences = 0;       // G, of the largest step: what memory is made for
  int64_t sequences_per_replica = 1;  // B; deterministic mode runs one sequence a microbatch
  DType compute = DType::bf16;
  Remat remat = Remat::none;
  bool keep_gathered = false;  // the inputs of products that the model axis gathered, beside what remat keeps
  Wire model_wire = Wire::exact;
  bool deterministic = false;
  int64_t loss_block_tokens = 0;  // 0: chosen from the vocabulary and the device
  ZeroOptions zero;               // compute type and tiles are filled in from the above
  op::DecideSpec decide;
  std::shared_ptr<const Objective> objective = make_next_token();
};

std::vector<Visit> training_visits(const DecoderConfig& config, Remat remat);
std::vector<Visit> forward_visits(const DecoderConfig& config);

// A step's whole batch on the host, G T tokens in the global order: each rank takes its own sequences, and
// missing ones are masked by the program.
struct HostBatch {
  std::span<const int32_t> ids, targets, positions, starts;
  int64_t target_count = 0;
  const std::map<std::string, std::vector<float>>* operands = nullptr;  // that the objective may ask for
};

// What a step left on the device, read one step late.
struct StepResult {
  double loss = 0, gradient_norm = 0, rate = 0;
  int64_t targets = 0;
  bool skipped = false;
  bool withdrawn = false;  // as if it had not been issued: it is to be issued again
  int reason = 0;          // op::Control::reason
};

// A step whose first microbatch is computed twice.
struct StepCheck {
  const HostBatch* batch = nullptr;
  Deal again;  // whose first microbatch is computed the second time, for its checksums alone
  // Called when all microbatches have been issued, and nothing has been updated yet.
  std::function<void()> before_update;
};

// Marks in the order in which the step passed them.
struct StepMarks {
  Event begin;
  std::vector<Event> forward_end, backward_end;  // one for each microbatch, where they are marked
  std::optional<Event> replay_begin, replay_end;
  Event end;
};

class StepProgram {
 public:
  StepProgram(Device& device, ZeroGroups groups, DecoderConfig config, StepOptions options,
              std::unique_ptr<optim::Optimizer> optimizer);

  // Draws the weights and clears all states.
  void initialise(uint64_t seed);
  // After masters were written from outside.
  void weights_changed() { zero_.masters_changed(); }

  // Copies a batch and its rate to the device, one step ahead: the next step() uses it, and takes as many
  // microbatches as are dealt.
  void upload(const HostBatch& batch, const Deal& deal, double rate);
  // A batch as large as there are, dealt by dealer().
  void upload(const HostBatch& batch, double rate);
  void step(const StepCheck* check = nullptr);
  // Within before_update: the first microbatch of `deal` once more.
  void replay(const HostBatch& batch, const Deal& deal);
  // Checksums of each unit's gradients in the step's first microbatch, and in the last one computed again;
  // block.
  std::vector<Checksum> first_gradients() { return zero_.noted_gradients(0); }
  std::vector<Checksum> replayed_gradients() { return zero_.noted_gradients(1); }
  // Result of the last step issued (0 steps ago) or of the one before it; blocks until that step is done.
  StepResult result(int steps_ago);
  const StepMarks& marks() const { return marks_; }
  // Whether a step marks its microbatches, of which it may have thousands.
  void mark_microbatches(bool mark) { marks_microbatches_ = mark; }
  // Told of each visit's unit before a step visits it, and of nullptr after the last of a microbatch: for
  // traces.
  void on_visit(std::function<void(const Unit* unit)> tell) { on_visit_ = std::move(tell); }

  // Sum of the token losses of up to sequences_per_round() sequences of T tokens each, dealt to the replicas,
  // and their target count (forward only); blocks.
  struct Evaluation {
    double loss_sum = 0;
    std::vector<double> metric_sums;  // of the objective's metrics
    int64_t targets = 0;
  };
  Evaluation evaluate(const HostBatch& batch);

  // Forward only, layer by layer: for tests and comparisons. hidden[l] as golden/README.md has it.
  struct Trace {
    std::vector<Array> hidden;
    Array logits;
  };
  Trace trace(const HostBatch& batch, int64_t sequences);

  // The outer step of pods that have trained apart since the last one: for the end of a run.
  void meet_pods() { zero_.meet_pods(); }

  Zero& zero() { return zero_; }
  const Tensor& state() const { return state_.tensor; }  // f32[op::kStateSize], checkpointed
  const DecoderConfig& config() const { return config_; }
  const StepOptions& options() const { return options_; }
  const Dealer& dealer() const { return dealer_; }
  int64_t microbatches() const { return microbatches_; }           // of the largest step
  int64_t sequences_per_microbatch() const { return sequences_; }  // of one replica
  int64_t sequences_per_round() const { return sequences_ * dealer_.replicas(); }
  int64_t pods() const { return pod_.size; }

 private:
  struct Inputs {
    Array ids, targets, positions, starts;  // i32[microbatches B T]
    std::vector<Array> operands;            // f32[microbatches B T]: the objective's
    Array scale, count, rate;               // f32[1]
    int64_t microbatches = 0;               // that were uploaded
  };
  Inputs make_inputs(int64_t sequences);
  // The numbers of each token that the objective asks for. UserError where the batch does not have them.
  std::vector<std::span<const float>> asked_operands(const HostBatch& batch) const;
  // Gradients are divided by `divisor` targets.
  void fill_inputs(Inputs& inputs, const Deal& deal, const HostBatch& batch, int64_t divisor, double rate);
  int64_t pod_targets(const Deal& deal, const HostBatch& batch) const;
  Microbatch microbatch(const Inputs& inputs, int64_t index, int64_t sequences) const;
  // `again`: another one follows. `replays`: its loss is not the step's.
  void run_microbatch(int64_t index, const Inputs& inputs, bool again, bool replays = false);
  void replay(const HostBatch& batch, const Deal& deal, bool again);
  const PackedMatrix& table() const;
  // The objective's operands of a microbatch of `inputs`.
  std::vector<Tensor> operands(const Inputs& inputs, int64_t index, int64_t sequences) const;
  HeadInputs head_inputs(const Microbatch& batch, std::span<const Tensor> operands) const;
  // Walks the units forward and hands each stage's visit to `body`, its weights ready.
  template <class Body>
  void walk_forward(const Body& body);
  Array step_losses(int64_t microbatches);
  void decide(const Inputs& inputs, const Tensor& control);
  Array without_padding(std::span<const Tensor> parts, int64_t columns, int64_t sequences);

  Device& device_;
  ZeroGroups groups_;
  Place data_, pod_;
  DecoderConfig config_;
  StepOptions options_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  Dealer dealer_;
  int64_t sequences_, microbatches_, tokens_;  // tokens_: T with the padding
  Zero zero_;
  Context context_;
  std::vector<Layer> layers_;
  std::vector<Visit> visits_, forward_visits_;
  Inputs inputs_[2], replayed_;  // of one microbatch, where steps are checked
  int next_ = 0;                 // which of the two inputs the next upload fills
  Array state_, control_[2];
  int finished_ = 0;  // which control the last step wrote
  Array token_loss_, losses_, ordered_losses_, loss_sum_;
  Array pod_square_;  // the squared gradient norm of this pod, where pods train apart
  StepMarks marks_;
  bool marks_microbatches_ = false;
  std::function<void(const Unit* unit)> on_visit_;
};

}  // namespace toroid::train
