#include "train/step/step_program.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/op/elementwise.h"
#include "core/op/reduce.h"

namespace toroid::train {
namespace {

// Logits of this many elements exist at a time.
constexpr int64_t kLogitElements = int64_t{1} << 24;

int64_t block_tokens(const StepOptions& options, int64_t vocab) {
  if (options.loss_block_tokens > 0) return options.loss_block_tokens;
  return std::clamp<int64_t>(kLogitElements / vocab / 64 * 64, 64, 1024);
}

Keep keep_of(Remat remat) {
  switch (remat) {
    case Remat::none:
      return Keep::all();
    case Remat::cheap:
      return Keep::cheap();
    case Remat::full:
      return Keep::input();
  }
  throw InternalError("unknown remat policy");
}

Tiles tiles_of(const StepOptions& options) {
  Tiles tiles;
  tiles.deterministic = options.deterministic;
  return tiles;
}

}  // namespace

std::vector<Visit> training_visits(const DecoderConfig& config) {
  const int layers = static_cast<int>(config.layers), head = layers + 1;
  std::vector<Visit> visits;
  visits.push_back({false, 0, {0}, {}});
  for (int l = 1; l <= layers; ++l) visits.push_back({false, l, {l}, {}});
  // The head's loss and its gradient are one visit; with a tied head it reads and writes two units.
  if (config.tied_head) {
    visits.push_back({true, head, {head, 0}, {head, 0}});
  } else {
    visits.push_back({true, head, {head}, {head}});
  }
  for (int l = layers; l >= 1; --l) visits.push_back({true, l, {l}, {l}});
  visits.push_back({true, 0, {}, {0}});
  return visits;
}

StepProgram::StepProgram(Device& device, Communicator& model, DecoderConfig config, StepOptions options,
                         std::unique_ptr<optim::Optimizer> optimizer)
    : device_(device),
      config_(std::move(config)),
      options_(options),
      optimizer_(std::move(optimizer)),
      sequences_(options.deterministic ? 1 : options.sequences_per_replica),
      microbatches_((options.global_sequences + sequences_ - 1) / sequences_),
      zero_(device, decoder_units(config_), *optimizer_,
            {options.compute, options.ema_decay, true, tiles_of(options)}),
      context_{device, model, options.compute, tiles_of(options), Phase::forward},
      visits_(training_visits(config_)) {
  options_.loss_block_tokens = block_tokens(options_, config_.vocab);
  layers_.reserve(static_cast<size_t>(config_.layers));
  for (int64_t l = 0; l < config_.layers; ++l) layers_.emplace_back(config_, l);
  for (Inputs& inputs : inputs_) inputs = make_inputs(microbatches_ * sequences_);
  state_ = device_.array(DType::f32, {op::kStateSize}, "batch");
  for (Array& control : control_) control = device_.array(DType::f32, {op::kControlSize}, "batch");
  token_loss_ = device_.array(DType::f32, {sequences_ * options_.tokens_per_sequence}, "batch");
  losses_ = device_.array(DType::f32, {microbatches_}, "batch");
  loss_sum_ = device_.array(DType::f32, {1}, "batch");
}

StepProgram::Inputs StepProgram::make_inputs(int64_t sequences) {
  const Shape shape{sequences * options_.tokens_per_sequence};
  const auto ints = [&] { return device_.array(DType::i32, shape, "batch"); };
  const auto scalar = [&] { return device_.array(DType::f32, {1}, "batch"); };
  return {ints(), ints(), ints(), ints(), scalar(), scalar(), scalar()};
}

void StepProgram::initialise(uint64_t seed) {
  zero_.initialise(seed, config_.d_model);
  device_.launch(op::fill(state_.tensor, {0}));
}

void StepProgram::fill_inputs(Inputs& inputs, int64_t sequences, const HostBatch& batch, double rate) {
  const auto tokens = static_cast<size_t>(sequences * options_.tokens_per_sequence);
  require(batch.ids.size() <= tokens, "a batch has at most the step's sequences");
  // Sequences that are missing are there, masked: the program's shapes never change.
  const auto put = [&](const Array& to, std::span<const int32_t> from, int32_t filler) {
    std::vector<int32_t> padded(from.begin(), from.end());
    padded.resize(tokens, filler);
    device_.write(to.tensor, std::as_bytes(std::span(padded)));
  };
  put(inputs.ids, batch.ids, 0);
  put(inputs.targets, batch.targets, -1);
  put(inputs.positions, batch.positions, 0);
  if (config_.attend_across_documents) {
    put(inputs.starts, {}, 0);
  } else {
    put(inputs.starts, batch.starts, 0);
  }
  const auto put_scalar = [&](const Array& to, float value) {
    device_.write(to.tensor, std::as_bytes(std::span(&value, 1)));
  };
  put_scalar(inputs.scale, batch.target_count > 0 ? 1.0f / static_cast<float>(batch.target_count) : 0.0f);
  put_scalar(inputs.count, static_cast<float>(batch.target_count));
  put_scalar(inputs.rate, static_cast<float>(rate));
}

void StepProgram::upload(const HostBatch& batch, double rate) {
  fill_inputs(inputs_[next_], microbatches_ * sequences_, batch, rate);
  next_ = 1 - next_;
}

Microbatch StepProgram::microbatch(const Inputs& inputs, int64_t index, int64_t sequences) const {
  const int64_t rows = sequences * options_.tokens_per_sequence;
  Microbatch out;
  out.sequences = sequences;
  out.tokens = options_.tokens_per_sequence;
  out.ids = inputs.ids.tensor.slice_rows(index * rows, rows);
  out.targets = inputs.targets.tensor.slice_rows(index * rows, rows);
  out.positions = inputs.positions.tensor.slice_rows(index * rows, rows);
  out.starts = inputs.starts.tensor.slice_rows(index * rows, rows);
  out.scale = inputs.scale.tensor;
  return out;
}

const PackedMatrix& StepProgram::table() const {
  return config_.tied_head ? zero_.weights(0).packs[0]
                           : zero_.weights(static_cast<int>(config_.layers) + 1).packs[0];
}

void StepProgram::run_microbatch(int64_t index, const Inputs& inputs) {
  Context& c = context_;
  c.phase = Phase::forward;
  Microbatch batch = microbatch(inputs, index, sequences_);
  const RopeTables tables = make_rope_tables(c, config_, batch);
  const int head = static_cast<int>(config_.layers) + 1;
  const Keep keep = keep_of(options_.remat);
  std::vector<Saved> saved(layers_.size());
  Array flow;
  for (const Visit& visit : visits_) {
    const auto layer = static_cast<size_t>(visit.stage - 1);
    if (!visit.backward && visit.stage == 0) {
      flow = embed_forward(c, config_, zero_.weights(0), batch);
    } else if (!visit.backward) {
      flow =
          layers_[layer].forward(c, zero_.weights(visit.stage), batch, std::move(flow), saved[layer], keep);
    } else if (visit.stage == head) {
      marks_.forward_end.push_back(device_.record(Queue::compute));
      const auto gradients = zero_.gradients(head);
      Gradient& d_table = config_.tied_head ? zero_.gradients(0)[0] : gradients[1];
      flow = head_backward(c, config_, zero_.weights(head), table(), batch, std::move(flow),
                           token_loss_.tensor, gradients[0], d_table, options_.loss_block_tokens);
      c.launch(op::sum(token_loss_.tensor, losses_.tensor.slice_rows(index, 1)));
    } else if (visit.stage > 0) {
      c.phase = Phase::backward;
      flow = layers_[layer].backward(c, zero_.weights(visit.stage), batch, std::move(flow), saved[layer],
                                     zero_.gradients(visit.stage));
    } else {
      c.phase = Phase::backward;
      embed_backward(c, config_, batch, std::move(flow), zero_.gradients(0)[0]);
    }
  }
  marks_.backward_end.push_back(device_.record(Queue::compute));
}

void StepProgram::step() {
  const Inputs& inputs = inputs_[1 - next_];
  marks_ = {};
  marks_.begin = device_.record(Queue::compute);
  zero_.begin_step();
  for (int64_t k = 0; k < microbatches_; ++k) {
    zero_.begin_microbatch(k);
    run_microbatch(k, inputs);
    zero_.end_microbatch(k);
  }
  Context& c = context_;
  c.phase = Phase::optimizer;
  const Array& control = control_[1 - finished_];
  c.launch(op::sum(losses_.tensor, loss_sum_.tensor));
  c.launch(op::decide(zero_.gradient_partials(), loss_sum_.tensor, inputs.count.tensor, inputs.rate.tensor,
                      state_.tensor, control.tensor, options_.decide));
  zero_.update({state_.tensor, control.tensor});
  marks_.end = device_.record(Queue::compute);
  finished_ = 1 - finished_;
}

StepResult StepProgram::result(int steps_ago) {
  require(steps_ago == 0 || steps_ago == 1, "results are kept for two steps");
  std::vector<float> control(op::kControlSize);
  const Array& from = control_[steps_ago == 0 ? finished_ : 1 - finished_];
  device_.read(from.tensor, std::as_writable_bytes(std::span(control)));
  StepResult out;
  out.loss = control[op::mean_loss];
  out.gradient_norm = control[op::gradient_norm];
  out.rate = control[op::rate];
  out.targets = static_cast<int64_t>(control[op::targets]);
  out.skipped = control[op::apply] == 0;
  out.reason = static_cast<int>(control[op::reason]);
  return out;
}

StepProgram::Evaluation StepProgram::evaluate(const HostBatch& host) {
  Context& c = context_;
  c.phase = Phase::forward;
  Inputs inputs = make_inputs(sequences_);
  fill_inputs(inputs, sequences_, host, 0);
  Microbatch batch = microbatch(inputs, 0, sequences_);
  const RopeTables tables = make_rope_tables(c, config_, batch);
  Array flow = embed_forward(c, config_, zero_.weights(0), batch);
  for (size_t l = 0; l < layers_.size(); ++l) {
    Saved saved;
    flow =
        layers_[l].forward(c, zero_.weights(static_cast<int>(l) + 1), batch, std::move(flow), saved, Keep());
  }
  head_forward(c, config_, zero_.weights(static_cast<int>(config_.layers) + 1), table(), batch, flow.tensor,
               token_loss_.tensor, options_.loss_block_tokens);
  const Array sum = c.array_f32({1}, "batch");
  c.launch(op::sum(token_loss_.tensor, sum.tensor));
  float loss = 0;
  device_.read(sum.tensor, std::as_writable_bytes(std::span(&loss, 1)));
  return {loss, host.target_count};
}

StepProgram::Trace StepProgram::trace(const HostBatch& host, int64_t sequences) {
  Context& c = context_;
  c.phase = Phase::forward;
  Inputs inputs = make_inputs(sequences);
  fill_inputs(inputs, sequences, host, 0);
  Microbatch batch = microbatch(inputs, 0, sequences);
  const RopeTables tables = make_rope_tables(c, config_, batch);
  Trace trace;
  trace.hidden.push_back(embed_forward(c, config_, zero_.weights(0), batch));
  for (size_t l = 0; l < layers_.size(); ++l) {
    Saved saved;
    Array x = c.array(trace.hidden.back().tensor.shape, "activations");
    device_.copy(x.tensor, trace.hidden.back().tensor);
    trace.hidden.push_back(
        layers_[l].forward(c, zero_.weights(static_cast<int>(l) + 1), batch, std::move(x), saved, Keep()));
  }
  trace.logits = head_logits(c, config_, zero_.weights(static_cast<int>(config_.layers) + 1), table(),
                             trace.hidden.back().tensor);
  return trace;
}

}  // namespace toroid::train
