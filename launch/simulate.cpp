#include "train/simulate/simulate.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/format_text.h"
#include "core/base/text.h"
#include "launch/config_flags.h"
#include "launch/verb.h"
#include "train/collective_table.h"
#include "train/plugins.h"
#include "train/simulate/chips.h"
#include "train/simulate/host_chip.h"

namespace toroid::launch {
namespace {

struct Flags {
  ConfigFlags config;
  std::string chip;
};

ExitCode simulate_verb(const Flags& flags, const train::Plugins& plugins) {
  config::Resolved resolved = load_config(flags.config);
  plugins.check(resolved.run);
  std::string name = flags.chip;
  if (name.empty()) name = resolved.run.chip().empty() ? "host" : resolved.run.chip();
  if (name == "host") train::add_collective_table(resolved);
  const sim::Chip chip =
      name == "host" ? train::read_host_chip(resolved.run) : train::read_chip(name, flags.config.file);
  const train::Simulation done = train::simulate(resolved.run, chip, plugins);
  const sim::Played& p = done.played;
  std::cout << format_text("step %.6f s products %.6f memory %.6f tail %.6f roles %zu records %zu peak %s\n",
                           p.step.count(), p.products.count(), p.memory_bound.count(), p.tail.count(),
                           done.roles.size(), done.roles[0].records.size(),
                           human_bytes(done.roles[done.fullest].memory.bytes_peak).c_str());
  for (size_t q = 0; q < kQueues; ++q)
    std::cout << format_text("queue %zu waited %.6f busy %.6f\n", q, p.waited[q].count(), p.busy[q].count());
  for (const auto& [holder, bytes] : done.roles[done.fullest].memory.peak_by_holder)
    if (bytes > 0) std::cout << "  " << holder << " " << human_bytes(bytes) << "\n";
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
}

}  // namespace toroid::launch
