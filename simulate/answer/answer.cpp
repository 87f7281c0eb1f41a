#include "simulate/answer/answer.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/base/text.h"
#include "core/model/decoder_config.h"
#include "train/config/batch_plan.h"
#include "train/report/model_flops.h"

namespace toroid::train {
namespace {

double peak_of(const config::RunConfig& run, const sim::Chip& chip) {
  const DType type = run.train().precision() == config::TrainConfig::FP32 ? DType::f32 : DType::bf16;
  const auto found = chip.peak_flops_per_s.find(type);
  return found == chip.peak_flops_per_s.end() ? 0 : found->second;
}

double product_flops(const SimulatedRole& role) {
  double flops = 0;
  role.records().each([&flops](const Record& record) {
    for (const Product& product : record.cost.products) flops += static_cast<double>(product.flops());
  });
  return flops;
}

TimeSplit split_of(const sim::Played& played) {
  const auto waited = [&](Queue queue) { return played.waited[static_cast<size_t>(queue)]; };
  TimeSplit out;
  out.products = played.products;
  out.vector_bound = played.vector_bound;
  out.memory_bound = played.memory_bound;
  out.torus = waited(Queue::gather) + waited(Queue::reduce) + waited(Queue::model);
  out.pods = waited(Queue::pod);
  out.bubbles = std::max(Seconds(0), played.step - out.total());
  return out;
}

std::vector<LinkAnswer> links_of(const sim::Played& played) {
  std::vector<LinkAnswer> out;
  for (int link = 0; link < sim::kLinks; ++link) {
    const auto at = static_cast<size_t>(link);
    if (played.link_bytes[at] == 0) continue;
    out.push_back(
        {sim::link_name(link), played.link_bytes[at], played.link_seconds[at] / played.step.count()});
  }
  return out;
}

// What takes the most of the step.
std::string limit_of(const Answer& answer) {
  const double step = answer.step.count();
  const struct {
    Seconds time;
    const char* what;
  } parts[] = {
      {answer.split.products, "the chips' products"},
      {answer.split.vector_bound, "operators of the vector units"},
      {answer.split.memory_bound, "operators that wait for the chips' memory"},
      {answer.split.torus, "waiting for collectives within a pod"},
      {answer.split.pods, "waiting for collectives between pods"},
      {answer.split.dispatch, "waiting for the controller"},
      {answer.split.bubbles, "what is neither work nor a known wait"},
  };
  const auto* const most =
      std::max_element(std::begin(parts), std::end(parts), [](auto& a, auto& b) { return a.time < b.time; });
  std::string out = fmt::format("{:.0f} % of a step is {}", 100 * most->time.count() / step, most->what);
  if (most->what == parts[3].what && !answer.links.empty()) {
    const auto link = std::max_element(answer.links.begin(), answer.links.end(),
                                       [](auto& a, auto& b) { return a.utilisation < b.utilisation; });
    out += fmt::format("; the busiest link, {}, carries bytes for {:.0f} % of it", link->name,
                       100 * link->utilisation);
  }
  return out;
}

Seconds dispatch_time(const config::RunConfig& run, const sim::Chip& chip, Seconds played,
                      const AnswerOptions& options) {
  const int64_t hosts = (run.mesh().data() * run.mesh().model() + chip.host.chips - 1) / chip.host.chips;
  // Ranks of computers and of switches start their own steps.
  const Dispatch dispatch = chip.measured || chip.topology.is_switch
                                ? Dispatch::none
                                : options.dispatch.value_or(schedule_of(run).dispatch);
  return exposed_dispatch(dispatch, hosts, played);
}

}  // namespace

MemoryAnswer memory_of(const SimulatedRole& role, const sim::Chip& chip) {
  MemoryAnswer out;
  out.peak_bytes = role.placed_bytes;
  out.chip_bytes = chip.memory_bytes;
  for (const auto& [holder, bytes] : role.memory.peak_by_holder) {
    if (bytes > 0) out.by_holder[holder] = bytes;
  }
  if (const int64_t gaps = role.placed_bytes - role.memory.bytes_peak; gaps > 0)
    out.by_holder["gaps between blocks"] = gaps;
  for (const auto& [phase, bytes] : role.peak_by_phase) out.by_phase[name_of(phase).data()] = bytes;
  return out;
}

Seconds TimeSplit::rest() const {
  const Seconds both = dispatch + bubbles;
  return both > Seconds(-5e-7) && both < Seconds(5e-7) ? Seconds(0) : both;
}

std::string Answer::constants_text() const {
  return constants + " constants" + (constants == "nominal" ? ", not validated" : "");
}

std::string share_text(double part, int decimals) {
  return is_share(part) ? fmt::format("{:.{}f} %", 100 * part, decimals) : "-";
}

Seconds step_time(const config::RunConfig& run, const sim::Chip& chip, Seconds played,
                  const AnswerOptions& options) {
  return played + dispatch_time(run, chip, played, options);
}

Answer answer(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation,
              const AnswerOptions& options) {
  const DecoderConfig decoder = decoder_config(run.model());
  const int64_t sequences = run.batch().global_sequences(), tokens = run.batch().tokens_per_sequence();
  Answer out;
  out.chip = chip.name;
  out.schedule = schedule_of(run).name;
  out.constants = chip.measured ? "measured" : chip.fitted ? "fitted" : "nominal";
  out.pods = run.mesh().pods();
  out.chips = out.pods * run.mesh().data() * run.mesh().model();
  out.roles = static_cast<int64_t>(simulation.roles.size());
  out.tokens_per_step = sequences * tokens;
  const BatchPlan plan(run.batch());
  if (plan.ramps()) out.ramp = to_text(plan);
  out.split = split_of(simulation.played);
  out.split.dispatch = dispatch_time(run, chip, simulation.played.step, options);
  out.step = simulation.played.step + out.split.dispatch;
  const double step = out.step.count(), chips = static_cast<double>(out.chips);
  const double possible = chips * peak_of(run, chip) * step;
  out.mfu_causal = model_flops_per_step(decoder, sequences, tokens) / possible;
  out.mfu_full_attention = model_flops_full_attention(decoder, sequences, tokens) / possible;
  out.hfu = product_flops(simulation.roles[0]) * chips / possible;
  out.tokens_per_s = static_cast<double>(out.tokens_per_step) / step;
  out.memory = memory_of(simulation.roles[simulation.fullest], chip);
  out.links = links_of(simulation.played);
  out.goal_tokens = options.goal_tokens > 0 ? options.goal_tokens
                                            : static_cast<double>(plan.taken_before(run.train().steps())) *
                                                  static_cast<double>(tokens);
  out.time_to_goal = Seconds(out.goal_tokens / out.tokens_per_s);
  const double busy = (out.split.products + out.split.vector_bound + out.split.memory_bound).count() / step;
  const double watts = chip.idle_watts + busy * (chip.busy_watts - chip.idle_watts);
  out.energy_joules = chips * watts * out.time_to_goal.count();
  out.cost_dollars = chips * chip.price_per_hour * out.time_to_goal.count() / 3600;
  out.limit = limit_of(out);
  return out;
}

}  // namespace toroid::train
