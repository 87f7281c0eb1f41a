// A sweep as a table and as CSV.
#include <fmt/core.h>

#include <algorithm>
#include <ostream>
#include <set>
#include <string>

#include "core/base/text.h"
#include "simulate/answer/sweep.h"

namespace toroid::train {
namespace {

struct Figure {
  const char* column;  // of the CSV file
  std::string (*text)(const Answer& answer);
};

std::string exact(double value) {
  return fmt::format("{:.9g}", value);
}

std::string exact_share(double share) {
  return is_share(share) ? exact(share) : "";
}

const std::vector<Figure>& figures() {
  static const std::vector<Figure> all = {
      {"chips", [](const Answer& a) { return std::to_string(a.chips); }},
      {"tokens_per_step", [](const Answer& a) { return std::to_string(a.tokens_per_step); }},
      {"simulated_step_s", [](const Answer& a) { return exact(a.step.count()); }},
      {"products_s", [](const Answer& a) { return exact(a.split.products.count()); }},
      {"vector_bound_s", [](const Answer& a) { return exact(a.split.vector_bound.count()); }},
      {"memory_bound_s", [](const Answer& a) { return exact(a.split.memory_bound.count()); }},
      {"torus_s", [](const Answer& a) { return exact(a.split.torus.count()); }},
      {"pods_s", [](const Answer& a) { return exact(a.split.pods.count()); }},
      {"dispatch_s", [](const Answer& a) { return exact(a.split.dispatch.count()); }},
      {"bubbles_s", [](const Answer& a) { return exact(a.split.bubbles.count()); }},
      {"simulated_tokens_per_s", [](const Answer& a) { return exact(a.tokens_per_s); }},
      {"simulated_tokens_per_s_chip", [](const Answer& a) { return exact(a.tokens_per_s_chip()); }},
      {"simulated_mfu_causal", [](const Answer& a) { return exact_share(a.mfu_causal); }},
      {"simulated_mfu_full_attention", [](const Answer& a) { return exact_share(a.mfu_full_attention); }},
      {"simulated_hfu", [](const Answer& a) { return exact_share(a.hfu); }},
      {"memory_bytes", [](const Answer& a) { return std::to_string(a.memory.peak_bytes); }},
      {"chip_memory_bytes", [](const Answer& a) { return std::to_string(a.memory.chip_bytes); }},
  };
  return all;
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::string sweep_csv(const Sweep& sweep) {
  std::string out;
  for (const SweepAxis& axis : sweep.axes) out += quoted(axis.path) + ",";
  out += "global_sequences";
  for (const Figure& figure : figures()) out += std::string(",") + figure.column;
  out += ",limit,refused\n";
  for (const SweepRow& row : sweep.rows) {
    for (const std::string& value : row.values) out += quoted(value) + ",";
    if (row.global_sequences > 0) out += std::to_string(row.global_sequences);
    for (const Figure& figure : figures()) out += "," + (row.answer ? figure.text(*row.answer) : "");
    out += "," + (row.answer ? quoted(row.answer->limit) : "") + "," + quoted(row.refusal) + "\n";
  }
  return out;
}

void print_sweep(std::ostream& out, const Sweep& sweep) {
  std::vector<size_t> widths;
  for (size_t a = 0; a < sweep.axes.size(); ++a) {
    size_t width = printable(sweep.axes[a].path).size();
    for (const std::string& value : sweep.axes[a].values)
      width = std::max(width, printable(shown_value(sweep.axes[a], value)).size());
    widths.push_back(width);
  }
  const auto cell = [&](size_t a, const std::string& text) {
    const std::string shown = printable(text);
    return shown + std::string(widths[a] - std::min(widths[a], shown.size()) + 2, ' ');
  };
  out << "simulated" << (sweep.weak ? ", weak scaling: batch.global_sequences grows with the replicas" : "")
      << "; seconds of a step, and what they go to (others: operators that vector units or memory bound)\n\n";
  for (size_t a = 0; a < sweep.axes.size(); ++a) out << cell(a, sweep.axes[a].path);
  out << "  chips sequences     step  products   others    torus     pods     rest    tokens/s  a chip "
         "MFU causal       HBM\n";
  size_t refused = 0;
  for (const SweepRow& row : sweep.rows) {
    for (size_t a = 0; a < row.values.size(); ++a) out << cell(a, shown_value(sweep.axes[a], row.values[a]));
    if (!row.answer) {
      ++refused;
      out << "  refused: " << printable(row.refusal, 500) << "\n";
      continue;
    }
    const Answer& a = *row.answer;
    out << fmt::format(
        "{:7} {:9} {:8.3f}  {:8.3f} {:8.3f} {:8.3f} {:8.3f} {:8.3f} {:>11} {:7.0f} {:>10} {:>9}\n", a.chips,
        row.global_sequences, a.step.count(), a.split.products.count(), a.split.other_operators().count(),
        a.split.torus.count(), a.split.pods.count(), a.split.rest().count(),
        with_commas(static_cast<int64_t>(a.tokens_per_s)), a.tokens_per_s_chip(), share_text(a.mfu_causal, 1),
        human_bytes(a.memory.peak_bytes));
  }
  const bool ramps = std::any_of(sweep.rows.begin(), sweep.rows.end(),
                                 [](const SweepRow& row) { return row.answer && !row.answer->ramp.empty(); });
  if (ramps) out << "\nof a config with batch.ramp, a step of the last phase is played\n";
  std::set<std::string> nominal;
  for (const SweepRow& row : sweep.rows) {
    if (row.answer && row.answer->constants == "nominal") nominal.insert(row.answer->chip);
  }
  std::string chips;
  for (const std::string& chip : nominal) chips += (chips.empty() ? "" : ", ") + chip;
  if (!chips.empty()) out << "\nconstants of " << chips << " are nominal, not validated\n";
  out << fmt::format("\n{} configurations in {:.1f} s", sweep.rows.size(), sweep.took.count());
  if (refused > 0) out << ", " << refused << " refused";
  out << "\n";
}

}  // namespace toroid::train
