#include "launch/toroid/simulate_sweep.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/error.h"
#include "core/base/text.h"
#include "simulate/draw/chart.h"
#include "simulate/fit/select_chip.h"
#include "train/engine/plugins.h"

namespace toroid::launch {
namespace {

// As it may be typed again.
std::string command_of(const ManyFlags& flags, const ConfigFlags& config, const std::string& chip) {
  const auto quoted = [](const std::string& text) {
    return text.find_first_of(" []{}\"") == std::string::npos ? text : "'" + text + "'";
  };
  std::string out = "toroid simulate";
  if (!config.file.empty()) out += " --config " + quoted(config.file);
  if (!chip.empty()) out += " --chip " + quoted(chip);
  for (const std::string& each : config.overrides) out += " --set " + quoted(each);
  for (const std::string& each : flags.sweeps) out += " --sweep " + quoted(each);
  if (flags.weak) out += " --weak";
  if (!flags.chart.empty()) out += " --chart " + quoted(flags.chart);
  return out;
}

void sweep(const ManyFlags& flags, const ConfigFlags& config, const std::string& chip, bool nominal,
           const train::Plugins& plugins, const train::Simulator& simulator) {
  train::SweepRequest request;
  request.config = config.file;
  request.overrides = config.overrides;
  request.chip = chip;
  request.weak = flags.weak;
  request.nominal = nominal;
  bool configs = false;
  for (const std::string& each : flags.sweeps) {
    request.axes.push_back(train::sweep_axis(each));
    configs = configs || request.axes.back().path == "config";
  }
  if (config.file.empty() && !configs)
    throw UserError("no config: give --config FILE, or --sweep config=FILE,FILE");
  const bool html = flags.chart.ends_with(".html");
  if (!flags.chart.empty()) {
    if (!html && !flags.chart.ends_with(".svg"))
      throw UserError("--chart writes FILE.svg or FILE.html, not " + in_quotes(flags.chart));
    train::check_chart(request.axes);
  }
  const train::Sweep done = train::sweep(request, plugins, simulator);
  train::print_sweep(std::cout, done);
  const auto write = [](const std::string& file, const std::string& text) {
    write_file(file, text);
    std::cout << "written to " << printable(file) << "\n";
  };
  if (!flags.csv.empty()) write(flags.csv, train::sweep_csv(done));
  if (!flags.chart.empty())
    write(flags.chart,
          html ? train::sweep_html(done, command_of(flags, config, chip)) : train::sweep_svg(done));
}

}  // namespace

void add_many_flags(CLI::App& app, ManyFlags& flags) {
  app.add_option("--sweep", flags.sweeps,
                 "Simulate each of these values of a config's path, or of chip or config; repeated: every "
                 "combination")
      ->type_name("PATH=V1,V2,...")
      ->allow_extra_args(false);
  app.add_flag("--weak", flags.weak,
               "With --sweep: batch.global_sequences grows with the replicas, so that each keeps its work");
  app.add_option("--csv", flags.csv, "With --sweep: write the table to this file as well")->type_name("FILE");
  app.add_option("--chart", flags.chart, "With --sweep: draw it, as FILE.svg or FILE.html")
      ->type_name("FILE");
  app.add_flag(
      "--search", flags.search,
      "Rank the layouts that fit on as many chips: torus, data x model, microbatch, remat, prefetch, "
      "ZeRO stage");
  app.add_option("--best", flags.best, "With --search: how many to print")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
}

void simulate_many(const ManyFlags& flags, const ConfigFlags& config, const std::string& chip, bool nominal,
                   const train::Plugins& plugins, const train::Simulator& simulator,
                   const train::Answerer& answerer) {
  if (!flags.search) {
    if (flags.sweeps.empty()) throw UserError("--weak, --csv and --chart belong to --sweep PATH=V1,V2,...");
    sweep(flags, config, chip, nominal, plugins, simulator);
    return;
  }
  if (!flags.sweeps.empty() || flags.weak || !flags.csv.empty() || !flags.chart.empty())
    throw UserError("--search looks for one config's best layout; give it without --sweep and its flags");
  const config::Resolved resolved = load_config(config);
  plugins.check(resolved.run);
  const sim::Chip on = train::select_chip(chip, config.file, resolved.run, nominal);
  const train::SearchOptions options{static_cast<size_t>(flags.best)};
  train::print_search(std::cout, train::search(resolved.run, on, plugins, answerer, options), options);
}

}  // namespace toroid::launch
