#include "train/machine/machine_figures.h"

#include <google/protobuf/text_format.h>

#include <cstdlib>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/range.h"
#include "core/base/text.h"

namespace toroid::train {

Path machine_figures_path() {
  // Relative ones would mean another directory wherever the program is started.
  const auto directory = [](const char* variable) {
    const char* const value = std::getenv(variable);
    return value != nullptr && *value == '/' ? Path(value) : Path();
  };
  Path cache = directory("XDG_CACHE_HOME");
  if (cache.empty()) {
    const Path home = directory("HOME");
    cache = (home.empty() ? Path("/tmp") : home) / ".cache";
  }
  return cache / "toroid" / "host.textproto";
}

std::optional<config::MachineFigures> read_machine_figures() {
  const Path path = machine_figures_path();
  if (!is_reachable(path)) return std::nullopt;
  config::MachineFigures figures;
  google::protobuf::TextFormat::Parser parser;
  parser.SetRecursionLimit(16);
  try {
    if (parser.ParseFromString(read_file(path, 1 << 20), &figures)) return figures;
  } catch (const Error& error) {
    log::warn("{}", error.what());
    return std::nullopt;
  }
  log::warn("{} is not a file of `toroid doctor`; run it again to measure this machine",
            printable(path.string()));
  return std::nullopt;
}

void write_machine_figures(const config::MachineFigures& figures) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(figures, &text);
  const Path path = machine_figures_path();
  make_directories(path.parent_path());
  write_file(path, "# Measured by `toroid doctor`.\n" + text);
}

void add_operator(config::MachineFigures& figures, const std::string& kind, DType type, int threads,
                  const sim::OperatorFigure& figure) {
  config::MachineFigures::Operator& out = *figures.add_op();
  out.set_kind(kind);
  out.set_type(std::string(name_of(type)));
  out.set_threads(threads);
  if (figure.s_start > 0) out.set_s_start(figure.s_start);
  if (figure.s_per_flop > 0) out.set_s_per_flop(figure.s_per_flop);
  if (figure.s_per_vector_flop > 0) out.set_s_per_vector_flop(figure.s_per_vector_flop);
  if (figure.s_per_byte > 0) out.set_s_per_byte(figure.s_per_byte);
  for (const sim::OperatorFigure::Rate& rate : figure.rates) {
    auto& point = *out.add_rate();
    point.set_bytes(rate.bytes);
    point.set_s_per_byte(rate.s_per_byte);
  }
}

std::map<std::string, sim::OperatorFigure, std::less<>> operators_of(const config::MachineFigures& figures,
                                                                     DType type, int64_t threads) {
  constexpr double kLongest = 1e3, kMostBytes = 1e18;  // seconds, bytes
  std::map<std::string, sim::OperatorFigure, std::less<>> out;
  for (int i = 0; i < figures.op_size(); ++i) {
    const config::MachineFigures::Operator& from = figures.op(i);
    if (from.type() != name_of(type) || from.threads() != threads) continue;
    const std::string at = "op[" + std::to_string(i) + "].";
    check_range(at + "s_start", from.s_start(), 0.0, kLongest);
    check_range(at + "s_per_flop", from.s_per_flop(), 0.0, kLongest);
    check_range(at + "s_per_vector_flop", from.s_per_vector_flop(), 0.0, kLongest);
    check_range(at + "s_per_byte", from.s_per_byte(), 0.0, kLongest);
    sim::OperatorFigure figure{
        from.s_start(), from.s_per_flop(), from.s_per_vector_flop(), from.s_per_byte(), {}};
    double before = 0;
    for (int r = 0; r < from.rate_size(); ++r) {
      const std::string point = at + "rate[" + std::to_string(r) + "].";
      check_range(point + "bytes", from.rate(r).bytes(), 1.0, kMostBytes);
      check_range(point + "s_per_byte", from.rate(r).s_per_byte(), 0.0, kLongest);
      if (from.rate(r).bytes() <= before)
        throw UserError(point + "bytes does not rise: it must be more than those of the rate before it");
      before = from.rate(r).bytes();
      figure.rates.push_back({from.rate(r).bytes(), from.rate(r).s_per_byte()});
    }
    out[from.kind()] = std::move(figure);
  }
  return out;
}

}  // namespace toroid::train
