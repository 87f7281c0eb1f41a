#include "simulate/answer/sweep.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/text.h"
#include "simulate/fit/select_chip.h"
#include "train/config/load.h"
#include "train/config/override.h"
#include "train/engine/plugins.h"
#include "train/report/memory_report.h"

namespace toroid::train {
namespace {

constexpr const char* kConfig = "config";
constexpr const char* kChip = "chip";

// What a row sets, in the three ways that there are.
struct Settings {
  Path config;
  std::string chip;
  std::vector<std::string> overrides;
};

Settings settings_of(const SweepRequest& request, const std::vector<std::string>& values) {
  Settings out{request.config, request.chip, request.overrides};
  for (size_t a = 0; a < values.size(); ++a) {
    const std::string& path = request.axes[a].path;
    if (path == kConfig) {
      out.config = values[a];
    } else if (path == kChip) {
      out.chip = values[a];
    } else {
      out.overrides.push_back(path + "=" + values[a]);
    }
  }
  return out;
}

class Sweeper {
 public:
  Sweeper(const SweepRequest& request, const Plugins& plugins, const Simulator& simulator)
      : request_(request), plugins_(plugins), simulator_(simulator) {}

  void fill(SweepRow& row) {
    try {
      Settings set = settings_of(request_, row.values);
      if (request_.weak)
        set.overrides.push_back("batch.global_sequences=" + std::to_string(scaled_sequences(set)));
      const config::RunConfig run = config::load(set.config, set.overrides).run;
      plugins_.check(run);
      row.global_sequences = run.batch().global_sequences();
      std::string name = set.chip.empty() ? run.chip() : set.chip;
      if (name.empty()) name = "host";
      Answer answer = simulator_(run, chip(name, set.config, run));
      if (answer.memory.fits()) {
        row.answer = std::move(answer);
      } else {
        row.refusal = does_not_fit(answer.memory);
      }
    } catch (const Error& error) {
      row.refusal = error.what();
    }
  }

  const config::RunConfig& base(const Path& file) {
    const auto found = bases_.find(file.string());
    if (found != bases_.end()) return found->second;
    return bases_.emplace(file.string(), config::load(file, request_.overrides).run).first->second;
  }

 private:
  // Pods and data ranks are read from the config as the row has it, before it is checked: with the base's
  // batch it might be refused.
  int64_t scaled_sequences(const Settings& set) {
    const config::RunConfig& from = base(set.config);
    config::RunConfig to = from;
    config::Origins origins;
    for (size_t i = request_.overrides.size(); i < set.overrides.size(); ++i)
      config::apply_override(set.overrides[i], to, origins);
    int64_t before = 0, after = 0, scaled = 0;
    if (__builtin_mul_overflow(from.mesh().pods(), from.mesh().data(), &before) ||
        __builtin_mul_overflow(to.mesh().pods(), to.mesh().data(), &after) || before < 1 || after < 1 ||
        __builtin_mul_overflow(from.batch().global_sequences(), after, &scaled))
      throw UserError("mesh.pods " + std::to_string(to.mesh().pods()) + " x mesh.data " +
                      std::to_string(to.mesh().data()) + " is not a number of replicas to scale to");
    if (scaled % before != 0) {
      throw UserError("batch.global_sequences (" + std::to_string(from.batch().global_sequences()) +
                      ") does not scale from " + std::to_string(before) + " replicas to " +
                      std::to_string(after) + " without a remainder; choose a multiple of " +
                      std::to_string(before));
    }
    return scaled / before;
  }

  // This machine's figures depend on the run; the others are read once.
  sim::Chip chip(const std::string& name, const Path& config, const config::RunConfig& run) {
    if (name == "host") return select_chip(name, config, run, request_.nominal);
    const std::pair key{name, config.string()};
    const auto found = chips_.find(key);
    if (found != chips_.end()) return found->second;
    return chips_.emplace(key, select_chip(name, config, run, request_.nominal)).first->second;
  }

  const SweepRequest& request_;
  const Plugins& plugins_;
  const Simulator& simulator_;
  std::map<std::string, config::RunConfig> bases_;
  std::map<std::pair<std::string, std::string>, sim::Chip> chips_;
};

int64_t count_rows(const std::vector<SweepAxis>& axes) {
  int64_t rows = 1;
  for (const SweepAxis& axis : axes) {
    if (__builtin_mul_overflow(rows, static_cast<int64_t>(axis.values.size()), &rows) || rows > kMostRows) {
      std::string product;
      for (const SweepAxis& each : axes)
        product += (product.empty() ? "" : " x ") + std::to_string(each.values.size());
      throw UserError("the sweep has " + product + " configurations; at most " + with_commas(kMostRows) +
                      " are simulated: give fewer values");
    }
  }
  return rows;
}

// A path that nothing can be set on is a slip of the pen, not a row that is refused.
void check_axis(const SweepAxis& axis, const config::RunConfig& base) {
  if (axis.path == kConfig || axis.path == kChip) return;
  std::string first;
  for (const std::string& value : axis.values) {
    try {
      config::RunConfig run = base;
      config::Origins origins;
      config::apply_override(axis.path + "=" + value, run, origins);
      return;
    } catch (const UserError& error) {
      if (first.empty()) first = error.what();
    }
  }
  throw UserError("--sweep: " + first);
}

}  // namespace

SweepAxis sweep_axis(const std::string& text) {
  SweepAxis axis;
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) {
    throw UserError("--sweep takes path=v1,v2,... as in mesh.pods=1,2,4, not " + in_quotes(text));
  }
  axis.path = text.substr(0, equals);
  int depth = 0;
  bool quoted = false;
  std::string value;
  for (const char c : text.substr(equals + 1)) {
    if (c == '"') quoted = !quoted;
    if (!quoted && (c == '[' || c == '{')) ++depth;
    if (!quoted && (c == ']' || c == '}')) --depth;
    if (c == ',' && depth == 0 && !quoted) {
      axis.values.push_back(value);
      value.clear();
    } else {
      value += c;
    }
  }
  axis.values.push_back(value);
  for (std::string& each : axis.values) {
    each.erase(0, each.find_first_not_of(' '));
    each.erase(each.find_last_not_of(' ') + 1);
    if (each.empty()) throw UserError("--sweep " + in_quotes(text) + " has an empty value");
  }
  return axis;
}

std::string shown_value(const SweepAxis& axis, const std::string& value) {
  return axis.path == kConfig || axis.path == kChip ? Path(value).stem().string() : value;
}

std::string does_not_fit(const MemoryAnswer& memory) {
  return "needs " + human_bytes(memory.peak_bytes) + " of the chip's " + human_bytes(memory.chip_bytes) +
         ": " + largest_holders(memory.by_holder);
}

Sweep sweep(const SweepRequest& request, const Plugins& plugins, const Simulator& simulator) {
  const Stopwatch watch;
  Sweep out{request.axes, request.weak, {}, Seconds(0)};
  const int64_t rows = count_rows(request.axes);
  for (size_t a = 0; a < request.axes.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      if (request.axes[a].path == request.axes[b].path)
        throw UserError("--sweep " + in_quotes(request.axes[a].path) + " is given twice");
    }
    if (request.weak && request.axes[a].path == "batch.global_sequences") {
      throw UserError("--weak sets batch.global_sequences from the number of replicas; do not sweep it");
    }
  }
  Sweeper sweeper(request, plugins, simulator);
  const auto configs = std::find_if(request.axes.begin(), request.axes.end(),
                                    [](const SweepAxis& axis) { return axis.path == kConfig; });
  const config::RunConfig& base =
      sweeper.base(configs == request.axes.end() ? request.config : Path(configs->values.front()));
  for (const SweepAxis& axis : request.axes) check_axis(axis, base);
  for (int64_t r = 0; r < rows; ++r) {
    SweepRow row;
    row.values.resize(request.axes.size());
    int64_t rest = r;
    for (size_t a = request.axes.size(); a-- > 0;) {
      const auto& values = request.axes[a].values;
      row.values[a] = values[static_cast<size_t>(rest) % values.size()];
      rest /= static_cast<int64_t>(values.size());
    }
    sweeper.fill(row);
    out.rows.push_back(std::move(row));
  }
  out.took = watch.elapsed();
  return out;
}

}  // namespace toroid::train
