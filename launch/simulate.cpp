#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/range.h"
#include "core/base/text.h"
#include "launch/config_flags.h"
#include "launch/simulate_sweep.h"
#include "launch/verb.h"
#include "train/plugins.h"
#include "train/simulate/chips.h"
#include "train/simulate/report.h"

namespace toroid::launch {
namespace {

struct Flags {
  ConfigFlags config;
  std::string chip;
  double tokens = 0;
  bool json = false;
  ManyFlags many;
};

ExitCode simulate_verb(const Flags& flags, const train::Plugins& plugins) {
  if (flags.many.given()) {
    const train::Answerer answerer = [](const auto& run, const auto& chip, const auto& simulation) {
      return train::answer(run, chip, simulation);
    };
    const train::Simulator simulator = [&](const auto& run, const auto& chip) {
      return answerer(run, chip, train::simulate(run, chip, plugins));
    };
    simulate_many(flags.many, flags.config, flags.chip, plugins, simulator, answerer);
    return ExitCode::done;
  }
  const config::Resolved resolved = load_config(flags.config);
  const config::RunConfig& run = resolved.run;
  plugins.check(run);
  std::string name = flags.chip;
  if (name.empty()) name = run.chip().empty() ? "host" : run.chip();
  sim::Chip chip = train::read_chip(name, flags.config.file);
  train::AnswerOptions answering;
  check_range("--tokens", flags.tokens, 0.0, 1e30);
  answering.goal_tokens = flags.tokens;
  const train::Answer answer = train::answer(run, chip, train::simulate(run, chip, plugins), answering);
  if (flags.json) {
    std::cout << train::to_json(answer) << "\n";
  } else {
    train::print_answer(std::cout, answer);
  }
  return ExitCode::done;
}

}  // namespace

void add_simulate(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<Flags>();
  CLI::App& app =
      verbs.add("simulate", "Time a step on simulated chips: toroid simulate --config FILE [--chip v5e]",
                "Training", [flags, &plugins] { return simulate_verb(*flags, plugins); });
  add_config_flags(app, flags->config);
  app.add_option("--chip", flags->chip,
                 "A file of configs/chips, by name or path; the config's if not given, else host")
      ->type_name("NAME");
  app.add_option("--tokens", flags->tokens,
                 "Tokens of the run whose time, energy and cost are wanted; the config's")
      ->type_name("N");
  app.add_flag("--json", flags->json, "Print JSON (docs/simulator.md)");
  add_many_flags(app, flags->many);
}

}  // namespace toroid::launch
