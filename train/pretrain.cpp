#include "train/pretrain.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "core/base/log.h"
#include "core/base/text.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/sim/recording_device.h"
#include "data/batch/dataset.h"
#include "data/batch/loader.h"
#include "train/config/changes.h"
#include "train/config/load.h"
#include "train/dry_run.h"
#include "train/host_figures.h"
#include "train/memory_report.h"
#include "train/model_flops.h"
#include "train/signals.h"
#include "train/snapshot.h"

namespace toroid::train {
namespace {

BatchShape batch_shape(const config::RunConfig& run) {
  return {run.batch().global_sequences(), run.batch().tokens_per_sequence(),
          static_cast<int32_t>(run.model().vocab()), run.train().seed()};
}

std::optional<double> peak_flops(const config::RunConfig& run) {
  const auto host = read_host_figures();
  if (!host) return std::nullopt;
  const double peak = run.train().precision() == config::TrainConfig::FP32 ? host->fp32_flops_per_s()
                                                                           : host->bf16_flops_per_s();
  return peak > 0 ? std::optional<double>(peak) : std::nullopt;
}

constexpr size_t kMostPhases = 1000;  // steps whose median is compared with the prediction

const char* reason_text(int reason) {
  static constexpr const char* kReasons[] = {"applied",
                                             "the loss is not finite",
                                             "the gradient norm is not finite",
                                             "the loss is an outlier",
                                             "the gradient norm is an outlier",
                                             "no valid target"};
  return kReasons[std::clamp(reason, 0, 5)];
}

}  // namespace

Pretrain::Pretrain(const TrainOptions& options, const Plugins& plugins)
    : options_(options),
      plugins_(plugins),
      config_(options.config),
      directory_(run_directory_of(options.out, options.resume)),
      batches_(open_dataset(config_.data(), batch_shape(config_))),
      schedule_(plugins.schedules.make(config_.optim().schedule())),
      mesh_(config_.mesh()),
      stragglers_(config_.train().straggler().factor(), config_.train().straggler().steps()),
      peak_flops_(peak_flops(config_)) {
  CpuRank rank = join_on_cpu(config_, plugins);
  CpuDevice& device = *rank.device;
  engine_ = make_engine(config_, std::move(rank.world), std::move(rank.device), plugins);
  meter_.emplace(device, *engine_.world, mesh_);
  if (!options.trace.empty()) {
    tracer_.emplace(options.trace, config_.train().trace(), device, engine_, mesh_);
  }
  leads_ = engine_.world->rank() == 0;
  if (!leads_) log::set_level(log::level::warn);
  const StepOptions& step = engine_.program->options();
  flops_per_step_ =
      model_flops_per_step(engine_.program->config(), step.global_sequences, step.tokens_per_sequence);
  tokens_per_step_ = static_cast<double>(step.global_sequences * step.tokens_per_sequence);
  log::info("{} ranks of {} threads, {} microbatches of {} x {} tokens a step on each", engine_.world->size(),
            engine_.device->kernels().threads(), engine_.program->microbatches(),
            engine_.program->sequences_per_microbatch(), step.tokens_per_sequence);
}

void Pretrain::start() {
  StepProgram& program = *engine_.program;
  const auto first_alone = [this](const std::function<void()>& work) {
    first_rank_alone(*engine_.world, *engine_.device, *engine_.groups.all, "the run directory", work);
  };
  first_alone([this] { run_directory_.emplace(directory_, options_.again, options_.resume); });
  lineage_.run = new_run_id();
  if (!options_.resume.empty()) {
    resume();
  } else {
    program.initialise(config_.train().seed());
    if (!config_.train().init_from().empty()) {
      CheckpointReader weights(config_.train().init_from(), Verify::headers);
      restore_weights(*engine_.device, program.zero(), weights, "master");
      log::info("weights from {}", printable(weights.directory().string()));
    }
  }
  first_alone([this] {
    run_directory_->begin(first_step_, options_.config_text);
    metrics_.emplace(directory_ / "metrics.jsonl", first_step_);
  });
  checkpoints_.emplace(directory_, static_cast<int>(config_.train().checkpoint().keep()), lineage_, [this] {
    if (leads_) run_directory_->confirm();
  });
}

void Pretrain::resume() {
  // The first rank picks the step and checks all of it; the others read theirs of the same one.
  const bool many = engine_.world->size() > 1;
  Path step = options_.resume;
  if (leads_ && many) step = CheckpointReader(options_.resume, Verify::all).directory();
  if (many) step = exchange(*engine_.device, *engine_.groups.all, step.string(), "the step to resume")[0];
  CheckpointReader checkpoint(step, Verify::headers);
  const CheckpointState& state = checkpoint.state();
  const auto saved = config::load_text(state.config, "the config of " + checkpoint.directory().string());
  const auto changed = config::changes(saved.run, config_);
  if (!changed.empty() && !options_.allow_changes) {
    std::string all;
    for (const std::string& line : changed) all += "\n  " + line;
    throw UserError("the config differs from the checkpoint's in what decides the weights:" + all +
                    "\nresume with the checkpoint's config, or pass --allow-changes");
  }
  const auto fingerprint = state.texts.find("data_fingerprint");
  if (fingerprint != state.texts.end() && fingerprint->second != std::to_string(batches_->fingerprint()) &&
      !options_.allow_changes) {
    throw UserError("the prepared data is not what " + checkpoint.directory().string() +
                    " was trained on; prepare it again as it was, or pass --allow-changes");
  }
  restore_snapshot(*engine_.device, *engine_.program, checkpoint);
  first_step_ = saved_step_ = state.step;
  if (goes_on_in(directory_, options_.resume) && !state.lineage.run.empty()) lineage_.run = state.lineage.run;
  lineage_.parent = checkpoint.id();
  const auto counter = [&](const char* name) {
    const auto found = state.counters.find(name);
    return found == state.counters.end() ? 0 : found->second;
  };
  skipped_total_ = counter("skipped_total");
  skipped_in_a_row_ = counter("skipped_in_a_row");
  const int64_t pods = engine_.program->pods();
  const auto saved_pods = state.counters.find("pods");
  if (leads_ && engine_.program->zero().keeps_pods() && saved_pods != state.counters.end() &&
      saved_pods->second != pods) {
    log::warn("{} is of {} pods and this run has {}: a pod that it lacks begins as pod 0, without a residual",
              printable(checkpoint.directory().string()), saved_pods->second, pods);
  }
  log::info("resumed step {} of {}", state.step, printable(checkpoint.directory().string()));
}

StepShare Pretrain::issue(int64_t step, const Batch& batch) {
  meter_->begin();
  engine_.program->upload(host_batch(batch), schedule_(step));
  engine_.program->step();
  return meter_->end();
}

int Pretrain::meet(int64_t step, const StepShare& share, int signal, StepCommunication& communication) {
  std::vector<double> mine = to_numbers(share);
  mine.push_back(signal);
  const std::vector<double> all =
      exchange(*engine_.device, *engine_.groups.all, mine, "what the ranks say of a step");
  std::vector<StepShare> shares;
  for (size_t at = 0; at < all.size(); at += mine.size()) {
    shares.push_back(share_of(std::span(all).subspan(at, mine.size() - 1)));
    signal = std::max(signal, static_cast<int>(all[at + mine.size() - 1]));
  }
  communication = summarise(shares);
  for (const StragglerWatch::Finding& found : stragglers_.look(communication.own_s)) {
    if (!leads_) continue;
    log::warn("step {}: {} {}: its own work takes {:.3f} s a step, its peers' {:.3f} s", step + 1,
              mesh_.text(found.rank), found.recovered ? "keeps up again" : "is slower than its peers",
              found.own_s, found.peers_s);
  }
  return signal;
}

template <class Row>
void Pretrain::keep(const Row& row) {
  if (!leads_) return;
  // The lock is looked at every ten seconds; a look before that is not for nothing where this process was
  // stopped.
  run_directory_->confirm(std::chrono::seconds(20));
  metrics_->write(row);
}

bool Pretrain::report(int64_t step, int steps_ago, const Issued& issued) {
  const StepResult result = engine_.program->result(steps_ago);
  skipped_in_a_row_ = result.skipped ? skipped_in_a_row_ + 1 : 0;
  skipped_total_ += result.skipped ? 1 : 0;
  StepRow row;
  row.step = step + 1;
  row.loss = result.loss;
  row.gradient_norm = result.gradient_norm;
  row.learning_rate = result.rate;
  row.tokens = static_cast<int64_t>(tokens_per_step_) * (step + 1);
  row.step_s = issued.duration.count();
  row.tokens_per_s = tokens_per_step_ / row.step_s;
  if (peak_flops_) row.mfu = flops_per_step_ / row.step_s / *peak_flops_;
  row.communication = issued.communication;
  row.skipped = result.skipped;
  row.skipped_total = skipped_total_;
  keep(row);
  if (result.skipped) log::warn("step {} skipped: {}", step + 1, reason_text(result.reason));
  finish_line(step, row);
  const int64_t most = config_.optim().skip().max_consecutive();
  return most == 0 || skipped_in_a_row_ < most;
}

void Pretrain::finish_line(int64_t step, const StepRow& row) {
  const int64_t every = std::max<int64_t>(1, config_.train().log().every());
  const int64_t last = config_.train().steps();
  if (!leads_) return;
  if (row.step % every != 0 && step != first_step_ && row.step != last) return;
  const double bytes = static_cast<double>(engine_.device->statistics().bytes_peak);
  std::string mfu;
  if (row.mfu) {
    char text[32];
    std::snprintf(text, sizeof text, "  mfu: %.1f%%", 100 * *row.mfu);
    mfu = text;
  }
  std::printf("step: %5lld  loss: %7.4f  grad_norm: %7.4f  lr: %.2e  memory: %.2f GB  tps: %.0f%s\n",
              static_cast<long long>(row.step), row.loss, row.gradient_norm, row.learning_rate, bytes / 1e9,
              row.tokens_per_s, mfu.c_str());
  std::fflush(stdout);
}

void Pretrain::validate(int64_t step) {
  const int64_t count = std::min(config_.train().validate().sequences(), batches_->validation_sequences());
  if (count == 0 || validated_step_ == step) return;
  validated_step_ = step;
  double loss = 0;
  int64_t targets = 0, bytes = 0;
  const int64_t at_once = engine_.program->sequences_per_round();
  for (int64_t first = 0; first < count; first += at_once) {
    const Batch batch = batches_->validation(first, std::min(at_once, count - first));
    const auto part = engine_.program->evaluate(host_batch(batch));
    loss += part.loss_sum;
    targets += part.targets;
    bytes += batch.target_bytes;
  }
  ValidationRow row;
  row.step = step;
  row.targets = targets;
  row.validation_loss = targets > 0 ? loss / static_cast<double>(targets) : std::nan("");
  row.perplexity = std::exp(row.validation_loss);
  row.bits_per_byte = bytes > 0 ? loss / std::log(2.0) / static_cast<double>(bytes) : std::nan("");
  keep(row);
  if (!leads_) return;
  std::printf("step: %5lld  validation_loss: %.4f  perplexity: %.2f  bits_per_byte: %.4f\n",
              static_cast<long long>(step), row.validation_loss, row.perplexity, row.bits_per_byte);
  std::fflush(stdout);
}

void Pretrain::save(int64_t step) {
  if (saved_step_ == step) return;
  CheckpointState state;
  state.step = step;
  state.config = options_.config_text;
  state.next_sequence = step * config_.batch().global_sequences();
  state.counters = {{"skipped_total", skipped_total_}, {"skipped_in_a_row", skipped_in_a_row_}};
  state.texts["data_fingerprint"] = std::to_string(batches_->fingerprint());
  std::vector<std::vector<std::byte>> copies;
  const auto slices = take_snapshot(*engine_.device, *engine_.program, state, copies);
  const World& world = *engine_.world;
  checkpoints_->save(state, slices, {{world.rank(), world.size()}, [this](const std::string& text) {
                                       return exchange(*engine_.device, *engine_.groups.all, text,
                                                       "checkpoint");
                                     }});
  saved_step_ = step;
  log::info("saved step {} to {}", step, printable((directory_ / "checkpoints").string()));
}

void Pretrain::report_prediction(int64_t step, double bytes_peak) {
  const World& world = *engine_.world;
  const bool one_host = static_cast<int>(world.host_ranks().size()) == world.size();
  if (!leads_ || !options_.predict || phases_.empty() || !one_host) return;
  const auto predicted = options_.predict(config_);
  if (!predicted) return;
  Comparison comparison;
  comparison.predicted = *predicted;
  comparison.measured.time = median({phases_.begin(), phases_.end()});
  comparison.measured.bytes = bytes_peak;
  comparison.steps = static_cast<int64_t>(phases_.size());
  print_comparison(std::cout, comparison);
  keep(PredictionRow{step, comparison});
}

void Pretrain::report_memory(int64_t step) {
  const Statistics& used = engine_.device->statistics();
  const Statistics predicted =
      predict_memory(config_, *engine_.world, engine_.device->kernels().threads(), plugins_);
  const auto ranks = exchange_memory(*engine_.device, *engine_.groups.all, predicted, used);
  if (leads_) print_memory(std::cout, predicted, used, ranks, engine_.world->rank());
  double most = 0;
  for (const MemoryUse& rank : ranks) most = std::max(most, rank.used);
  report_prediction(step, most);
}

ExitCode Pretrain::run() {
  const SignalGuard signals;
  start();
  const int64_t steps = config_.train().steps();
  if (first_step_ >= steps) {
    log::info("the run has its {} steps already", steps);
    return ExitCode::done;
  }
  Loader loader(*batches_, first_step_, steps, std::max(1, static_cast<int>(config_.data().threads())));
  const int64_t validate_every = config_.train().validate().every();
  const int64_t save_every = config_.train().checkpoint().every();
  ExitCode code = ExitCode::done;
  // Results are read one step late, so that a device is never waited for while it could work; where a
  // checkpoint or a validation follows, at once.
  bool unread = false;
  Issued issued;
  int64_t step = first_step_;
  Batch batch = loader.next();
  for (; step < steps && code == ExitCode::done; ++step) {
    if (tracer_) tracer_->begin_step(step + 1);
    const Stopwatch watch;
    const StepShare share = issue(step, batch);
    if (unread && !report(step - 1, 1, issued)) code = ExitCode::too_many_skips;
    if (step + 1 < steps) batch = loader.next();
    unread = true;
    issued.duration = watch.elapsed();
    const int64_t done = step + 1;
    const int signal = meet(step, share, signals.received(), issued.communication);
    if (tracer_) tracer_->end_step();
    if (options_.predict && step > first_step_) {
      engine_.device->synchronize(engine_.program->marks().end, Seconds(config_.train().deadline_s()));
      phases_.push_back(phases_of(*engine_.device, engine_.program->marks()));
      if (phases_.size() > kMostPhases) phases_.pop_front();
    }
    const bool stop = signal != 0;
    const bool due_validation = validate_every > 0 && (done % validate_every == 0 || done == steps);
    if (done == steps) engine_.program->meet_pods();
    const bool due_save = stop || done == steps || (save_every > 0 && done % save_every == 0);
    if (!(due_validation || due_save || code != ExitCode::done)) continue;
    if (!report(step, 0, issued)) code = ExitCode::too_many_skips;
    unread = false;
    if (due_validation && !stop) validate(done);
    if (due_save && code == ExitCode::done) save(done);
    if (stop && code == ExitCode::done) {
      log::warn("signal {} received: saved step {}, leaving; continue with --resume {}", signal, done,
                printable(directory_.string()));
      code = done == steps ? ExitCode::done : ExitCode::saved_on_signal;
      if (code == ExitCode::saved_on_signal) break;
    }
  }
  if (code == ExitCode::too_many_skips) {
    log::error(
        "training stopped: {} steps in a row were skipped (optim.skip.max_consecutive); the newest "
        "checkpoint is from before them",
        skipped_in_a_row_);
  }
  if (tracer_) tracer_->close();
  report_memory(step);
  if (!checkpoints_->wait()) throw SystemError("the last checkpoint did not read back as it was written");
  return code;
}

ExitCode run(const TrainOptions& options, const Plugins& plugins) {
  if (options.dry_run) {
    dry_run(options, plugins);
    return ExitCode::done;
  }
  if (options.record) {
    record_step(options, plugins);
    return ExitCode::done;
  }
  return Pretrain(options, plugins).run();
}

}  // namespace toroid::train
