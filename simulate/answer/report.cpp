#include "simulate/answer/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <vector>

#include "core/base/text.h"

namespace toroid::train {
namespace {

void print_split(std::ostream& out, const Answer& answer) {
  const TimeSplit& split = answer.split;
  const std::pair<const char*, Seconds> rows[] = {{"products", split.products},
                                                  {"vector-bound operators", split.vector_bound},
                                                  {"memory-bound operators", split.memory_bound},
                                                  {"exposed within a pod", split.torus},
                                                  {"exposed between pods", split.pods},
                                                  {"dispatch", split.dispatch},
                                                  {"bubbles", split.bubbles}};
  out << fmt::format("step                        {:12.2f} ms\n", answer.step.count() * 1e3);
  for (const auto& [name, time] : rows) {
    out << fmt::format("  {:<25} {:12.2f} ms {:6.1f} %\n", name, time.count() * 1e3,
                       100 * (time / answer.step));
  }
}

void print_memory(std::ostream& out, const MemoryAnswer& memory) {
  out << fmt::format("memory of a chip            {:>12} of {}\n", human_bytes(memory.peak_bytes),
                     human_bytes(memory.chip_bytes));
  std::vector<std::pair<int64_t, std::string>> holders;
  for (const auto& [holder, bytes] : memory.by_holder) holders.emplace_back(bytes, holder);
  std::sort(holders.rbegin(), holders.rend());
  for (const auto& [bytes, holder] : holders)
    out << fmt::format("  {:<25} {:>12}\n", holder, human_bytes(bytes));
  for (const auto& [phase, bytes] : memory.by_phase)
    out << fmt::format("  peak in {:<17} {:>12}\n", phase, human_bytes(bytes));
}

std::string duration(Seconds time) {
  const double days = time.count() / 86400;
  if (days >= 1) return fmt::format("{:.1f} days", days);
  return fmt::format("{:.1f} hours", time.count() / 3600);
}

}  // namespace

void print_answer(std::ostream& out, const Answer& answer) {
  out << fmt::format("simulated: {} chips of {} in {} pods, {}, schedule {}, {} roles\n",
                     with_commas(answer.chips), answer.chip, with_commas(answer.pods),
                     answer.constants_text(), answer.schedule, answer.roles);
  if (!answer.ramp.empty()) out << "batch.ramp: " << answer.ramp << "; a step of the last phase is played\n";
  print_split(out, answer);
  out << fmt::format("MFU                         {:>14} causal, {} full attention; HFU {}\n",
                     share_text(answer.mfu_causal), share_text(answer.mfu_full_attention),
                     share_text(answer.hfu));
  out << fmt::format("tokens                      {:>12} a step, {:.4g} a second, {:.4g} a second and chip\n",
                     with_commas(answer.tokens_per_step), answer.tokens_per_s, answer.tokens_per_s_chip());
  print_memory(out, answer.memory);
  if (!answer.links.empty()) out << "links                      sent by a chip   in use\n";
  for (const LinkAnswer& link : answer.links) {
    out << fmt::format("  {:<25} {:>12} {:6.1f} %\n", link.name,
                       human_bytes(static_cast<int64_t>(link.bytes)), 100 * link.utilisation);
  }
  out << fmt::format("to {:.3g} tokens          {:>16}", answer.goal_tokens, duration(answer.time_to_goal));
  if (answer.energy_joules > 0) out << fmt::format(", {:.4g} MWh", answer.energy_joules / 3.6e9);
  if (answer.cost_dollars > 0) out << fmt::format(", {:.3g} dollars", answer.cost_dollars);
  out << "\nlimit: " << answer.limit << "\n";
  if (!answer.remedy.empty()) out << "would help: " << answer.remedy << "\n";
}

std::string to_json(const Answer& answer) {
  nlohmann::json out;
  out["simulated"] = true;
  out["chip"] = answer.chip;
  out["constants"] = answer.constants;
  out["schedule"] = answer.schedule;
  out["chips"] = answer.chips;
  out["pods"] = answer.pods;
  out["roles"] = answer.roles;
  out["tokens_per_step"] = answer.tokens_per_step;
  if (!answer.ramp.empty()) out["batch_ramp"] = {{"phases", answer.ramp}, {"played", "last"}};
  out["step_s"] = answer.step.count();
  out["split_s"] = {{"products", answer.split.products.count()},
                    {"vector_bound", answer.split.vector_bound.count()},
                    {"memory_bound", answer.split.memory_bound.count()},
                    {"exposed_ici", answer.split.torus.count()},
                    {"exposed_dcn", answer.split.pods.count()},
                    {"dispatch", answer.split.dispatch.count()},
                    {"bubbles", answer.split.bubbles.count()}};
  const auto share = [](double part) { return is_share(part) ? nlohmann::json(part) : nlohmann::json(); };
  out["mfu"] = {{"causal", share(answer.mfu_causal)}, {"full_attention", share(answer.mfu_full_attention)}};
  out["hfu"] = share(answer.hfu);
  out["tokens_per_s"] = answer.tokens_per_s;
  out["tokens_per_s_chip"] = answer.tokens_per_s_chip();
  out["memory"] = {{"peak_bytes", answer.memory.peak_bytes},
                   {"chip_bytes", answer.memory.chip_bytes},
                   {"fits", answer.memory.fits()},
                   {"by_holder", answer.memory.by_holder},
                   {"by_phase", answer.memory.by_phase}};
  out["links"] = nlohmann::json::array();
  for (const LinkAnswer& link : answer.links)
    out["links"].push_back({{"name", link.name}, {"bytes", link.bytes}, {"utilisation", link.utilisation}});
  out["goal"] = {{"tokens", answer.goal_tokens},
                 {"seconds", answer.time_to_goal.count()},
                 {"joules", answer.energy_joules},
                 {"dollars", answer.cost_dollars}};
  out["limit"] = answer.limit;
  out["remedy"] = answer.remedy;
  return out.dump(2);
}

}  // namespace toroid::train
