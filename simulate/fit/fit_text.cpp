#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "core/base/range.h"
#include "core/base/text.h"
#include "simulate/fit/fit.h"

namespace toroid::train {
namespace {

using Row = std::vector<std::string>;

// The first row is the head.
std::string table(const std::vector<Row>& rows, bool markdown) {
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      if (markdown) {
        line += "| " + rows[r][i] + " ";
      } else {
        line += (i == 0 ? "" : "  ") + rows[r][i] + std::string(widths[i] - rows[r][i].size(), ' ');
      }
    }
    if (markdown) line += "|";
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (markdown && r == 0) {
      for (size_t i = 0; i < widths.size(); ++i) out += "|---";
      out += "|\n";
    }
  }
  return out + "\n";
}

std::string percent(double share) {
  return fmt::format("{:+.1f} %", 100 * share);
}

std::string counted_attention(config::Calibration::Flops convention) {
  switch (convention) {
    case config::Calibration::CAUSAL:
      return "causal";
    case config::Calibration::PARAMETERS:
      return "none";
    default:
      return "in full";
  }
}

bool exceeds(double share, double percent) {
  return percent > 0 && std::abs(share) * 100 > percent;
}

}  // namespace

std::string to_text(const config::Calibration& calibration, const Residuals& residuals, bool markdown) {
  std::vector<Row> constants{{"constant", "of", "value", "unit", "fitted on", "what"}};
  for (const auto& constant : calibration.constant()) {
    Row row{printable(constant.name()),
            printable(constant.of()),
            fmt::format("{:.5g}", constant.value()),
            printable(constant.unit()),
            "",
            printable(constant.meaning())};
    for (const std::string& points : constant.fitted_on())
      row[4] += (row[4].empty() ? "" : ", ") + printable(points);
    if (row[4].empty()) row[4] = "given";
    constants.push_back(row);
  }
  Row head{"model", "pods",           "attention counted",           "published MFU", "simulated MFU",
           "error", "simulated step", "error of step(pods)/step(1)", "null model"};
  if (residuals.left_out) {
    head.push_back("error, model left out");
    head.push_back("null model, left out");
  }
  std::vector<Row> runs{head}, checks{{"model", "attention counted", "published MFU", "simulated MFU",
                                       "error", "simulated step", "simulated memory"}};
  size_t at = 0;
  for (const auto& training : calibration.training()) {
    for (int i = 0; i < training.run_size(); ++i) {
      const RunError& run = residuals.runs[at++];
      const std::string counted = counted_attention(training.flops());
      if (training.weight() == 0) {
        checks.push_back({printable(run.model), counted, fmt::format("{:.2f} %", 100 * run.published_mfu),
                          fmt::format("{:.2f} %", 100 * run.mfu), percent(run.error),
                          fmt::format("{:.3f} s", run.step.count()), human_bytes(run.peak_bytes)});
        continue;
      }
      runs.push_back({printable(run.model), std::to_string(run.pods), counted,
                      fmt::format("{:.2f} %", 100 * run.published_mfu),
                      fmt::format("{:.2f} %", 100 * run.mfu), percent(run.error),
                      fmt::format("{:.3f} s", run.step.count()), percent(run.ratio_error),
                      percent(run.null_error)});
      if (residuals.left_out) {
        runs.back().push_back(percent(run.left_out_error));
        runs.back().push_back(percent(run.null_left_out));
      }
    }
  }
  std::vector<Row> collectives{{"collective", "measured", "simulated", "error"}};
  for (const CollectiveError& each : residuals.collectives) {
    collectives.push_back({printable(each.name), fmt::format("{:.1f} us", 1e6 * each.measured.count()),
                           fmt::format("{:.1f} us", 1e6 * each.simulated.count()), percent(each.error)});
  }
  std::string out = table(constants, markdown) + table(runs, markdown);
  out += fmt::format("Root mean square of the errors in MFU: {:.2f} %, of the null model {:.2f} %",
                     100 * residuals.rms, 100 * residuals.null_rms);
  if (residuals.left_out) {
    out += fmt::format("; with the model left out {:.2f} %, of the null model {:.2f} %",
                       100 * residuals.left_out_rms, 100 * residuals.null_left_out_rms);
  }
  out += "\n\n";
  if (collectives.size() > 1) out += table(collectives, markdown);
  if (checks.size() > 1) out += "Not fitted on:\n\n" + table(checks, markdown);
  return out;
}

std::vector<std::string> broken_bounds(const config::Calibration& calibration, const Residuals& residuals) {
  std::vector<std::string> out;
  size_t at = 0;
  for (const auto& training : calibration.training()) {
    for (int i = 0; i < training.run_size(); ++i) {
      const RunError& run = residuals.runs[at++];
      const auto note = [&](const char* what, double share, double most) {
        if (!exceeds(share, most)) return;
        out.push_back(printable(run.model) + " on " + std::to_string(run.pods) + " pods: " + what + " is " +
                      percent(share) + ", more than " + number(most) + " %");
      };
      note("the error in MFU", run.error, training.most_error_percent());
      note("the error in step(pods) / step(1 pod)", run.ratio_error, training.most_ratio_percent());
      if (residuals.left_out)
        note("the error in MFU, fitted without the model,", run.left_out_error,
             training.most_left_out_percent());
    }
  }
  for (size_t i = 0; i < residuals.collectives.size(); ++i) {
    const double most = calibration.collective(static_cast<int>(i)).most_error_percent();
    const CollectiveError& each = residuals.collectives[i];
    if (exceeds(each.error, most))
      out.push_back(printable(each.name) + ": the error is " + percent(each.error) + ", more than " +
                    number(most) + " %");
  }
  if (exceeds(residuals.rms, calibration.most_rms_percent()))
    out.push_back("the root mean square error is " + percent(residuals.rms) + ", more than " +
                  number(calibration.most_rms_percent()) + " %");
  if (residuals.left_out && residuals.left_out_rms >= residuals.null_left_out_rms)
    out.push_back("the root mean square error of models left out is " + percent(residuals.left_out_rms) +
                  ", no less than the null model's " + percent(residuals.null_left_out_rms));
  return out;
}

}  // namespace toroid::train
