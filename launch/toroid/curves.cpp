// toroid curves: the validation losses of runs as a picture.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "core/base/text.h"
#include "launch/toroid/verb.h"
#include "simulate/draw/loss_curves.h"

namespace toroid::launch {
namespace {

struct CurvesFlags {
  std::vector<std::string> runs;
  std::string out;
};

ExitCode run(const CurvesFlags& flags) {
  std::vector<train::LossCurve> curves;
  for (const std::string& named : flags.runs) {
    const size_t equals = named.rfind('=');
    const std::string name = named.substr(0, equals == std::string::npos ? named.size() : equals);
    Path path = equals == std::string::npos ? named : named.substr(equals + 1);
    if (std::filesystem::is_directory(path)) path /= "metrics.jsonl";
    curves.push_back(train::read_loss_curve(name, path));
  }
  write_file(flags.out, train::loss_curves_svg(curves));
  std::printf("%zu curves written to %s\n", curves.size(), printable(flags.out).c_str());
  return ExitCode::done;
}

}  // namespace

void add_curves(Verbs& verbs) {
  auto flags = std::make_shared<CurvesFlags>();
  CLI::App& app = verbs.add("curves", "Draw the validation losses of runs by tokens and by time", "Training",
                            [flags] { return run(*flags); });
  app.add_option("RUN", flags->runs,
                 "A run's directory or its metrics.jsonl, as NAME=PATH where it is to have a name; 1 to 8")
      ->required();
  app.add_option("--out", flags->out, "The picture, an SVG file")->required();
}

}  // namespace toroid::launch
