#include "simulate/draw/validation.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "simulate/draw/svg.h"

namespace toroid::train {
namespace {

constexpr double kWide = 1000, kEdge = 60, kBetween = 70, kTop = 64, kHigh = 340, kBottom = kTop + kHigh;
constexpr double kPanel = (kWide - kEdge - kBetween - 24) / 2;

struct Model {
  std::string name;
  std::vector<RunError> runs;
};

std::vector<Model> models_of(const config::Calibration& calibration, const Residuals& residuals) {
  std::vector<Model> out;
  size_t at = 0;
  for (const auto& training : calibration.training()) {
    Model model{printable(training.name()), {}};
    for (int i = 0; i < training.run_size(); ++i) model.runs.push_back(residuals.runs.at(at++));
    if (training.weight() > 0) out.push_back(std::move(model));
  }
  return out;
}

// `error` and `null_error` say which of a run's errors the panel is of: simulated / published - 1.
void mfu_panel(Svg& svg, double left, const std::vector<Model>& models, const std::string& title,
               double RunError::*error, double RunError::*null_error) {
  double least = 100, most = 0;
  int64_t pods = 2;
  const auto simulated = [&](const RunError& run) { return 100 * run.published_mfu * (1 + run.*error); };
  const auto null = [&](const RunError& run) { return 100 * run.published_mfu * (1 + run.*null_error); };
  for (const Model& model : models) {
    for (const RunError& run : model.runs) {
      least = std::min({least, 100 * run.published_mfu, simulated(run), null(run)});
      most = std::max({most, 100 * run.published_mfu, simulated(run), null(run)});
      pods = std::max(pods, run.pods);
    }
  }
  const double right = left + kPanel;
  const Scale x = Scale::logarithmic(1, static_cast<double>(pods), left + 10, right - 10),
              y = Scale::linear_between(least, most, kBottom, kTop);
  svg.text(left, kTop - 14, title, {13, "start", "#111", true});
  for (const double tick : y.ticks()) {
    svg.line(left, y.at(tick), right, y.at(tick), "#e4e4e4");
    svg.text(left - 7, y.at(tick) + 4, short_number(tick) + " %", {12, "end"});
  }
  for (int64_t tick = 1; tick <= pods; tick *= 2) {
    const double at = x.at(static_cast<double>(tick));
    svg.line(at, kBottom, at, kBottom + 4, "#333");
    svg.text(at, kBottom + 18, std::to_string(tick), {12, "middle"});
  }
  svg.text((left + right) / 2, kBottom + 38, "pods of 256 chips", {12, "middle"});
  svg.line(left, kTop, left, kBottom, "#333");
  svg.line(left, kBottom, right, kBottom, "#333");
  for (size_t m = 0; m < models.size(); ++m) {
    const char* const color = kLineColors[m % kLineColors.size()];
    std::vector<std::pair<double, double>> line, dashed;
    for (const RunError& run : models[m].runs) {
      const double at = x.at(static_cast<double>(run.pods));
      line.emplace_back(at, y.at(simulated(run)));
      dashed.emplace_back(at, y.at(null(run)));
    }
    svg.path(line, color, 2);
    svg.path(dashed, color, 1, true);
    for (const RunError& run : models[m].runs) {
      svg.dot(x.at(static_cast<double>(run.pods)), y.at(100 * run.published_mfu), 4, color,
              fmt::format("{} on {} pods: published {:.2f} %, simulated {:.2f} %, null model {:.2f} %",
                          models[m].name, run.pods, 100 * run.published_mfu, simulated(run), null(run)));
    }
  }
}

}  // namespace

std::string validation_svg(const config::Calibration& calibration, const Residuals& residuals) {
  require(residuals.left_out, "the picture shows models left out");
  const std::vector<Model> models = models_of(calibration, residuals);
  Svg svg(kWide, kBottom + 84);
  svg.text(14, 26, "MFU of published runs: dots published, lines simulated, dashed the null model",
           {18, "start", "#111", true});
  mfu_panel(svg, kEdge, models, "constants fitted on all", &RunError::error, &RunError::null_error);
  mfu_panel(svg, kEdge + kPanel + kBetween, models, "constants fitted without the model",
            &RunError::left_out_error, &RunError::null_left_out);
  double at = kEdge;
  for (size_t m = 0; m < models.size(); ++m) {
    const char* const color = kLineColors[m % kLineColors.size()];
    svg.line(at, kBottom + 62, at + 18, kBottom + 62, color, 2);
    svg.dot(at + 9, kBottom + 62, 4, color);
    svg.text(at + 26, kBottom + 66, models[m].name, {12});
    at += 40 + 8.0 * static_cast<double>(models[m].name.size());
  }
  return svg.whole();
}

}  // namespace toroid::train
