#include <malloc.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <iostream>
#include <utility>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/simulate_sweep.h"
#include "launch/toroid/verb.h"
#include "simulate/answer/advice.h"
#include "simulate/answer/report.h"
#include "simulate/answer/search.h"
#include "simulate/draw/layer_picture.h"
#include "simulate/draw/timeline.h"
#include "simulate/fit/select_chip.h"
#include "train/engine/plugins.h"
#include "train/machine/collective_table.h"

namespace toroid::launch {
namespace {

struct SimulateFlags {
  ConfigFlags config;
  std::string chip, constants, dispatch, trace, picture;
  int64_t layer = -1;
  std::vector<std::string> stragglers, faults;
  double tokens = 0, jitter = 0;
  int64_t seed = 1;
  bool json = false;
  ManyFlags many;
};

// "7=1.5"
std::pair<int64_t, double> number_pair(const std::string& flag, const std::string& text) {
  std::pair<int64_t, double> out;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, out.first);
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '=') {
    const auto second = std::from_chars(first.ptr + 1, end, out.second);
    if (second.ec == std::errc() && second.ptr == end) return out;
  }
  throw UserError(flag + " is " + in_quotes(text) + "; it must be a number, = and a number, as in 7=1.5");
}

train::Variation variation_of(const SimulateFlags& flags) {
  train::Variation out;
  out.jitter = flags.jitter;
  check_range("--seed", flags.seed, int64_t{0}, INT64_MAX);
  out.seed = static_cast<uint64_t>(flags.seed);
  for (const std::string& text : flags.stragglers) {
    const auto [rank, factor] = number_pair("--straggler", text);
    out.stragglers.push_back({rank, factor});
  }
  for (const std::string& text : flags.faults) {
    const auto [dimension, share] = number_pair("--link-fault", text);
    out.faults.push_back({dimension, share});
  }
  return out;
}

train::AnswerOptions answer_options(const SimulateFlags& flags) {
  train::AnswerOptions out;
  check_range("--tokens", flags.tokens, 0.0, 1e30);
  out.goal_tokens = flags.tokens;
  if (!flags.dispatch.empty())
    out.dispatch = flags.dispatch == "sequential" ? train::Dispatch::sequential : train::Dispatch::parallel;
  return out;
}

void simulate_one(const SimulateFlags& flags, const train::Plugins& plugins) {
  config::Resolved resolved = load_config(flags.config);
  const config::RunConfig& run = resolved.run;
  plugins.check(run);
  const bool shows = !flags.trace.empty() || !flags.picture.empty();
  const sim::Chip chip = train::select_chip(flags.chip, flags.config.file, run, flags.constants == "nominal");
  if (chip.measured) train::add_collective_table(resolved);
  const train::AnswerOptions answering = answer_options(flags);
  train::SimulateOptions options;
  options.variation = variation_of(flags);
  options.spans = shows;
  const train::Simulation simulation = train::simulate(run, chip, plugins, options);
  train::require_room(run, chip, simulation, plugins);
  train::Answer answer = train::answer(run, chip, simulation, answering);
  if (!options.variation.any())
    answer.remedy = train::what_would_help(run, chip, simulation, plugins, answering);
  if (flags.json) {
    std::cout << train::to_json(answer) << "\n";
  } else {
    train::print_answer(std::cout, answer);
  }
  if (!flags.picture.empty()) {
    const int64_t layer = flags.layer < 0 ? run.model().layers() / 2 : flags.layer;
    const std::string title = "Simulated: " + train::layout_of(run).text();
    write_file(flags.picture, train::layer_svg(simulation.played, layer, title));
    std::cerr << "the picture of layer " << layer << " is in " << printable(flags.picture) << "\n";
  }
  if (flags.trace.empty()) return;
  sim::Network network = train::network_of(run, chip, options.variation);
  train::write_timeline(flags.trace, simulation.played, network);
  std::cerr << "the simulated timeline is in " << printable(flags.trace) << "\n";
}

// A step's records come and go by the ten megabytes: their pages stay with the process, which is a short one.
void keep_freed_pages() {
#ifdef M_MMAP_THRESHOLD  // glibc's
  constexpr int kOwnMapping = 32 << 20, kGivenBack = 256 << 20;
  mallopt(M_MMAP_THRESHOLD, kOwnMapping);
  mallopt(M_TRIM_THRESHOLD, kGivenBack);
#endif
}

ExitCode simulate_verb(const SimulateFlags& flags, const train::Plugins& plugins) {
  keep_freed_pages();
  if (!flags.many.given()) {
    simulate_one(flags, plugins);
    return ExitCode::done;
  }
  if (variation_of(flags).any() || !flags.trace.empty() || !flags.picture.empty() || flags.json) {
    throw UserError(
        "--sweep and --search are of chips that are alike, and print tables; give them without --jitter, "
        "--straggler, --link-fault, --trace, --picture and --json");
  }
  const train::AnswerOptions answering = answer_options(flags);
  const train::Answerer answerer = [&](const auto& run, const auto& chip, const auto& simulation) {
    return train::answer(run, chip, simulation, answering);
  };
  const train::Simulator simulator = [&](const auto& run, const auto& chip) {
    return answerer(run, chip, train::simulate(run, chip, plugins));
  };
  simulate_many(flags.many, flags.config, flags.chip, flags.constants == "nominal", plugins, simulator,
                answerer);
  return ExitCode::done;
}

void add_chip_flags(CLI::App& app, SimulateFlags& flags) {
  app.add_option("--chip", flags.chip,
                 "A file of configs/chips, by name or path; the config's if not given, else host")
      ->type_name("NAME");
  app.add_option("--constants", flags.constants,
                 "The chip's: nominal from its data sheet, or fitted to measurements where there are some")
      ->check(CLI::IsMember({"nominal", "fitted"}))
      ->default_val("fitted");
  app.add_option(
         "--dispatch", flags.dispatch,
         "The controller's: parallel and ahead of the chips, or sequential; the schedule's if not given")
      ->check(CLI::IsMember({"parallel", "sequential"}));
}

void add_variation_flags(CLI::App& app, SimulateFlags& flags) {
  app.add_option("--jitter", flags.jitter,
                 "Relative standard deviation of the chips' speed; plays every chip")
      ->type_name("SHARE")
      ->group("Chips that differ");
  app.add_option("--straggler", flags.stragglers, "A chip whose operators take FACTOR times as long")
      ->type_name("RANK=FACTOR")
      ->allow_extra_args(false)
      ->group("Chips that differ");
  app.add_option("--link-fault", flags.faults,
                 "A dimension of the torus with a link of SHARE of its bandwidth; 0: without it")
      ->type_name("DIM=SHARE")
      ->allow_extra_args(false)
      ->group("Chips that differ");
  app.add_option("--seed", flags.seed, "Of the jitter")->type_name("N")->group("Chips that differ");
}

}  // namespace

void add_simulate(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<SimulateFlags>();
  CLI::App& app =
      verbs.add("simulate", "Time a step on simulated chips: toroid simulate --config FILE [--chip v5e]",
                "Training", [flags, &plugins] { return simulate_verb(*flags, plugins); });
  add_config_flags(app, flags->config);
  add_chip_flags(app, *flags);
  app.add_option("--tokens", flags->tokens,
                 "Tokens of the run whose time, energy and cost are wanted; the config's if not given")
      ->type_name("N");
  app.add_flag("--json", flags->json, "Print JSON (docs/simulator.md)");
  app.add_option("--trace", flags->trace,
                 "Write the first chip's queues and links to FILE, for ui.perfetto.dev")
      ->type_name("FILE");
  CLI::Option* const picture = app.add_option(
      "--picture", flags->picture,
      "Draw one layer's passes on the first chip's queues to FILE, an SVG; needs a model axis");
  picture->type_name("FILE");
  app.add_option("--layer", flags->layer, "Which one, from 0; the middle one if not given")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->needs(picture);
  add_variation_flags(app, *flags);
  add_many_flags(app, flags->many);
}

}  // namespace toroid::launch
