#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <regex>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/base/text.h"
#include "launch/toroid/verb.h"
#include "simulate/draw/validation.h"
#include "simulate/fit/fit.h"
#include "train/engine/plugins.h"

namespace toroid::launch {
namespace {

struct CalibrateFlags {
  std::string file, without, chart;
  bool check = false, write = false, markdown = false;
};

// The file's text with other values, everything else as it stands. Values are written with five digits.
std::string with_values(std::string text, const train::Values& values) {
  static const std::regex kValue(R"((\n  value: )([0-9.eE+-]+))");
  std::string out;
  auto at = text.cbegin();
  size_t i = 0;
  for (std::sregex_iterator found(text.begin(), text.end(), kValue), end; found != end; ++found, ++i) {
    if (i >= values.size()) break;
    out.append(at, (*found)[2].first);
    out += fmt::format("{:.5g}", values[i]);
    at = (*found)[2].second;
  }
  if (i != values.size())
    throw UserError("the file has " + std::to_string(i) +
                    " values on lines of their own (two spaces, \"value: \") for " +
                    std::to_string(values.size()) + " constants; write it so that --write can change them");
  out.append(at, text.cend());
  return out;
}

ExitCode calibrate(const CalibrateFlags& flags, const train::Plugins& plugins) {
  const Path file = flags.file.empty() ? train::calibration_file() : Path(flags.file);
  config::Calibration calibration = train::read_calibration(file);
  if (!flags.without.empty()) {
    std::vector<std::string> known;
    for (const auto& training : calibration.training()) {
      if (training.weight() > 0) known.push_back(training.name());
    }
    if (std::find(known.begin(), known.end(), flags.without) == known.end()) {
      const std::string near = did_you_mean(flags.without, known);
      std::string list;
      for (const std::string& name : known) list += (list.empty() ? "" : ", ") + printable(name);
      throw UserError("no model " + in_quotes(flags.without) + " counts in the fit" +
                      (near.empty() ? "" : "; did you mean " + printable(near) + "?") +
                      "; those that do are " + list);
    }
  }
  const train::Calibrator calibrator(calibration, file, plugins);
  const train::Values values = flags.check ? calibrator.values() : calibrator.fit(flags.without);
  const train::Residuals residuals =
      flags.without.empty() ? calibrator.with_left_out(values) : calibrator.evaluate(values);
  for (int i = 0; i < calibration.constant_size(); ++i)
    calibration.mutable_constant(i)->set_value(values[static_cast<size_t>(i)]);
  if (!flags.markdown) std::cout << "All steps and times are simulated.\n\n";
  std::cout << train::to_text(calibration, residuals, flags.markdown);
  if (flags.write) {
    write_file(file, with_values(read_file(file, int64_t{1} << 20), values));
    std::cout << "Written to " << printable(file.string()) << ".\n";
  }
  if (!flags.without.empty()) return ExitCode::done;
  if (!flags.chart.empty()) {
    write_file(flags.chart, train::validation_svg(calibration, residuals));
    std::cerr << "the picture is in " << printable(flags.chart) << "\n";
  }
  const std::vector<std::string> broken = train::broken_bounds(calibration, residuals);
  for (const std::string& sentence : broken) std::cout << "Out of bounds: " << sentence << ".\n";
  return broken.empty() ? ExitCode::done : ExitCode::internal_error;
}

}  // namespace

void add_calibrate(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<CalibrateFlags>();
  CLI::App& app = verbs.add(
      "calibrate", "Fit the constants of simulated chips on published runs: toroid calibrate [--check]",
      "Training", [flags, &plugins] { return calibrate(*flags, plugins); });
  app.add_option("--file", flags->file, "The calibration (default configs/calibration.textproto)")
      ->type_name("FILE");
  app.add_option("--without", flags->without, "Fit without this model, and show the errors on all")
      ->type_name("MODEL");
  CLI::Option* const check = app.add_flag("--check", flags->check, "Fit nothing: the file's own values");
  app.add_flag("--write", flags->write, "Put the fitted values into the file")
      ->excludes(check)
      ->excludes("--without");
  app.add_option("--chart", flags->chart, "Draw published and simulated runs to FILE, an SVG")
      ->type_name("FILE")
      ->excludes("--without");
  app.add_flag("--markdown", flags->markdown, "Print tables for a page");
}

}  // namespace toroid::launch
