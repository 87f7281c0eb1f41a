#include "simulate/draw/chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/base/error.h"
#include "core/base/text.h"
#include "simulate/draw/svg.h"

namespace toroid::train {
namespace {

static_assert(kMostLines <= kLineColors.size());

struct Part {
  const char* name;
  const char* color;
  Seconds TimeSplit::*seconds;
};
constexpr std::array<Part, 7> kParts = {{{"products", "#4477aa", &TimeSplit::products},
                                         {"vector-bound", "#228833", &TimeSplit::vector_bound},
                                         {"memory-bound", "#66ccee", &TimeSplit::memory_bound},
                                         {"torus, exposed", "#ee6677", &TimeSplit::torus},
                                         {"pods, exposed", "#aa3377", &TimeSplit::pods},
                                         {"dispatch", "#ccbb44", &TimeSplit::dispatch},
                                         {"bubbles", "#bbbbbb", &TimeSplit::bubbles}}};

constexpr double kWidth = 1000, kPanelHeight = 260, kBarsHeight = 170, kLeft = 78, kGap = 92, kHead = 92;
constexpr double kPanelWidth = (kWidth - 2 * kLeft - kGap + 50) / 2;
constexpr double kNothingYet = -1e9;  // left of every picture

// Charts begin at zero: what is below counts as a name.
bool read_number(const std::string& text, double& value) {
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  return fault == std::errc() && end == text.data() + text.size() && std::isfinite(value) && value >= 0;
}

bool numeric(const SweepAxis& axis) {
  double value = 0;
  return std::all_of(axis.values.begin(), axis.values.end(),
                     [&](const std::string& text) { return read_number(text, value); });
}

// Along which axis; its index.
size_t along(const std::vector<SweepAxis>& axes) {
  size_t best = 0;
  const auto worth = [](const SweepAxis& axis) {
    return std::pair(numeric(axis) && axis.values.size() > 1, axis.values.size());
  };
  for (size_t a = 1; a < axes.size(); ++a) {
    if (worth(axes[a]) > worth(axes[best])) best = a;
  }
  return best;
}

std::string shown(const SweepAxis& axis, const std::string& value) {
  const bool file = axis.path == "config" || axis.path == "chip";
  return (file ? "" : axis.path + "=") + shown_value(axis, value);
}

// The rows that share all but the value along the chart.
struct Line {
  std::string label;
  std::vector<const SweepRow*> rows;  // by value along the chart
};

class Chart {
 public:
  explicit Chart(const Sweep& sweep) : sweep_(sweep), x_(along(sweep.axes)), axis_(sweep.axes[x_]) {
    std::vector<std::pair<double, size_t>> order;
    numeric_ = numeric(axis_);
    for (size_t v = 0; v < axis_.values.size(); ++v) {
      double value = static_cast<double>(v);
      if (numeric_) read_number(axis_.values[v], value);
      order.emplace_back(value, v);
    }
    if (numeric_) std::stable_sort(order.begin(), order.end());
    std::vector<size_t> place(order.size());
    for (size_t i = 0; i < order.size(); ++i) {
      xs_.push_back(order[i].first);
      names_.push_back(shown_value(axis_, axis_.values[order[i].second]));
      place[order[i].second] = i;
    }
    // Rows count the last axis fastest.
    size_t after = 1;
    for (size_t a = x_ + 1; a < sweep.axes.size(); ++a) after *= sweep.axes[a].values.size();
    const size_t count = axis_.values.size();
    lines_.resize(sweep.rows.size() / count);
    for (size_t r = 0; r < sweep.rows.size(); ++r) {
      Line& line = lines_[r / (after * count) * after + r % after];
      line.rows.resize(count);
      line.rows[place[r / after % count]] = &sweep.rows[r];
      if (!line.label.empty()) continue;
      for (size_t a = 0; a < sweep.axes.size(); ++a) {
        if (a == x_ || sweep.axes[a].values.size() == 1) continue;
        line.label += (line.label.empty() ? "" : ", ") + shown(sweep.axes[a], sweep.rows[r].values[a]);
      }
    }
    // Where there is one axis, a line has no other name.
    for (Line& line : lines_) {
      if (line.label.empty()) line.label = "simulated";
    }
  }

  std::string draw() {
    const size_t rows_of_bars = (lines_.size() + 1) / 2;
    const double bars_top = kHead + kPanelHeight + 128;
    Svg svg(kWidth, bars_top + static_cast<double>(rows_of_bars) * (kBarsHeight + 74) + 14);
    heading(svg);
    throughput(svg, kLeft, kHead);
    utilisation(svg, kLeft + kPanelWidth + kGap, kHead);
    legend(svg, kHead + kPanelHeight + 66);
    double x = kLeft;
    for (const Part& part : kParts) {
      svg.box(x, bars_top - 37, 11, 11, part.color);
      svg.text(x + 16, bars_top - 27, part.name, {12});
      x += 42 + 7.0 * static_cast<double>(std::string(part.name).size());
    }
    double longest = 0;
    for (const Line& line : lines_) {
      for (const SweepRow* row : line.rows) {
        if (row->answer) longest = std::max(longest, row->answer->step.count());
      }
    }
    for (size_t l = 0; l < lines_.size(); ++l) {
      bars(svg, lines_[l], l, longest, kLeft + static_cast<double>(l % 2) * (kPanelWidth + kGap),
           bars_top + 14 + static_cast<double>(l / 2) * (kBarsHeight + 74));
    }
    return svg.whole();
  }

 private:
  void heading(Svg& svg) const {
    std::string chips, constants;
    for (const SweepRow& row : sweep_.rows) {
      if (!row.answer) continue;
      if (chips.find(row.answer->chip) == std::string::npos)
        chips += (chips.empty() ? "" : ", ") + row.answer->chip;
      constants = row.answer->constants_text();
    }
    svg.text(kLeft - 52, 28, "Simulated training step by " + axis_.path, {18, "start", "#111", true});
    std::string about = "simulated" + (chips.empty() ? "" : " on chip " + chips) +
                        (constants.empty() ? "" : ", " + constants) +
                        (sweep_.weak ? "; weak scaling: each replica keeps its sequences" : "");
    svg.text(kLeft - 52, 48, about, {12});
  }

  bool log_x() const { return numeric_ && xs_.front() > 0 && xs_.back() >= 8 * xs_.front(); }

  // Frame, ticks and names of both axes; where x values lie.
  Scale frame(Svg& svg, double left, double top, const std::string& title, const Scale& y,
              const char* suffix) const {
    const double bottom = top + kPanelHeight, right = left + kPanelWidth;
    svg.text(left, top - 8, title, {13, "start", "#111", true});
    grid(svg, left, y, suffix);
    Scale x = log_x() ? Scale::logarithmic(xs_.front(), xs_.back(), left + 14, right - 14)
              : numeric_
                  ? Scale::linear(xs_.back(), left + (xs_.front() > 0 ? 0 : 14), right - 14)
                  : Scale::linear(static_cast<double>(std::max<size_t>(2, xs_.size()) - 1), left, right);
    double free = kNothingYet;
    for (size_t i = 0; i < xs_.size(); ++i) {
      const double at = place(x, i, left);
      svg.line(at, bottom, at, bottom + 4, "#333");
      name_below(svg, i, at, bottom + 18, free);
    }
    axes(svg, left, top, bottom, bottom + 38);
    return x;
  }

  static void grid(Svg& svg, double left, const Scale& y, const char* suffix) {
    for (const double tick : y.ticks()) {
      svg.line(left, y.at(tick), left + kPanelWidth, y.at(tick), "#e4e4e4");
      svg.text(left - 7, y.at(tick) + 4, short_number(tick) + suffix, {12, "end"});
    }
  }

  // The i-th value's name, unless it would touch the one before it, which ends at `free`.
  void name_below(Svg& svg, size_t i, double middle, double y, double& free) const {
    const std::string name = clipped(names_[i], 14);
    const double half = 3.6 * static_cast<double>(name.size());
    if (middle - half < free + 4) return;
    free = middle + half;
    svg.text(middle, y, name, {12, "middle"});
  }

  void axes(Svg& svg, double left, double top, double bottom, double name_at) const {
    const double right = left + kPanelWidth;
    svg.line(left, top, left, bottom, "#333");
    svg.line(left, bottom, right, bottom, "#333");
    svg.text((left + right) / 2, name_at, x_name(), {12, "middle", "#111"});
  }

  // Names lie in the middle of equal parts.
  double place(const Scale& scale, size_t i, double left) const {
    if (numeric_) return scale.at(xs_[i]);
    return left + kPanelWidth * (static_cast<double>(i) + 0.5) / static_cast<double>(xs_.size());
  }

  static std::string clipped(const std::string& text, size_t most) {
    const std::string all = printable(text);
    return all.size() <= most ? all : all.substr(0, most - 2) + "..";
  }

  std::string x_name() const {
    if (axis_.path == "mesh.pods") return "pods (mesh.pods)";
    return axis_.path;
  }

  template <class Of>
  void curves(Svg& svg, const Scale& x, const Scale& y, double left, Of of, const char* unit) const {
    for (size_t l = 0; l < lines_.size(); ++l) {
      std::vector<std::pair<double, double>> run;
      for (size_t i = 0; i < xs_.size(); ++i) {
        const SweepRow& row = *lines_[l].rows[i];
        if (!row.answer || std::isnan(of(*row.answer))) {  // a gap
          svg.path(run, kLineColors[l], 2);
          run.clear();
          continue;
        }
        run.emplace_back(place(x, i, left), y.at(of(*row.answer)));
      }
      svg.path(run, kLineColors[l], 2);
      for (size_t i = 0; i < xs_.size(); ++i) {
        const SweepRow& row = *lines_[l].rows[i];
        if (!row.answer || std::isnan(of(*row.answer))) continue;
        svg.dot(place(x, i, left), y.at(of(*row.answer)), 3.2, kLineColors[l],
                lines_[l].label + ", " + axis_.path + "=" + names_[i] + ": " + short_number(of(*row.answer)) +
                    unit + ", simulated");
      }
    }
  }

  void throughput(Svg& svg, double left, double top) const {
    double least = 1e300, most = 0;
    bool chips_differ = false;
    const auto ideal = [](const Answer& first, const Answer& here) {
      return first.tokens_per_s * static_cast<double>(here.chips) / static_cast<double>(first.chips);
    };
    for (const Line& line : lines_) {
      const Answer* first = nullptr;
      for (const SweepRow* row : line.rows) {
        if (!row->answer) continue;
        const Answer& here = *row->answer;
        if (first == nullptr) first = &here;
        chips_differ = chips_differ || here.chips != first->chips;
        least = std::min(least, here.tokens_per_s);
        most = std::max({most, here.tokens_per_s, chips_differ ? ideal(*first, here) : 0});
      }
    }
    const double bottom = top + kPanelHeight;
    const bool log = most > 0 && most > 20 * least;
    const Scale y = log ? Scale::logarithmic(least / 1.3, most * 1.2, bottom, top)
                        : Scale::linear(most * 1.02, bottom, top);
    const Scale x = frame(
        svg, left, top,
        std::string("Tokens/s, all chips (simulated)") + (chips_differ ? "; dashed: in proportion" : ""), y,
        "");
    for (size_t l = 0; chips_differ && l < lines_.size(); ++l) {
      std::vector<std::pair<double, double>> straight;
      const Answer* first = nullptr;
      for (size_t i = 0; i < xs_.size(); ++i) {
        const auto& answer = lines_[l].rows[i]->answer;
        if (!answer) continue;
        if (first == nullptr) first = &*answer;
        straight.emplace_back(place(x, i, left), y.at(ideal(*first, *answer)));
      }
      svg.path(straight, kLineColors[l], 1, true);
    }
    curves(
        svg, x, y, left, [](const Answer& answer) { return answer.tokens_per_s; }, " tokens/s");
  }

  void utilisation(Svg& svg, double left, double top) const {
    const auto percent = [](const Answer& answer) {
      return is_share(answer.mfu_causal) ? 100 * answer.mfu_causal : std::nan("");
    };
    double most = 1;
    for (const SweepRow& row : sweep_.rows) {
      if (row.answer && is_share(row.answer->mfu_causal)) most = std::max(most, percent(*row.answer));
    }
    const Scale y = Scale::linear(most * 1.02, top + kPanelHeight, top);
    const Scale x = frame(svg, left, top, "Model FLOPs utilisation, causal (simulated)", y, " %");
    curves(svg, x, y, left, percent, " %");
  }

  void legend(Svg& svg, double y) const {
    if (lines_.size() < 2) return;
    double x = kLeft;
    for (size_t l = 0; l < lines_.size(); ++l) {
      const std::string label = clipped(lines_[l].label, 60);
      const double width = 52 + 7.0 * static_cast<double>(label.size());
      if (x + width > kWidth - 20 && x > kLeft) {
        x = kLeft;
        y += 17;
      }
      svg.line(x, y - 4, x + 18, y - 4, kLineColors[l], 2);
      svg.dot(x + 9, y - 4, 3.2, kLineColors[l]);
      svg.text(x + 24, y, label, {12});
      x += width;
    }
  }

  void bars(Svg& svg, const Line& line, size_t index, double longest, double left, double top) const {
    const double bottom = top + kBarsHeight;
    const Scale y = Scale::linear(longest * 1.02, bottom, top);
    svg.text(left, top - 8, "Step (simulated)" + (lines_.size() > 1 ? ": " + clipped(line.label, 44) : ""),
             {13, "start", lines_.size() > 1 ? kLineColors[index] : "#111", true});
    grid(svg, left, y, " s");
    const double each = kPanelWidth / static_cast<double>(line.rows.size());
    double free = kNothingYet;
    for (size_t i = 0; i < line.rows.size(); ++i) {
      const double middle = left + (static_cast<double>(i) + 0.5) * each, width = std::min(40.0, 0.72 * each);
      const SweepRow& row = *line.rows[i];
      if (row.answer) {
        double floor = 0;
        for (const Part& part : kParts) {
          const double seconds = (row.answer->split.*part.seconds).count();
          if (!(seconds > 0)) continue;
          svg.box(middle - width / 2, y.at(floor + seconds), width, y.at(floor) - y.at(floor + seconds),
                  part.color, std::string(part.name) + fmt::format(" {:.3f} s, simulated", seconds));
          floor += seconds;
        }
      } else {
        svg.dot(middle, bottom - 9, 4, "#999", "refused: " + row.refusal);
        if (each > 44) svg.text(middle, bottom - 18, "refused", {11, "middle", "#777"});
      }
      name_below(svg, i, middle, bottom + 17, free);
    }
    axes(svg, left, top, bottom, bottom + 36);
  }

  const Sweep& sweep_;
  size_t x_;
  const SweepAxis& axis_;
  bool numeric_ = false;
  std::vector<double> xs_;  // sorted, or 0, 1, 2... of names
  std::vector<std::string> names_;
  std::vector<Line> lines_;
};

}  // namespace

void check_chart(const std::vector<SweepAxis>& axes) {
  if (axes.empty()) throw UserError("--chart shows a sweep: give --sweep path=v1,v2,... as well");
  const size_t x = along(axes);
  if (axes[x].values.size() > kMostPoints) {
    throw UserError("--chart shows at most " + std::to_string(kMostPoints) + " values along an axis, but " +
                    in_quotes(axes[x].path) + " has " + std::to_string(axes[x].values.size()) +
                    "; leave --chart out, or give fewer values");
  }
  size_t lines = 1;
  for (size_t a = 0; a < axes.size(); ++a) {
    if (a != x) lines *= axes[a].values.size();
    if (lines > kMostLines) {
      throw UserError("--chart shows at most " + std::to_string(kMostLines) +
                      " lines along one axis of a sweep, and this one has more; leave --chart out, or give "
                      "fewer values");
    }
  }
}

std::string sweep_svg(const Sweep& sweep) {
  check_chart(sweep.axes);
  return Chart(sweep).draw();
}

std::string sweep_html(const Sweep& sweep, const std::string& command) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Simulated sweep</title>\n"
      "<style>body{font-family:Helvetica,Arial,sans-serif;margin:2em;color:#222;background:#fff}"
      "svg{max-width:100%;height:auto}table{border-collapse:collapse;font-size:13px}"
      "th,td{border:1px solid #ddd;padding:3px 8px;text-align:right}th{background:#f4f4f4}"
      "td.why{text-align:left;color:#833}</style></head><body>\n";
  out += sweep_svg(sweep);
  out +=
      "<p>All figures are simulated. Made by <code>" + escape_markup(command) + "</code></p>\n<table>\n<tr>";
  for (const SweepAxis& axis : sweep.axes) out += "<th>" + escape_markup(axis.path) + "</th>";
  for (const char* name : {"chips", "sequences", "step", "products", "memory-bound", "torus", "pods",
                           "dispatch", "bubbles", "tokens/s", "a chip", "MFU causal", "MFU full", "HBM"})
    out += "<th>" + std::string(name) + "</th>";
  out += "</tr>\n";
  for (const SweepRow& row : sweep.rows) {
    out += "<tr>";
    for (const std::string& value : row.values) out += "<td>" + escape_markup(value) + "</td>";
    if (!row.answer) {
      out += "<td class=\"why\" colspan=\"14\">refused: " + escape_markup(row.refusal) + "</td></tr>\n";
      continue;
    }
    const Answer& a = *row.answer;
    const auto cell = [&](const std::string& text) { out += "<td>" + text + "</td>"; };
    cell(with_commas(a.chips));
    cell(with_commas(row.global_sequences));
    cell(fmt::format("{:.4f} s", a.step.count()));
    for (const Part& part : kParts) cell(fmt::format("{:.4f} s", (a.split.*part.seconds).count()));
    cell(with_commas(static_cast<int64_t>(a.tokens_per_s)));
    cell(with_commas(static_cast<int64_t>(a.tokens_per_s_chip())));
    cell(share_text(a.mfu_causal, 1));
    cell(share_text(a.mfu_full_attention, 1));
    cell(human_bytes(a.memory.peak_bytes));
    out += "</tr>\n";
  }
  return out + "</table>\n</body></html>\n";
}

}  // namespace toroid::train
