#include "train/simulate/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <vector>

#include "core/base/format_text.h"
#include "core/base/text.h"

namespace toroid::train {
namespace {

void print_split(std::ostream& out, const Answer& answer) {
  const TimeSplit& split = answer.split;
  const std::pair<const char*, Seconds> rows[] = {
      {"products", split.products},          {"memory-bound operators", split.memory_bound},
      {"exposed within a pod", split.torus}, {"exposed between pods", split.pods},
      {"dispatch", split.dispatch},          {"bubbles", split.bubbles}};
  out << format_text("step                        %12.2f ms\n", answer.step.count() * 1e3);
  for (const auto& [name, time] : rows) {
    out << format_text("  %-25s %12.2f ms %6.1f %%\n", name, time.count() * 1e3, 100 * (time / answer.step));
  }
}

void print_memory(std::ostream& out, const MemoryAnswer& memory) {
  out << format_text("memory of a chip            %12s of %s\n", human_bytes(memory.peak_bytes).c_str(),
                     human_bytes(memory.chip_bytes).c_str());
  std::vector<std::pair<int64_t, std::string>> holders;
  for (const auto& [holder, bytes] : memory.by_holder) holders.emplace_back(bytes, holder);
  std::sort(holders.rbegin(), holders.rend());
  for (const auto& [bytes, holder] : holders)
    out << format_text("  %-25s %12s\n", holder.c_str(), human_bytes(bytes).c_str());
  for (const auto& [phase, bytes] : memory.by_phase)
    out << format_text("  peak in %-17s %12s\n", phase.c_str(), human_bytes(bytes).c_str());
}

std::string duration(Seconds time) {
  const double days = time.count() / 86400;
  if (days >= 1) return format_text("%.1f days", days);
  return format_text("%.1f hours", time.count() / 3600);
}

}  // namespace

void print_answer(std::ostream& out, const Answer& answer) {
  out << format_text("simulated: %s chips of %s in %s pods, %s constants, %lld roles\n",
                     with_commas(answer.chips).c_str(), answer.chip.c_str(), with_commas(answer.pods).c_str(),
                     answer.constants.c_str(), static_cast<long long>(answer.roles));
  if (!answer.ramp.empty()) out << "batch.ramp: " << answer.ramp << "; a step of the last phase is played\n";
  print_split(out, answer);
  out << format_text("MFU                         %14s causal, %s full attention; HFU %s\n",
                     share_text(answer.mfu_causal).c_str(), share_text(answer.mfu_full_attention).c_str(),
                     share_text(answer.hfu).c_str());
  out << format_text("tokens                      %12s a step, %.4g a second, %.4g a second and chip\n",
                     with_commas(answer.tokens_per_step).c_str(), answer.tokens_per_s,
                     answer.tokens_per_s_chip());
  print_memory(out, answer.memory);
  if (!answer.links.empty()) out << "links                      sent by a chip   in use\n";
  for (const LinkAnswer& link : answer.links) {
    out << format_text("  %-25s %12s %6.1f %%\n", link.name.c_str(),
                       human_bytes(static_cast<int64_t>(link.bytes)).c_str(), 100 * link.utilisation);
  }
  out << format_text("to %.3g tokens          %16s", answer.goal_tokens,
                     duration(answer.time_to_goal).c_str());
  if (answer.energy_joules > 0) out << format_text(", %.4g MWh", answer.energy_joules / 3.6e9);
  if (answer.cost_dollars > 0) out << format_text(", %.3g dollars", answer.cost_dollars);
  out << "\nlimit: " << answer.limit << "\n";
  if (!answer.remedy.empty()) out << "would help: " << answer.remedy << "\n";
}

std::string to_json(const Answer& answer) {
  nlohmann::json out;
  out["simulated"] = true;
  out["chip"] = answer.chip;
  out["constants"] = answer.constants;
  out["chips"] = answer.chips;
  out["pods"] = answer.pods;
  out["roles"] = answer.roles;
  out["tokens_per_step"] = answer.tokens_per_step;
  if (!answer.ramp.empty()) out["batch_ramp"] = {{"phases", answer.ramp}, {"played", "last"}};
  out["step_s"] = answer.step.count();
  out["split_s"] = {
      {"products", answer.split.products.count()}, {"memory_bound", answer.split.memory_bound.count()},
      {"exposed_ici", answer.split.torus.count()}, {"exposed_dcn", answer.split.pods.count()},
      {"dispatch", answer.split.dispatch.count()}, {"bubbles", answer.split.bubbles.count()}};
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
