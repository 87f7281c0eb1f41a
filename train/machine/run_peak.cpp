#include "train/machine/run_peak.h"

#include <fmt/core.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/machine/best_of.h"
#include "train/machine/machine_figures.h"

namespace toroid::train {
namespace {

constexpr double kWorthWriting = 1.02;  // times the peak that was written last

// The figures with a higher peak; SystemError where they cannot be written.
void write_peak(DType type, double flops_per_s) {
  auto figures = read_machine_figures();
  if (!figures) return;  // gone meanwhile: there is nothing to mend
  if (type == DType::f32) {
    figures->set_fp32_flops_per_s(std::max(figures->fp32_flops_per_s(), flops_per_s));
    figures->set_fp32_raised(true);
  } else {
    figures->set_bf16_flops_per_s(std::max(figures->bf16_flops_per_s(), flops_per_s));
    figures->set_bf16_raised(true);
  }
  write_machine_figures(*figures);
}

}  // namespace

PeakOf peak_asked(DType type, const World& world, int threads) {
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  const int each = world.ranks_per_host(ranks);
  return {type, each == 0 ? 0 : world.size() / each, static_cast<int>(world.host_ranks().size()) * threads};
}

std::optional<double> peak_of(const config::MachineFigures& figures, const HostInfo& host, const PeakOf& run,
                              std::string& why) {
  why.clear();
  const double peak = run.type == DType::f32 ? figures.fp32_flops_per_s() : figures.bf16_flops_per_s();
  if (!(peak > 0) || !std::isfinite(peak)) return std::nullopt;
  if (run.hosts < 1) {
    why = "the hosts do not have equally many ranks";
  } else if (figures.has_cpu() && figures.cpu() != host.cpu) {
    why = "its figures are of another machine, " + in_quotes(figures.cpu()) + "; this is " +
          in_quotes(host.cpu);
  } else if (const int busy = std::min(run.threads, host.cores); figures.threads() < busy) {
    why = "its figures are of " + std::to_string(figures.threads()) + " threads and the run computes on " +
          std::to_string(busy);
  }
  if (!why.empty()) return std::nullopt;
  return peak * run.hosts;
}

std::string doubt_of(const config::MachineFigures& figures, DType type) {
  const bool f32 = type == DType::f32;
  if (f32 ? figures.fp32_raised() : figures.bf16_raised())
    return "a run was faster than its peak, so that other programs ran then";
  const double spread = std::max(f32 ? figures.fp32_spread() : figures.bf16_spread(), figures.op_spread());
  if (!(spread > kAlikeRounds)) return "";
  return fmt::format("its rounds differ by {:.0f} %, so that other programs ran then", 100 * spread);
}

RunPeak::RunPeak(const PeakOf& run) : run_(run) {
  const auto figures = read_machine_figures();
  if (!figures) return;
  std::string why;
  peak_ = peak_of(*figures, host_info(), run, why);
  const std::string again = "; run `toroid doctor` here, with no other program running, to measure it";
  if (!why.empty()) log::warn("no MFU: it is a share of what `toroid doctor` measured, and {}{}", why, again);
  if (!peak_) return;
  if (const std::string doubt = doubt_of(*figures, run.type); !doubt.empty())
    log::warn("MFU is a share of what `toroid doctor` measured, and {}{}", doubt, again);
}

std::optional<double> RunPeak::share(double flops_per_s) {
  if (!peak_) return std::nullopt;
  if (flops_per_s <= *peak_) return flops_per_s / *peak_;
  if (fixed_) return std::nullopt;
  const double before = *peak_;
  peak_ = flops_per_s;
  if (*peak_ <= kWorthWriting * written_) return std::nullopt;
  const bool first = written_ == 0;
  written_ = *peak_;
  const std::string file = printable(machine_figures_path().string());
  std::string kept = "and stands in " + file;
  try {
    write_peak(run_.type, *peak_ / run_.hosts);
  } catch (const Error&) {
    kept = "but " + file + " cannot be written";
  }
  if (first) {
    log::warn(
        "no MFU of this step: it computes {:.3g} GFLOP/s, more than the {:.3g} that `toroid doctor` measured "
        "as the "
        "peak, so other programs ran then. The peak is now the run's own rate, {}; run `toroid doctor` on an "
        "idle "
        "machine to measure it",
        *peak_ / 1e9, before / 1e9, kept);
  }
  return std::nullopt;
}

}  // namespace toroid::train
