// toroid launch: a training run on as many ranks as the mesh has chips, started once or supervised.
#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/log.h"
#include "core/base/text.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/supervise/supervise.h"
#include "launch/toroid/train_verb.h"
#include "launch/toroid/verb.h"
#include "parallel/mesh/mesh.h"
#include "train/loop/dry_run.h"
#include "train/loop/run_directory.h"

namespace toroid::launch {
namespace {

struct LaunchFlags {
  TrainFlags train;
  MpiJob job;
  SuperviseFlags supervise;
  int ranks = 0;
  bool print = false;
};

// Of a checked config: as many ranks as the mesh has chips.
MpiJob job_of(const LaunchFlags& flags, const config::RunConfig& run) {
  MpiJob job = flags.job;
  job.ranks = mesh::Mesh(run.mesh()).world_size();
  if (job.threads == 0) job.threads = static_cast<int>(run.train().threads());
  return job;
}

int64_t bytes_per_rank(const MpiJob& job, const config::RunConfig& run, const train::Plugins& plugins) {
  // Of the host's memory: a GPU has its own.
  const bool on_host = run.device() == config::RunConfig::CPU;
  return job.hosts.empty() && on_host ? train::record_dry(run, plugins).memory.bytes_peak : 0;
}

Path run_directory_of(const TrainFlags& flags) {
  if (flags.out.empty() && flags.resume.empty()) return Path("runs") / Path(flags.config.file).stem();
  return train::run_directory_of(flags.out, flags.resume);
}

// A supervised start on `pods` of the `of` pods that `full` has.
Start supervised_start(const LaunchFlags& flags, const config::RunConfig& full, int64_t pods,
                       const std::string& hosts, const Path& goes_on_in, const train::Plugins& plugins) {
  LaunchFlags now = flags;
  if (!goes_on_in.empty()) {
    now.train.resume = goes_on_in.string();
    now.train.out.clear();
    now.train.again = false;
  }
  if (!hosts.empty()) now.job.hosts = hosts;
  const int64_t of = full.mesh().pods();
  // A config that is stored in the run may be of fewer pods.
  if (pods < of || flags.train.config.file.empty()) {
    std::vector<std::string>& sets = now.train.config.overrides;
    sets.push_back("mesh.pods=" + std::to_string(pods));
    if (full.batch().on_fewer_pods() == config::BatchConfig::SCALE) {
      const int64_t sequences = full.batch().global_sequences() * pods / of;
      sets.push_back("batch.global_sequences=" + std::to_string(sequences));
      if (pods < of) {
        log::warn(
            "supervise: batch.on_fewer_pods is SCALE: {} sequences a step and not {}; the learning rate "
            "stays",
            sequences, full.batch().global_sequences());
      }
    }
  }
  const config::Resolved resolved = load_train_config(now.train);
  Start start;
  start.job = job_of(now, resolved.run);
  start.job.bytes_per_rank = bytes_per_rank(start.job, resolved.run, plugins);
  start.arguments = train_arguments(now.train);
  return start;
}

int supervise(const LaunchFlags& flags, const config::RunConfig& full, const train::Plugins& plugins) {
  Supervised what;
  what.run = run_directory_of(flags.train);
  what.pods = full.mesh().pods();
  what.chips_per_pod = mesh::Mesh(full.mesh()).world_size() / what.pods;
  what.deadline = Seconds(full.train().deadline_s());
  what.again = flags.train.again;
  what.hosts = flags.job.hosts;
  what.start = [&](int64_t pods, const std::string& hosts, bool goes_on) {
    return supervised_start(flags, full, pods, hosts, goes_on ? what.run : Path(), plugins);
  };
  return supervise(what, flags.supervise);
}

ExitCode launch(const LaunchFlags& flags, const train::Plugins& plugins) {
  if (!flags.train.trains()) return train_verb(flags.train, plugins);
  check_train_flags(flags.train);
  check_supervise_flags(flags.supervise);
  const config::Resolved resolved = load_train_config(flags.train);
  plugins.check(resolved.run);
  MpiJob job = job_of(flags, resolved.run);
  if (flags.ranks > 0 && flags.ranks != job.ranks) {
    throw UserError("--ranks is " + std::to_string(flags.ranks) + ", but the mesh has " +
                    std::to_string(job.ranks) + " chips, each of which is a rank; change one of them");
  }
  const std::vector<std::string> arguments = train_arguments(flags.train);
  if (flags.print) {
    std::cout << shell_text(mpirun_command(job, {}, arguments)) << "\n";
    return ExitCode::done;
  }
  need_trainable(resolved.run, flags.train);
  if (flags.supervise.on) return static_cast<ExitCode>(supervise(flags, resolved.run, plugins));
  job.bytes_per_rank = bytes_per_rank(job, resolved.run, plugins);
  return static_cast<ExitCode>(run_job(job, arguments, run_directory_of(flags.train)));
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
  add_supervise_flags(app, flags->supervise);
}

}  // namespace toroid::launch
