#include "simulate/draw/loss_curves.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "core/base/text.h"
#include "simulate/draw/svg.h"

namespace toroid::train {
namespace {

static_assert(kMostCurves <= kLineColors.size());

constexpr int64_t kMostMetricsBytes = int64_t{1} << 30;
constexpr double kPictureWidth = 1000, kPlotLeft = 66, kPlotGap = 76, kPlotTop = 60, kPlotHeight = 330,
                 kPlotBottom = kPlotTop + kPlotHeight;
constexpr double kPlotWidth = (kPictureWidth - kPlotLeft - kPlotGap - 24) / 2;

double number_in(const nlohmann::json& row, const char* key, const std::string& where) {
  const auto found = row.find(key);
  if (found == row.end() || !found->is_number()) {
    throw UserError(where + " has no number \"" + key + "\", which every such row of metrics has");
  }
  return found->get<double>();
}

// One panel: the losses by what `of` takes of a point.
void loss_panel(Svg& svg, double left, const std::vector<LossCurve>& curves, double LossCurve::Point::*of,
                const std::string& title, const char* unit) {
  double most_x = 0, least = 1e300, most = -1e300;
  for (const LossCurve& curve : curves) {
    for (const LossCurve::Point& point : curve.points) {
      most_x = std::max(most_x, point.*of);
      if (!std::isfinite(point.loss)) continue;
      least = std::min(least, point.loss);
      most = std::max(most, point.loss);
    }
  }
  const double right = left + kPlotWidth;
  const Scale x = Scale::linear(most_x, left, right),
              y = Scale::linear_between(least, most, kPlotBottom, kPlotTop);
  svg.text(left, kPlotTop - 14, title, {13, "start", "#111", true});
  for (const double tick : y.ticks()) {
    svg.line(left, y.at(tick), right, y.at(tick), "#e4e4e4");
    svg.text(left - 7, y.at(tick) + 4, short_number(tick), {12, "end"});
  }
  for (const double tick : x.ticks()) {
    svg.line(x.at(tick), kPlotBottom, x.at(tick), kPlotBottom + 4, "#333");
    svg.text(x.at(tick), kPlotBottom + 18, short_number(tick) + unit, {12, "middle"});
  }
  svg.line(left, kPlotTop, left, kPlotBottom, "#333");
  svg.line(left, kPlotBottom, right, kPlotBottom, "#333");
  for (size_t c = 0; c < curves.size(); ++c) {
    std::vector<std::pair<double, double>> run;
    for (const LossCurve::Point& point : curves[c].points) {
      if (std::isfinite(point.loss)) run.emplace_back(x.at(point.*of), y.at(point.loss));
    }
    svg.path(run, kLineColors[c], 2);
    for (const LossCurve::Point& point : curves[c].points) {
      if (!std::isfinite(point.loss)) continue;
      svg.dot(x.at(point.*of), y.at(point.loss), 3, kLineColors[c],
              fmt::format("{}: {:.4f} nats a token after {} tokens, {:.0f} s", curves[c].name, point.loss,
                          with_commas(static_cast<int64_t>(point.tokens)), point.seconds));
    }
  }
}

}  // namespace

LossCurve read_loss_curve(const std::string& name, const Path& metrics) {
  return loss_curve(name, read_file(metrics, kMostMetricsBytes), printable(metrics.string()));
}

LossCurve loss_curve(const std::string& name, const std::string& text, const std::string& origin) {
  LossCurve out{name, {}};
  std::istringstream lines(text);
  double tokens = 0, seconds = 0;
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string where = origin + ", line " + std::to_string(++number) + ",";
    const nlohmann::json row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object()) throw UserError(where + " is no row of metrics, which is one JSON object");
    if (row.contains("validation_loss")) {
      // null where it was not finite
      const bool finite = row["validation_loss"].is_number();
      out.points.push_back({tokens, seconds, finite ? row["validation_loss"].get<double>() : std::nan("")});
    } else if (row.contains("step_s")) {
      tokens = number_in(row, "tokens", where);
      seconds += number_in(row, "step_s", where);
    }
  }
  if (std::none_of(out.points.begin(), out.points.end(),
                   [](const LossCurve::Point& point) { return std::isfinite(point.loss); })) {
    throw UserError(origin + " has no validation loss; train with train.validate.every set to some steps");
  }
  return out;
}

std::string loss_curves_svg(const std::vector<LossCurve>& curves) {
  if (curves.empty() || curves.size() > kMostCurves) {
    throw UserError("a picture shows 1 to " + std::to_string(kMostCurves) + " curves, not " +
                    std::to_string(curves.size()));
  }
  const size_t rows = (curves.size() + 1) / 2;
  Svg svg(kPictureWidth, kPlotBottom + 44 + 20 * static_cast<double>(rows));
  svg.text(14, 26, "Validation loss, nats a token", {18, "start", "#111", true});
  loss_panel(svg, kPlotLeft, curves, &LossCurve::Point::tokens, "by tokens trained on", "");
  loss_panel(svg, kPlotLeft + kPlotWidth + kPlotGap, curves, &LossCurve::Point::seconds,
             "by time that the steps took", " s");
  for (size_t c = 0; c < curves.size(); ++c) {
    const size_t row = c / 2, column = c % 2;
    const double x = kPlotLeft + static_cast<double>(column) * (kPlotWidth + kPlotGap),
                 y = kPlotBottom + 46 + 20 * static_cast<double>(row);
    svg.line(x, y - 4, x + 18, y - 4, kLineColors[c], 2);
    svg.dot(x + 9, y - 4, 3, kLineColors[c]);
    std::string name = printable(curves[c].name);
    if (name.size() > 60) name = name.substr(0, 58) + "..";
    svg.text(x + 26, y, name, {12});
  }
  return svg.whole();
}

}  // namespace toroid::train
