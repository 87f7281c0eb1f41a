#include "simulate/draw/layer_picture.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "parallel/mesh/mesh.h"
#include "simulate/draw/svg.h"

namespace toroid::train {
namespace {

constexpr double kAcross = 1000, kNames = 78, kMargin = 16, kQueueHeight = 22, kTitleHeight = 64,
                 kBetweenPasses = 44;

struct ShownQueue {
  Queue queue;
  const char* name;
};
constexpr std::array<ShownQueue, 5> kShownQueues = {{{Queue::compute, "compute"},
                                                     {Queue::model, "model"},
                                                     {Queue::gather, "gather"},
                                                     {Queue::reduce, "reduce"},
                                                     {Queue::pod, "pods"}}};
constexpr double kPassHeight = kQueueHeight * kShownQueues.size();

struct SpanKind {
  const char *name, *color;
};
constexpr SpanKind kProducts{"products", "#4477aa"}, kOthers{"other operators", "#66ccee"},
    kWaits{"waiting", "#ee6677"}, kGathers{"gathers", "#ccbb44"}, kSums{"sums", "#228833"};

const SpanKind& span_kind(const Record& record) {
  if (record.kind == Record::Kind::wait) return kWaits;
  if (record.kind == Record::Kind::transfer) return record.info->operation == "all_gather" ? kGathers : kSums;
  return record.cost.products.empty() ? kOthers : kProducts;
}

struct Pass {
  Seconds begin{0}, end{0};
  bool empty() const { return end <= begin; }
};

// From the first collective of the layer on the model axis to the first one after it that is not the layer's.
Pass pass_of(const sim::Played& played, const std::string& layer, bool forward) {
  Pass out;
  bool inside = false;
  for (const sim::TimeSpan& span : played.spans) {
    const Record& record = *span.record;
    if (record.kind != Record::Kind::transfer || record.info->axis != mesh::name(mesh::Axis::model)) continue;
    const bool of_layer =
        record.info->tensor.starts_with(layer) && (record.info->phase == Phase::forward) == forward;
    if (of_layer && !inside) out.begin = span.begin;
    if (of_layer) out.end = span.end;
    if (inside && !of_layer) {
      out.end = std::max(out.end, span.begin);
      break;
    }
    inside = of_layer;
  }
  return out;
}

// 1, 2 or 5 times a power of ten.
double tick_of(double most) {
  const double power = std::pow(10, std::floor(std::log10(most / 4)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (step * power * 8 >= most) return step * power;
  }
  return 10 * power;
}

void draw_panel(Svg& svg, const sim::Played& played, const Pass& window, double pixels_a_second, double top,
                const std::string& title) {
  svg.text(kNames, top - 8, title, {13, "start", "#111", true});
  const double length = (window.end - window.begin).count();
  for (size_t r = 0; r < kShownQueues.size(); ++r) {
    const double y = top + kQueueHeight * static_cast<double>(r);
    svg.text(kNames - 8, y + 15, kShownQueues[r].name, {12, "end"});
    for (const sim::TimeSpan& span : played.spans) {
      if (span.queue != kShownQueues[r].queue) continue;
      // Elsewhere a wait is no work that is held up.
      if (span.record->kind == Record::Kind::wait && span.queue != Queue::compute) continue;
      const double begin = std::max((span.begin - window.begin).count(), 0.0),
                   end = std::min((span.end - window.begin).count(), length);
      if (end <= begin) continue;
      const SpanKind& kind = span_kind(*span.record);
      const bool transfer = span.record->kind == Record::Kind::transfer;
      const std::string what =
          transfer ? span.record->info->operation + " " + span.record->info->tensor
                   : std::string(span.record->kind == Record::Kind::wait ? "wait" : span.record->op);
      svg.box(kNames + begin * pixels_a_second, y + 2, (end - begin) * pixels_a_second, kQueueHeight - 4,
              kind.color, fmt::format("{}, {:.3f} ms", what, (span.end - span.begin).count() * 1e3),
              "#ffffff");
    }
  }
  const double bottom = top + kPassHeight, step = tick_of(length * 1e3);
  svg.line(kNames, bottom, kNames + length * pixels_a_second, bottom, "#999");
  const auto ticks = static_cast<int>(length * 1e3 / step * (1 + 1e-9));
  for (int tick = 0; tick <= ticks; ++tick) {
    const double at = tick * step, x = kNames + at * 1e-3 * pixels_a_second;
    svg.line(x, bottom, x, bottom + 4, "#999");
    svg.text(x, bottom + 16, fmt::format("{:g}", at), {11, "middle"});
  }
  svg.text(kNames - 8, bottom + 16, "ms", {11, "end"});
}

// Where the compute queue's time goes within the window.
std::string title_with_waits(const sim::Played& played, const Pass& window) {
  Seconds waiting{0};
  for (const sim::TimeSpan& span : played.spans) {
    if (span.queue != Queue::compute || span.record->kind != Record::Kind::wait) continue;
    waiting += std::max(Seconds(0), std::min(span.end, window.end) - std::max(span.begin, window.begin));
  }
  const Seconds length = window.end - window.begin;
  return fmt::format("{:.2f} ms, {:.2f} ms of them waiting", length.count() * 1e3, waiting.count() * 1e3);
}

}  // namespace

std::string layer_svg(const sim::Played& played, int64_t layer, const std::string& title) {
  const std::string prefix = "layer." + std::to_string(layer) + " ";
  const Pass forward = pass_of(played, prefix, true), backward = pass_of(played, prefix, false);
  if (forward.empty() || backward.empty()) {
    throw UserError(
        "--picture: layer " + std::to_string(layer) +
        " has no collectives on the model axis; choose a layer of the model with --layer, and a config "
        "with mesh.model above 1");
  }
  const double longest = std::max(forward.end - forward.begin, backward.end - backward.begin).count();
  const double pixels = (kAcross - kNames - kMargin) / longest;
  Svg svg(kAcross, kTitleHeight + 2 * kPassHeight + kBetweenPasses + 40);
  svg.text(kNames, 20, title, {15, "start", "#111", true});
  double x = kNames;
  for (const SpanKind& kind : {kProducts, kOthers, kWaits, kGathers, kSums}) {
    svg.box(x, 30, 12, 12, kind.color);
    svg.text(x + 17, 40, kind.name, {12});
    x += 40 + 7.0 * static_cast<double>(std::string_view(kind.name).size());
  }
  const std::string of = "layer " + std::to_string(layer);
  draw_panel(svg, played, forward, pixels, kTitleHeight + 12,
             of + " forward: " + title_with_waits(played, forward));
  draw_panel(svg, played, backward, pixels, kTitleHeight + 12 + kPassHeight + kBetweenPasses,
             of + " backward, with what it computes again: " + title_with_waits(played, backward));
  return svg.whole();
}

}  // namespace toroid::train
