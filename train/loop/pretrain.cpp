#include "train/loop/pretrain.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "core/base/log.h"
#include "core/base/text.h"
#include "data/batch/dataset.h"
#include "data/batch/loader.h"
#include "train/checkpoint/step_writer.h"
#include "train/config/load.h"
#include "train/engine/snapshot.h"
#include "train/huggingface/inheritance.h"
#include "train/loop/dry_run.h"
#include "train/loop/memory_fit.h"
#include "train/loop/roll_back.h"
#include "train/ranks/bf16_products.h"
#include "train/report/memory_report.h"
#include "train/report/model_flops.h"

namespace toroid::train {
namespace {

BatchShape batch_shape(const config::RunConfig& run) {
  return {run.batch().tokens_per_sequence(), static_cast<int32_t>(run.model().vocab()), run.train().seed()};
}

constexpr size_t kStepsOfMedian = 1000;  // steps whose median is compared with the prediction

// 0 in older checkpoints, which do not count that.
int64_t counter_of(const CheckpointState& state, const char* name) {
  const auto found = state.counters.find(name);
  return found == state.counters.end() ? 0 : found->second;
}

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
      config_text_(options.config_text),
      directory_(run_directory_of(options.out, options.resume)),
      batches_(open_dataset(config_.data(), batch_shape(config_))),
      schedule_(plugins.schedules.make(config_.optim().schedule())),
      stragglers_(config_.train().straggler().factor(), config_.train().straggler().steps()),
      skips_(config_.optim().skip().max_consecutive()),
      plan_(config_.batch()) {
  TraceRequest trace{options.trace, config_.train().trace()};
  RunRank rank = meet_ranks(trace);
  Device& device = *rank.device;
  check_memory(config_, *rank.world, device, plugins);
  faults_.emplace(config_, rank.world->rank(), rank.world->size());
  engine_ = make_engine(config_, std::move(rank.world), std::move(rank.device), plugins, faults_->adapt());
  const mesh::Mesh& mesh = engine_.layout->mesh();
  meter_.emplace(device, *engine_.world, mesh);
  detectors_.emplace(config_.train().detect(), engine_);
  if (!trace.file.empty()) tracer_.emplace(trace.file, trace.window, device, engine_, mesh);
  leads_ = engine_.world->rank() == 0;
  if (!leads_) log::set_level(log::Level::warn);
  for (const std::string& warning : options.warnings) {
    if (leads_) log::warn("{}", warning);
  }
  const StepOptions& step = engine_.program->options();
  engine_.program->mark_microbatches(options.predict != nullptr);
  // What `toroid doctor` measured is the processor's.
  if (leads_ && config_.device() == config::RunConfig::CPU) {
    peak_ = RunPeak(peak_asked(step.compute, *engine_.world, engine_.device->traits().threads));
  } else if (leads_) {
    std::optional<double> peak = engine_.device->peak_flops_per_s(step.compute);
    if (peak) *peak *= engine_.world->size();
    peak_ = RunPeak::of_data_sheet(peak);
  }
  log::info("{} ranks of {} threads, {} microbatches of {} x {} tokens a step on each", engine_.world->size(),
            engine_.device->traits().threads, engine_.program->microbatches(),
            engine_.program->sequences_per_microbatch(), step.tokens_per_sequence);
  if (plan_.ramps()) log::info("batch.ramp: {}; the microbatches are the last phase's", to_text(plan_));
}

RunRank Pretrain::meet_ranks(TraceRequest& trace) {
  // What this rank alone can find wrong comes before it meets the others.
  const bool resumes = !options_.resume.empty();
  identity_ = identity_of(config_);
  add_data(identity_, config_.data());
  if (!resumes && !config_.train().init_from().empty()) {
    from_.emplace(config_.train().init_from(), Verify::headers);
    identity_.add("train.init_from", weights_hash(*from_));
  }
  Meeting ranks = meet_launched_ranks(Seconds(config_.train().deadline_s()));
  ranks.settle_instructions();
  const Bf16Products products = agreed_bf16_products(ranks, config_.train());
  settle_bf16_products(config_, config_text_, products);
  add_processor(identity_, products);
  RunIdentity start = identity_;
  start.add("--resume", resumes ? "given" : "not given");
  start.add("--allow-changes", options_.allow_changes ? "given" : "not given");
  ranks.agree(start);
  trace = agreed_trace(ranks, trace);
  // Before the step to resume is looked for: what another process writes is not read.
  ranks.first_alone("the run directory",
                    [this] { run_directory_.emplace(directory_, options_.again, options_.resume); });
  if (resumes) from_.emplace(open_resumed(ranks, options_.resume));
  return leave_as_rank(std::move(ranks), config_, products, plugins_);
}

void Pretrain::start() {
  StepProgram& program = *engine_.program;
  data_.skips = skip_list(config_.data());
  lineage_.run = new_run_id();
  if (!options_.resume.empty()) {
    resume();
  } else {
    program.initialise(config_.train().seed());
    if (from_) {
      restore_weights(*engine_.device, program.zero(), *from_, "master");
      log::info("weights from {}", printable(from_->directory().string()));
    }
  }
  from_.reset();
  const auto prepare = [this] {
    run_directory_->begin(first_step_, config_text_);
    huggingface::inherit_files(config_, options_.resume, directory_);
    metrics_.emplace(directory_ / "metrics.jsonl", first_step_);
  };
  first_rank_alone(*engine_.world, "the run directory", prepare);
  if (engine_.world->size() > 1) {
    const std::string claimed = leads_ ? describe_claimed(directory_) : "";
    const auto all = engine_.world->exchange().texts(claimed, "the run directory");
    if (!leads_) directory_ = find_claimed(directory_, all[0]);
  }
  faults_->begin(directory_, leads_);
  detectors_->write_to(directory_);
  make_saver();
}

void Pretrain::make_saver() {
  const SaveHooks faults{[this](int64_t step, auto& slices) { faults_->before_save(step, slices); },
                         [this] { faults_->after_save(); }};
  saver_.emplace(
      engine_, config_, directory_, lineage_,
      [this] {
        if (leads_) run_directory_->confirm();
      },
      faults);
  if (lineage_.parent) saver_->begin_at(first_step_, resumed_sequence_);
}

bool Pretrain::go_back() {
  (void)saver_->wait();  // what did not read back is passed over below
  HostExchange& ranks = engine_.world->exchange();
  std::string step;
  if (leads_) {
    const auto found = step_to_go_back_to(directory_, skips_.taken());
    if (found) step = step_name(*found);
  }
  step = ranks.from_first(step, "the step to go back to");
  if (step.empty()) return false;
  if (leads_) log::warn("{}", skips_.what());
  CheckpointReader checkpoint(directory_ / "checkpoints" / step, Verify::headers);
  const CheckpointState& state = checkpoint.state();
  const SequenceRange bad{std::max(skips_.taken().first, state.next_sequence), skips_.taken().last};
  restore_snapshot(*engine_.device, *engine_.program, checkpoint);
  const config::RunConfig saved = config::load_text(state.config, "the config of " + step).run;
  data_ = resumed_position(state, saved, data_.skips, step);
  data_.skips.add(bad.first, bad.last);
  batches_->skip(data_.skips);
  first_step_ = state.step;
  resumed_sequence_ = state.next_sequence;
  lineage_.parent = checkpoint.id();
  skips_.resume(counter_of(state, "skipped_total"), 0);
  validated_.reset();
  saver_.reset();
  first_rank_alone(*engine_.world, "the run directory", [this] {
    run_directory_->go_back(first_step_);
    metrics_.emplace(directory_ / "metrics.jsonl", first_step_);
  });
  make_saver();
  if (leads_)
    log::warn("went back to step {}, and leaves out the global sequences {} from now on", first_step_,
              to_text(std::vector<SkipList::Range>{{bad.first, bad.last}}));
  return true;
}

void Pretrain::resume() {
  CheckpointReader& checkpoint = *from_;
  const CheckpointState& state = checkpoint.state();
  const std::string origin = checkpoint.directory().string();
  const auto saved = config::load_text(state.config, "the config of " + origin);
  const Changes changes = changes_since(state, saved.run, identity_);
  if (!changes.of_weights.empty() && !options_.allow_changes) {
    if (!leads_) throw Error(ExitCode::bad_input, "");  // the first rank finds the same, and says it
    std::string all;
    for (const std::string& line : changes.of_weights) all += "\n  " + line;
    throw UserError("this run differs from " + in_quotes(origin) + " in what decides the weights:" + all +
                    "\nresume with the checkpoint's config and prepared data, or pass --allow-changes");
  }
  for (const std::string& line : changes.of_machine) log::info("since the checkpoint, {}", line);
  resume_data(checkpoint, saved.run);
  restore_snapshot(*engine_.device, *engine_.program, checkpoint);
  first_step_ = state.step;
  if (goes_on_in(directory_, options_.resume) && !state.lineage.run.empty()) lineage_.run = state.lineage.run;
  lineage_.parent = checkpoint.id();
  skips_.resume(counter_of(state, "skipped_total"), counter_of(state, "skipped_in_a_row"));
  const int64_t pods = engine_.program->pods();
  const auto saved_pods = state.counters.find("pods");
  if (leads_ && engine_.program->zero().keeps_pods() && saved_pods != state.counters.end() &&
      saved_pods->second != pods) {
    log::warn("{} is of {} pods and this run has {}: a pod that it lacks begins as pod 0, without a residual",
              printable(checkpoint.directory().string()), saved_pods->second, pods);
  }
  log::info("resumed step {} of {}; the data goes on at global sequence {}", state.step,
            printable(checkpoint.directory().string()), data_.next_index());
}

void Pretrain::resume_data(const CheckpointReader& checkpoint, const config::RunConfig& saved) {
  const std::string name = printable(checkpoint.directory().string());
  const bool same = same_sequences(checkpoint.state(), saved, *batches_);
  if (!same && !options_.allow_changes) {
    throw UserError("the prepared data is not what " + name +
                    " was trained on; prepare it again as it was, or pass --allow-changes");
  }
  const SkipList wanted = skip_list(config_.data());
  data_ = resumed_position(checkpoint.state(), saved, wanted, name);
  batches_->skip(data_.skips);
  resumed_sequence_ = checkpoint.state().next_sequence;
  if (!leads_) return;
  if (!same) {
    log::warn(
        "the sequences are not those that {} was trained on: the data goes on at number {} of other ones, so "
        "some text may come again and some may be left out",
        name, data_.next_index());
  }
  std::vector<SkipList::Range> kept = data_.skips.beyond(wanted);
  std::erase_if(kept, [&](const SkipList::Range& range) { return range.last <= data_.next_index(); });
  if (!kept.empty()) {
    log::warn("{} leaves out the global sequences {}, which data.skip does not have; they stay left out",
              name, to_text(kept));
  }
}

Pretrain::Issued Pretrain::issue(const StepOrder& order, const Batch& batch) {
  Issued out;
  out.step = issued_step_ = order.step;
  const Event last = engine_.program->marks().end;
  out.since = paused_.mark > last.mark ? paused_ : last;
  meter_->begin();
  engine_.program->upload(host_batch(batch), order.deal, schedule_(order.step));
  detectors_->step(order.step, host_batch(batch), order.deal);
  out.share = meter_->end();
  out.marks = engine_.program->marks();
  out.sequences = batch.sequences;
  out.taken.first = data_.next_index();
  data_.take(batch.sequences, batch.tokens);
  out.taken.last = data_.skips.index(data_.sequences - 1) + 1;
  out.tokens = data_.tokens;
  return out;
}

template <class Row>
void Pretrain::keep(const Row& row) {
  if (!leads_) return;
  // The lock is looked at every ten seconds; a look before that is not for nothing where this process was
  // stopped.
  run_directory_->confirm(std::chrono::seconds(20));
  metrics_->write(row);
}

bool Pretrain::report(const Issued& issued, int steps_ago, int signal) {
  const StepResult result = engine_.program->result(steps_ago);
  require(!result.withdrawn, "pods of one world take every step that is issued");
  skips_.see(issued.step + 1, result.skipped, issued.taken);
  const Device& device = *engine_.device;
  StepRow row;
  row.step = issued.step + 1;
  row.loss = result.loss;
  row.gradient_norm = result.gradient_norm;
  row.learning_rate = result.rate;
  row.tokens = issued.tokens;
  row.step_s = device.elapsed(issued.since, issued.marks.end).count();
  const int64_t tokens = config_.batch().tokens_per_sequence();
  row.tokens_per_s = static_cast<double>(issued.sequences * tokens) / row.step_s;
  row.mfu =
      peak_.share(model_flops_per_step(engine_.program->config(), issued.sequences, tokens) / row.step_s);
  row.saving = saver_->under_way();
  row.skipped = result.skipped;
  row.skipped_total = skips_.total();
  if (result.skipped && leads_) log::warn("step {} skipped: {}", row.step, reason_text(result.reason));
  finish_line(issued.step, row);
  if (leads_ && issued.step == first_step_) {
    for (const std::string& remark : device.remarks()) log::warn("{}", remark);
  }
  if (options_.predict && issued.step > first_step_ && issued.sequences == plan_.most()) {
    phases_.push_back(phases_of(device, issued.marks));
    if (phases_.size() > kStepsOfMedian) phases_.pop_front();
  }
  hear();
  StepShare share = issued.share;
  meter_->time(share, issued.marks.begin, issued.marks.end);
  std::vector<double> mine = to_numbers(share);
  const std::vector<double> detected = detectors_->tell(row.step, steps_ago, share.took);
  mine.insert(mine.end(), detected.begin(), detected.end());
  mine.push_back(saver_->told());
  mine.push_back(signal);
  told_.emplace(Told{row, engine_.world->exchange().begin(mine, "what the ranks say of a step")});
  return !skips_.stops();
}

void Pretrain::hear() {
  if (!told_) return;
  const std::vector<double> all = told_->answer.wait();
  StepRow row = std::move(told_->row);
  told_.reset();
  const size_t numbers = all.size() / static_cast<size_t>(engine_.world->size());
  std::vector<StepShare> shares;
  std::vector<double> detected, saves;
  const size_t mine = numbers - 2 - detectors_->told();
  for (size_t at = 0; at < all.size(); at += numbers) {
    shares.push_back(share_of(std::span(all).subspan(at, mine)));
    const auto told = std::span(all).subspan(at + mine, detectors_->told());
    detected.insert(detected.end(), told.begin(), told.end());
    saves.push_back(all[at + numbers - 2]);
    signal_ = std::max(signal_, static_cast<int>(all[at + numbers - 1]));
  }
  saver_->hear(saves);
  row.communication = summarise(shares);
  keep(row);
  detectors_->hear(row.step, detected);
  for (const StragglerWatch::Finding& found : stragglers_.look(row.communication.own_s)) {
    if (!leads_) continue;
    log::warn("step {}: {} {}: its own work takes {:.3f} s a step, its peers' {:.3f} s", row.step,
              engine_.layout->text(found.rank),
              found.recovered ? "keeps up again" : "is slower than its peers", found.own_s, found.peers_s);
  }
  if (signal_ == SignalGuard::kJobEnds) {
    throw PeerError(
        "mpirun ends this job: it was told to, or its launcher or another rank is gone; the last "
        "checkpoint loads, continue with --resume");
  }
}

bool Pretrain::report_now(const Issued& issued, int signal) {
  const bool goes_on = report(issued, 0, signal);
  hear();
  return goes_on;
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
  if (count == 0 || (validated_ && validated_->step == step)) return;
  const Objective& objective = *engine_.program->options().objective;
  const std::vector<std::string> names = objective.metrics();
  std::vector<double> sums(names.size(), 0.0);
  double loss = 0;
  int64_t targets = 0, bytes = 0;
  const int64_t at_once = engine_.program->sequences_per_round();
  for (int64_t first = 0; first < count; first += at_once) {
    const Batch batch = batches_->validation(first, std::min(at_once, count - first));
    const auto part = engine_.program->evaluate(host_batch(batch));
    loss += part.loss_sum;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += part.metric_sums[i];
    targets += part.targets;
    bytes += batch.target_bytes;
  }
  ValidationRow row;
  row.step = step;
  row.targets = targets;
  row.validation_loss = targets > 0 ? loss / static_cast<double>(targets) : std::nan("");
  for (size_t i = 0; i < names.size(); ++i) {
    row.metrics[names[i]] = targets > 0 ? sums[i] / static_cast<double>(targets) : std::nan("");
  }
  const bool likelihood = objective.is_likelihood();
  row.perplexity = likelihood ? std::exp(row.validation_loss) : std::nan("");
  row.bits_per_byte =
      likelihood && bytes > 0 ? loss / std::log(2.0) / static_cast<double>(bytes) : std::nan("");
  validated_ = row;
  keep(row);
  if (!leads_) return;
  std::printf("step: %5lld  validation_loss: %.4f", static_cast<long long>(step), row.validation_loss);
  if (likelihood) std::printf("  perplexity: %.2f  bits_per_byte: %.4f", row.perplexity, row.bits_per_byte);
  for (const auto& [name, value] : row.metrics) std::printf("  %s: %.4f", name.c_str(), value);
  std::printf("\n");
  std::fflush(stdout);
}

void Pretrain::save(int64_t step, bool last) {
  if (saver_->step() != step) detectors_->look(step);
  CheckpointState state;
  state.step = step;
  state.config = config_text_;
  state.counters = {{"skipped_total", skips_.total()}, {"skipped_in_a_row", skips_.in_a_row()}};
  if (validated_ && validated_->step == step) state.scalars[kValidationLoss] = validated_->validation_loss;
  record(data_, *batches_, state);
  store(identity_, state.texts);
  saver_->save(std::move(state), last);
}

void Pretrain::report_prediction(int64_t step, double bytes_peak) {
  const World& world = *engine_.world;
  const bool one_host = static_cast<int>(world.host_ranks().size()) == world.size();
  if (!leads_ || !options_.predict || phases_.empty() || !one_host) return;
  const auto predicted = options_.predict(config_);
  if (!predicted) return;
  Comparison comparison;
  comparison.predicted = *predicted;
  comparison.measured.time = median_phases({phases_.begin(), phases_.end()});
  comparison.measured.bytes = bytes_peak;
  comparison.steps = static_cast<int64_t>(phases_.size());
  print_comparison(std::cout, comparison);
  keep(PredictionRow{step, comparison});
}

void Pretrain::report_memory(int64_t step) {
  const Statistics& used = engine_.device->statistics();
  const Statistics predicted =
      predict_memory(config_, *engine_.world, engine_.device->traits().threads, plugins_).memory;
  const auto ranks = exchange_memory(*engine_.world, predicted, used);
  if (leads_) print_memory(std::cout, predicted, used, ranks, engine_.world->rank());
  double most = 0;
  for (const MemoryUse& rank : ranks) most = std::max(most, rank.used);
  report_prediction(step, most);
}

ExitCode Pretrain::run_steps(const SignalGuard& signals, StepOrder& order) {
  const int64_t steps = config_.train().steps();
  Loader loader(
      *batches_, data_.sequences, [this](int64_t batch) { return plan_.sequences(first_step_ + batch); },
      steps - first_step_, std::max(1, static_cast<int>(config_.data().threads())));
  const auto orders = options_.orders(config_, engine_.program->dealer(), first_step_);
  ExitCode code = ExitCode::done;
  // Results are read one step late, so that a device is never waited for while it could work, and what the
  // ranks tell each other of them one more; where a checkpoint or a validation follows, at once.
  std::optional<Issued> unread;
  order = orders->next(signal_);
  for (;; order = orders->next(signal_)) {
    if (order.step == steps) engine_.program->meet_pods();
    const bool stop = order.stop || code != ExitCode::done;
    if (unread && (order.validate || order.save || stop)) {
      if (!report_now(*unread, signals.received())) code = ExitCode::too_many_skips;
      unread.reset();
    }
    if (order.validate && code == ExitCode::done) validate(order.step);
    if (order.save && code == ExitCode::done) save(order.step, stop);
    if (stop || code != ExitCode::done) break;
    if (!unread) paused_ = engine_.device->record(Queue::compute);

    faults_->before_step(order.step + 1, *engine_.device, engine_.program->zero());
    if (tracer_) tracer_->begin_step(order.step + 1);
    const Batch batch = loader.next();
    require(batch.sequences == order.sequences, "an order is of the batch that the plan has for its step");
    const Issued issued = issue(order, batch);
    if (unread && !report(*unread, 1, signals.received())) code = ExitCode::too_many_skips;
    unread = issued;
    if (tracer_ && tracer_->end_step()) {  // which took its time, and is no step's
      if (!report_now(*unread, signals.received())) code = ExitCode::too_many_skips;
      unread.reset();
    }
  }
  saver_->finish();
  return code;
}

ExitCode Pretrain::run() {
  const SignalGuard signals;
  start();
  engine_.world->learn_deadlines(Seconds(config_.train().deadline_floor_s()));
  const int64_t steps = config_.train().steps();
  if (first_step_ >= steps) {
    log::info("the run has its {} steps already", steps);
    return ExitCode::done;
  }
  StepOrder order;
  ExitCode code = run_steps(signals, order);
  for (int64_t back = 0;
       code == ExitCode::too_many_skips && back < config_.optim().skip().roll_backs() && go_back(); ++back) {
    code = run_steps(signals, order);
  }
  if (code == ExitCode::done && order.step < steps) {
    const std::string why = signal_ != 0 ? "signal " + std::to_string(signal_) + " received" : "told to stop";
    if (saver_->step() == order.step) {
      log::warn("{}: saved step {}, leaving; continue with --resume {}", why, order.step,
                printable(directory_.string()));
      code = ExitCode::saved_on_signal;
    } else {
      log::warn("{}: leaving after step {}, which was not to be saved", why, order.step);
    }
  }
  if (code == ExitCode::too_many_skips && leads_) {
    log::error("{}", skips_.reason(saver_->step(), saver_->next_sequence()));
  }
  if (tracer_) tracer_->close();
  report_memory(order.step);
  if (const std::string costs = detectors_->costs(); !costs.empty()) {
    log::info("detectors, of the steps' processor time on this rank: {}", costs);
  }
  if (!saver_->wait()) throw SystemError("the last checkpoint did not read back as it was written");
  return code;
}

void Pretrain::record_corruption(const CorruptionError& error) {
  if (told_) keep(told_->row);  // the others are not waited for any more
  // What ranks found together has been written by one of them.
  if (error.finding().detector == "wire") detectors_->record(issued_step_, error.finding());
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
  Pretrain pretrain(options, plugins);
  try {
    return pretrain.run();
  } catch (const CorruptionError& error) {
    pretrain.record_corruption(error);
    throw;
  }
}

}  // namespace toroid::train
