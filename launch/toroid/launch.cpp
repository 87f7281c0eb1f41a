// toroid launch: a training run on as many ranks as the mesh has chips.
#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/text.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/train_verb.h"
#include "launch/toroid/verb.h"
#include "parallel/mesh/mesh.h"
#include "train/loop/dry_run.h"

namespace toroid::launch {
namespace {

struct LaunchFlags {
  TrainFlags train;
  MpiJob job;
  int ranks = 0;
  bool print = false;
};

ExitCode launch(const LaunchFlags& flags, const train::Plugins& plugins) {
  if (!flags.train.trains()) return train_verb(flags.train, plugins);
  check_train_flags(flags.train);
  const config::Resolved resolved = load_train_config(flags.train);
  plugins.check(resolved.run);
  const mesh::Mesh mesh(resolved.run.mesh());
  MpiJob job = flags.job;
  job.ranks = mesh.world_size();
  if (flags.ranks > 0 && flags.ranks != job.ranks) {
    throw UserError("--ranks is " + std::to_string(flags.ranks) + ", but the mesh has " +
                    std::to_string(job.ranks) + " chips, each of which is a rank; change one of them");
  }
  if (job.threads == 0) job.threads = static_cast<int>(resolved.run.train().threads());
  const std::vector<std::string> arguments = train_arguments(flags.train);
  if (flags.print) {
    std::cout << shell_text(mpirun_command(job, {}, arguments)) << "\n";
    return ExitCode::done;
  }
  need_trainable(resolved.run, flags.train);
  // Of the host's memory: a GPU has its own.
  const bool on_host = resolved.run.device() == config::RunConfig::CPU;
  if (job.hosts.empty() && on_host)
    job.bytes_per_rank = train::record_dry(resolved.run, plugins).memory.bytes_peak;
  return static_cast<ExitCode>(run_job(job, arguments));
}

}  // namespace

void add_launch(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<LaunchFlags>();
  CLI::App& app =
      verbs.add("launch", "Train on many ranks: toroid launch --config FILE starts one for each chip",
                "Training", [flags, &plugins] { return launch(*flags, plugins); });
  add_train_flags(app, flags->train);
  app.add_option("--ranks", flags->ranks,
                 "Ranks to start; must be the chips of the mesh, which is the default")
      ->group("Ranks");
  app.add_option("--hosts", flags->job.hosts,
                 "Hosts and their ranks, such as a:2,b:2; this machine if not given")
      ->type_name("LIST")
      ->group("Ranks");
  app.add_option("--threads", flags->job.threads,
                 "Threads of each rank; a host's cores over its ranks if not given")
      ->group("Ranks");
  app.add_flag("--print", flags->print, "Print the mpirun command and do not run it")->group("Ranks");
}

}  // namespace toroid::launch
