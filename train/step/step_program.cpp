#include "train/step/step_program.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "core/base/text.h"
#include "core/model/product.h"
#include "core/model/share.h"
#include "core/op/elementwise.h"
#include "core/op/reduce.h"

namespace toroid::train {
namespace {

int64_t block_tokens(const StepOptions& options, int64_t vocab, const DeviceTraits& device) {
  if (options.loss_block_tokens > 0) return options.loss_block_tokens;
  return std::clamp<int64_t>(device.logits_at_once / vocab / 64 * 64, 64, 1024);
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

// In deterministic mode a sum over a sequence's tokens is a tree over so many blocks: a power of two, so that
// the parts of any model axis are subtrees.
int64_t token_blocks(int64_t tokens) {
  constexpr int64_t kFewest = 16, kLongest = 64;
  return kFewest *
         static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(divide_up(tokens, kFewest * kLongest))));
}

// Tokens of a sequence with the masked ones that let the model axis deal them.
int64_t padded_tokens(const StepOptions& options, int model_ranks) {
  const int64_t multiple = options.deterministic ? token_blocks(options.tokens_per_sequence) : model_ranks;
  return round_up(options.tokens_per_sequence, multiple);
}

// Deterministic mode runs one sequence a microbatch.
StepOptions complete(StepOptions options) {
  if (options.deterministic) {
    options.sequences_per_replica = 1;
    options.zero.tiles.token_block = padded_tokens(options, 1) / token_blocks(options.tokens_per_sequence);
  }
  options.zero.compute = options.compute;
  options.zero.tiles.deterministic = options.deterministic;
  return options;
}

}  // namespace

std::vector<Visit> training_visits(const DecoderConfig& config, Remat remat) {
  const int layers = static_cast<int>(config.layers), head = layers + 1;
  std::vector<Visit> visits;
  visits.push_back({false, 0, {{0, true, false, false}}, {}});
  for (int l = 1; l <= layers; ++l) visits.push_back({false, l, {{l, false, true, false}}, {}});
  // The head's loss and its gradient are one visit; with a tied head it reads and writes two units.
  if (config.tied_head) {
    visits.push_back({true, head, {{head, false, false, false}, {0, false, true, true}}, {head, 0}});
  } else {
    visits.push_back({true, head, {{head, false, true, true}}, {head}});
  }
  // Products are taken again only where nothing but the input of a layer was kept.
  const bool again = remat == Remat::full;
  for (int l = layers; l >= 1; --l) visits.push_back({true, l, {{l, false, again, true}}, {l}});
  visits.push_back({true, 0, {}, {0}});
  return visits;
}

std::vector<Visit> forward_visits(const DecoderConfig& config) {
  const int layers = static_cast<int>(config.layers), head = layers + 1;
  std::vector<Visit> visits;
  visits.push_back({false, 0, {{0, true, false, false}}, {}});
  for (int l = 1; l <= layers; ++l) visits.push_back({false, l, {{l, false, true, false}}, {}});
  visits.push_back({false, head, {{head, false, !config.tied_head, false}}, {}});
  if (config.tied_head) visits.back().reads.push_back({0, false, true, false});
  return visits;
}

StepProgram::StepProgram(Device& device, ZeroGroups groups, DecoderConfig config, StepOptions options,
                         std::unique_ptr<optim::Optimizer> optimizer)
    : device_(device),
      groups_(groups),
      data_(groups.gather.place()),
      pod_(groups.pod.place()),
      config_(std::move(config)),
      options_(complete(options)),
      optimizer_(std::move(optimizer)),
      dealer_(pod_, data_, options_.sequences_per_replica, options_.deterministic),
      sequences_(options_.sequences_per_replica),
      microbatches_(dealer_.microbatches(options_.global_sequences)),
      tokens_(padded_tokens(options_, groups.model.place().size)),
      zero_(device, decoder_units(config_, groups.model.place().size, options_.deterministic), *optimizer_,
            options_.zero, groups),
      context_{device,         groups.model,       options_.compute, options_.zero.tiles,
               Phase::forward, options_.model_wire},
      visits_(training_visits(config_, options_.remat)),
      forward_visits_(forward_visits(config_)) {
  // Refuses what cannot be split.
  const ModelShare share(config_, groups.model.place(), options_.deterministic);
  options_.loss_block_tokens = block_tokens(options_, share.vocab_rows, device_.traits());
  layers_.reserve(static_cast<size_t>(config_.layers));
  for (int64_t l = 0; l < config_.layers; ++l) layers_.emplace_back(config_, l);
  for (Inputs& inputs : inputs_) inputs = make_inputs(microbatches_ * sequences_);
  if (options_.zero.replays) replayed_ = make_inputs(sequences_);
  state_ = device_.array(DType::f32, {op::kStateSize}, "batch");
  for (Array& control : control_) control = device_.array(DType::f32, {op::kControlSize}, "batch");
  token_loss_ = device_.array(DType::f32, {sequences_ * tokens_}, "batch");
  losses_ = device_.array(DType::f32, {microbatches_}, "batch");
  loss_sum_ = device_.array(DType::f32, {1}, "batch");
  if (zero_.pods().apart()) pod_square_ = device_.array(DType::f32, {1}, "batch");
  if (options_.deterministic && data_.size > 1 && microbatches_ > 1) {
    ordered_losses_ = device_.array(DType::f32, {microbatches_ * dealer_.replicas()}, "batch");
  }
}

StepProgram::Inputs StepProgram::make_inputs(int64_t sequences) {
  const Shape shape{sequences * tokens_};
  const auto ints = [&] { return device_.array(DType::i32, shape, "batch"); };
  const auto scalar = [&] { return device_.array(DType::f32, {1}, "batch"); };
  Inputs inputs{ints(), ints(), ints(), ints(), {}, scalar(), scalar(), scalar(), 0};
  for (size_t i = 0; i < options_.objective->operands().size(); ++i) {
    inputs.operands.push_back(device_.array(DType::f32, shape, "batch"));
  }
  return inputs;
}

std::vector<std::span<const float>> StepProgram::asked_operands(const HostBatch& batch) const {
  std::vector<std::span<const float>> out;
  for (const std::string& name : options_.objective->operands()) {
    const std::vector<float>* found = nullptr;
    std::string there;
    if (batch.operands != nullptr) {
      for (const auto& [has, values] : *batch.operands) {
        there += (there.empty() ? "\"" : ", \"") + printable(has) + "\"";
        if (has == name && values.size() == batch.ids.size()) found = &values;
      }
    }
    if (found == nullptr) {
      throw UserError("the objective needs \"" + printable(name) + "\" of each token, but the batches have " +
                      (there.empty() ? "nothing beside ids and targets" : there) +
                      "; train on data that has it, or with another train.objective");
    }
    out.emplace_back(*found);
  }
  return out;
}

void StepProgram::initialise(uint64_t seed) {
  zero_.initialise(seed);
  device_.launch(op::fill(state_.tensor, {0}));
}

void StepProgram::fill_inputs(Inputs& inputs, const Deal& deal, const HostBatch& batch, int64_t divisor,
                              double rate) {
  const auto length = static_cast<size_t>(options_.tokens_per_sequence);
  const int64_t sequences = deal.microbatches * deal.sequences;
  inputs.microbatches = deal.microbatches;
  // Sequences and tokens that are missing are there, masked: a microbatch's shapes never change.
  const auto put = [&]<class T>(const Array& to, std::span<const T> from, T filler) {
    std::vector<T> own(static_cast<size_t>(sequences * tokens_), filler);
    for (int64_t i = 0; i < sequences; ++i) {
      const int64_t sequence = deal.first + i / deal.sequences * deal.stride + i % deal.sequences;
      const auto first = static_cast<size_t>(sequence) * length;
      if (first >= from.size()) continue;
      std::copy_n(from.begin() + static_cast<ptrdiff_t>(first), std::min(length, from.size() - first),
                  own.begin() + static_cast<ptrdiff_t>(i * tokens_));
    }
    device_.write(to.tensor.slice_rows(0, sequences * tokens_), std::as_bytes(std::span(own)));
  };
  put(inputs.ids, batch.ids, 0);
  put(inputs.targets, batch.targets, -1);
  put(inputs.positions, batch.positions, 0);
  if (config_.attend_across_documents) {
    put(inputs.starts, std::span<const int32_t>{}, 0);
  } else {
    put(inputs.starts, batch.starts, 0);
  }
  const auto operands = asked_operands(batch);
  for (size_t i = 0; i < operands.size(); ++i) put(inputs.operands[i], operands[i], 0.0f);
  const auto put_scalar = [&](const Array& to, float value) {
    device_.write(to.tensor, std::as_bytes(std::span(&value, 1)));
  };
  put_scalar(inputs.scale, divisor > 0 ? 1.0f / static_cast<float>(divisor) : 0.0f);
  put_scalar(inputs.count, static_cast<float>(batch.target_count));
  put_scalar(inputs.rate, static_cast<float>(rate));
}

void StepProgram::upload(const HostBatch& batch, double rate) {
  upload(batch, dealer_.deal(options_.global_sequences), rate);
}

void StepProgram::upload(const HostBatch& batch, const Deal& deal, double rate) {
  require(deal.microbatches >= 1 && deal.microbatches <= microbatches_ && deal.sequences == sequences_,
          "a deal has at most the microbatches of the largest step");
  require(
      batch.ids.size() <= static_cast<size_t>(deal.pod_sequences * pod_.size * options_.tokens_per_sequence),
      "a batch has at most the sequences that are dealt");
  const int64_t divisor = zero_.pods().apart() ? pod_targets(deal, batch) : batch.target_count;
  fill_inputs(inputs_[next_], deal, batch, divisor, rate);
  next_ = 1 - next_;
}

// Counts the valid targets in the sequences that are dealt to this pod.
int64_t StepProgram::pod_targets(const Deal& deal, const HostBatch& batch) const {
  const auto tokens = static_cast<size_t>(deal.pod_sequences * options_.tokens_per_sequence);
  const size_t first =
      std::min(static_cast<size_t>(deal.pod_first * options_.tokens_per_sequence), batch.targets.size());
  const auto own = batch.targets.subspan(first, std::min(tokens, batch.targets.size() - first));
  return std::count_if(own.begin(), own.end(), [](int32_t target) { return target >= 0; });
}

Microbatch StepProgram::microbatch(const Inputs& inputs, int64_t index, int64_t sequences) const {
  const int64_t rows = sequences * tokens_;
  Microbatch out;
  out.sequences = sequences;
  out.tokens = tokens_;
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

std::vector<Tensor> StepProgram::operands(const Inputs& inputs, int64_t index, int64_t sequences) const {
  std::vector<Tensor> out;
  for (const Array& operand : inputs.operands) {
    out.push_back(operand.tensor.slice_rows(index * sequences * tokens_, sequences * tokens_));
  }
  return out;
}

HeadInputs StepProgram::head_inputs(const Microbatch& batch, std::span<const Tensor> operands) const {
  return {config_,
          zero_.weights(static_cast<int>(config_.layers) + 1),
          table(),
          batch,
          options_.loss_block_tokens,
          operands};
}

void StepProgram::run_microbatch(int64_t index, const Inputs& inputs, bool again, bool replays) {
  Context& c = context_;
  c.phase = Phase::forward;
  Microbatch batch = microbatch(inputs, index, sequences_);
  const RopeTables tables = make_rope_tables(c, config_, batch);
  const int head = static_cast<int>(config_.layers) + 1;
  const Keep own = keep_of(options_.remat);
  const Keep keep = options_.keep_gathered && groups_.model.place().size > 1 ? own.gathered() : own;
  std::vector<Saved> saved(layers_.size());
  Array flow;
  const bool marks = marks_microbatches_ && !replays;
  for (size_t at = 0; at < visits_.size(); ++at) {
    const Visit& visit = visits_[at];
    const auto layer = static_cast<size_t>(visit.stage - 1);
    if (on_visit_) on_visit_(&zero_.units()[static_cast<size_t>(visit.stage)]);
    zero_.acquire(visits_, at, again);
    if (!visit.backward && visit.stage == 0) {
      flow = embed_forward(c, config_, zero_.weights(0), batch);
    } else if (!visit.backward) {
      flow =
          layers_[layer].forward(c, zero_.weights(visit.stage), batch, std::move(flow), saved[layer], keep);
    } else if (visit.stage == head) {
      if (marks) marks_.forward_end.push_back(device_.record(Queue::compute));
      const auto gradients = zero_.gradients(head);
      Gradient& d_table = config_.tied_head ? zero_.gradients(0)[0] : gradients[1];
      flow = options_.objective->gradient(c, head_inputs(batch, operands(inputs, index, sequences_)),
                                          std::move(flow), token_loss_.tensor, {gradients[0], d_table});
      if (!replays) c.launch(op::sum(token_loss_.tensor, losses_.tensor.slice_rows(index, 1)));
    } else if (visit.stage > 0) {
      c.phase = Phase::backward;
      flow = layers_[layer].backward(c, zero_.weights(visit.stage), batch, std::move(flow), saved[layer],
                                     zero_.gradients(visit.stage));
    } else {
      c.phase = Phase::backward;
      embed_backward(c, config_, batch, std::exchange(flow, {}), zero_.gradients(0)[0]);
    }
    zero_.reduce(visit);
    zero_.release(visits_, at, again);
  }
  if (on_visit_) on_visit_(nullptr);
  if (marks) marks_.backward_end.push_back(device_.record(Queue::compute));
}

void StepProgram::replay(const HostBatch& batch, const Deal& deal) {
  replay(batch, deal, false);
}

void StepProgram::replay(const HostBatch& batch, const Deal& deal, bool again) {
  Deal first = deal;
  first.microbatches = 1;
  const int64_t divisor = zero_.pods().apart() ? pod_targets(deal, batch) : batch.target_count;
  fill_inputs(replayed_, first, batch, divisor, 0);
  zero_.begin_replay();
  zero_.note_gradients(1);
  run_microbatch(0, replayed_, again, true);
  zero_.note_gradients(std::nullopt);
  zero_.end_replay();
}

void StepProgram::step(const StepCheck* check) {
  const Inputs& inputs = inputs_[1 - next_];
  marks_ = {};
  marks_.begin = device_.record(Queue::compute);
  zero_.begin_step(inputs.microbatches, visits_);
  for (int64_t k = 0; k < inputs.microbatches; ++k) {
    const bool again = k + 1 < inputs.microbatches, checked = check != nullptr && k == 0;
    zero_.begin_microbatch(k);
    if (checked) zero_.note_gradients(0);
    run_microbatch(k, inputs, again || checked);
    zero_.note_gradients(std::nullopt);
    zero_.end_microbatch();
    if (!checked) continue;
    marks_.replay_begin = device_.record(Queue::compute);
    replay(*check->batch, check->again, again);
    marks_.replay_end = device_.record(Queue::compute);
  }
  if (check != nullptr && check->before_update) check->before_update();
  Context& c = context_;
  c.phase = Phase::optimizer;
  const Array& control = control_[1 - finished_];
  c.launch(op::sum(step_losses(inputs.microbatches).tensor, loss_sum_.tensor));
  decide(inputs, control.tensor);
  zero_.update({state_.tensor, control.tensor});
  marks_.end = device_.record(Queue::compute);
  finished_ = 1 - finished_;
}

// One verdict for all ranks, also where pods train apart: on the loss of the whole step and on the root mean
// square of the pods' norms. Each pod then clips on its own.
void StepProgram::decide(const Inputs& inputs, const Tensor& control) {
  Array partials = zero_.gradient_partials();
  if (zero_.pods().apart()) {
    context_.launch(op::sum(partials.tensor, pod_square_.tensor));
    partials = zero_.pods().gather({pod_square_.tensor, {}}, {"norms", "batch", Phase::optimizer});
  }
  context_.launch(op::decide(partials.tensor, loss_sum_.tensor, inputs.count.tensor, inputs.rate.tensor,
                             zero_.pods().go(), state_.tensor, control, options_.decide, pod_square_.tensor));
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
  out.reason = static_cast<int>(control[op::reason]);
  out.withdrawn = out.reason == op::kWithdrawn;
  out.skipped = control[op::apply] == 0 && !out.withdrawn;
  return out;
}

// The losses of all microbatches of all replicas, in deterministic mode in the order of the sequences.
Array StepProgram::step_losses(int64_t microbatches) {
  const CollectiveLabel label{"losses", "batch", Phase::optimizer};
  Array gathered = groups_.gather.all_gather({losses_.tensor.slice_rows(0, microbatches), {}}, label);
  gathered = zero_.pods().gather(std::move(gathered), label);
  const Tensor& all = gathered.tensor;  // [pods, data, microbatches]
  if (!ordered_losses_.tensor) return gathered;
  for (int64_t pod = 0; pod < pod_.size; ++pod) {
    for (int64_t rank = 0; rank < data_.size; ++rank) {
      for (int64_t k = 0; k < microbatches; ++k) {
        device_.copy(ordered_losses_.tensor.slice_rows((pod * microbatches + k) * data_.size + rank, 1),
                     all.slice_rows((pod * data_.size + rank) * microbatches + k, 1));
      }
    }
  }
  return {ordered_losses_.tensor.slice_rows(0, microbatches * dealer_.replicas()), {}};
}

template <class Body>
void StepProgram::walk_forward(const Body& body) {
  for (size_t at = 0; at < forward_visits_.size(); ++at) {
    zero_.acquire(forward_visits_, at, false);
    body(forward_visits_[at].stage);
    zero_.release(forward_visits_, at, false);
  }
}

StepProgram::Evaluation StepProgram::evaluate(const HostBatch& host) {
  Context& c = context_;
  c.phase = Phase::forward;
  Inputs inputs = make_inputs(sequences_);
  fill_inputs(inputs, dealer_.deal_once(), host, host.target_count, 0);
  Microbatch batch = microbatch(inputs, 0, sequences_);
  const RopeTables tables = make_rope_tables(c, config_, batch);
  const int head = static_cast<int>(config_.layers) + 1;
  std::vector<Tensor> values{token_loss_.tensor};  // of each token: the loss, the objective's metrics
  std::vector<Array> metrics;
  for (size_t i = 0; i < options_.objective->metrics().size(); ++i) {
    metrics.push_back(device_.array(DType::f32, token_loss_.tensor.shape, "batch"));
    values.push_back(metrics.back().tensor);
  }
  Array flow;
  walk_forward([&](int stage) {
    if (stage == 0) {
      flow = embed_forward(c, config_, zero_.weights(0), batch);
    } else if (stage < head) {
      Saved saved;
      flow = layers_[static_cast<size_t>(stage - 1)].forward(c, zero_.weights(stage), batch, std::move(flow),
                                                             saved, Keep());
    } else {
      options_.objective->loss(c, head_inputs(batch, operands(inputs, 0, sequences_)), flow.tensor, values[0],
                               std::span(values).subspan(1));
    }
  });
  const auto count = static_cast<int64_t>(values.size());
  const Array sum = c.array_f32({count}, "batch");
  for (int64_t i = 0; i < count; ++i) {
    c.launch(op::sum(values[static_cast<size_t>(i)], sum.tensor.slice_rows(i, 1)));
  }
  const CollectiveLabel label{"validation loss", "batch", Phase::forward};
  Array all = groups_.gather.all_gather({sum.tensor, {}}, label);
  all = zero_.pods().gather(std::move(all), label);
  std::vector<float> read(static_cast<size_t>(all.tensor.elements()));
  device_.read(all.tensor, std::as_writable_bytes(std::span(read)));
  std::vector<double> sums(values.size(), 0.0);
  for (size_t i = 0; i < read.size(); ++i) sums[i % sums.size()] += read[i];
  return {sums[0], {sums.begin() + 1, sums.end()}, host.target_count};
}

StepProgram::Trace StepProgram::trace(const HostBatch& host, int64_t sequences) {
  Context& c = context_;
  c.phase = Phase::forward;
  Inputs inputs = make_inputs(sequences);
  Deal whole;
  whole.microbatches = 1;
  whole.sequences = sequences;
  fill_inputs(inputs, whole, host, host.target_count, 0);
  Microbatch batch = microbatch(inputs, 0, sequences);
  const RopeTables tables = make_rope_tables(c, config_, batch);
  const int head = static_cast<int>(config_.layers) + 1;
  Trace trace;
  walk_forward([&](int stage) {
    if (stage == 0) {
      trace.hidden.push_back(embed_forward(c, config_, zero_.weights(0), batch));
    } else if (stage < head) {
      Saved saved;
      Array x = c.array(trace.hidden.back().tensor.shape, "activations");
      device_.copy(x.tensor, trace.hidden.back().tensor);
      trace.hidden.push_back(layers_[static_cast<size_t>(stage - 1)].forward(c, zero_.weights(stage), batch,
                                                                             std::move(x), saved, Keep()));
    } else {
      trace.logits = head_logits(c, config_, zero_.weights(head), table(), trace.hidden.back().tensor);
    }
  });
  if (tokens_ == options_.tokens_per_sequence && groups_.model.place().size == 1) return trace;
  for (Array& hidden : trace.hidden) {
    const Array all = gather_rows(c, hidden.tensor, "trace");
    hidden = without_padding({&all.tensor, 1}, config_.d_model, sequences);
  }
  const Array all = gather_rows(c, trace.logits.tensor, "trace");
  std::vector<Tensor> parts;
  for (int64_t row = 0; row < all.tensor.rows(); row += batch.rows()) {
    parts.push_back(all.tensor.slice_rows(row, batch.rows()));
  }
  trace.logits = without_padding(parts, config_.vocab, sequences);
  return trace;
}

// The tokens and columns that are no padding, of a matrix whose columns come in parts.
Array StepProgram::without_padding(std::span<const Tensor> parts, int64_t columns, int64_t sequences) {
  const int64_t T = options_.tokens_per_sequence;
  Array out = device_.array(parts[0].type, {sequences * T, columns}, "activations");
  const Tensor flat = out.tensor.reshape({out.tensor.elements()});
  int64_t column = 0;
  for (const Tensor& part : parts) {
    const int64_t width = part.columns(), count = std::min(width, columns - column);
    const Tensor from = part.reshape({part.elements()});
    for (int64_t row = 0; row < sequences * T && count > 0; ++row) {
      const int64_t padded = row / T * tokens_ + row % T;
      device_.copy(flat.slice_rows(row * columns + column, count), from.slice_rows(padded * width, count));
    }
    column += count;
  }
  return out;
}

}  // namespace toroid::train
