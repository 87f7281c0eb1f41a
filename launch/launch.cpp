// toroid launch: a training run on as many ranks as the mesh has chips.
#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/text.h"
#include "launch/config_flags.h"
#include "launch/mpirun.h"
#include "launch/verb.h"
#include "parallel/mesh/mesh.h"

namespace toroid::launch {
namespace {

struct Flags {
  ConfigFlags config;
  MpiJob job;
  int ranks = 0;
  std::string out, resume, trace;
  bool print = false, again = false;
};

std::vector<std::string> train_arguments(const Flags& flags) {
  std::vector<std::string> out{"train", "--config", flags.config.file};
  for (const std::string& set : flags.config.overrides) out.insert(out.end(), {"--set", set});
  if (!flags.out.empty()) out.insert(out.end(), {"--out", flags.out});
  if (!flags.resume.empty()) out.insert(out.end(), {"--resume", flags.resume});
  if (!flags.trace.empty()) out.insert(out.end(), {"--trace", flags.trace});
  if (flags.again) out.push_back("--again");
  return out;
}

ExitCode launch(const Flags& flags) {
  const config::Resolved resolved = load_config(flags.config);
  const mesh::Mesh mesh(resolved.run.mesh());
  MpiJob job = flags.job;
  job.ranks = mesh.world_size();
  if (flags.ranks > 0 && flags.ranks != job.ranks) {
    throw UserError("--ranks is " + std::to_string(flags.ranks) + ", but the mesh has " +
                    std::to_string(job.ranks) + " chips, each of which is a rank; change one of them");
  }
  if (job.threads == 0) job.threads = static_cast<int>(resolved.run.train().threads());
  const std::vector<std::string> arguments = train_arguments(flags);
  if (flags.print) {
    std::cout << shell_text(mpirun_command(job, {}, arguments)) << "\n";
    return ExitCode::done;
  }
  const JobDirectory directory;
  const int code = run_command(mpirun_command(job, job.hosts.empty() ? directory.path() : Path(), arguments));
  return static_cast<ExitCode>(code);
}

}  // namespace

void add_launch(Verbs& verbs) {
  const auto flags = std::make_shared<Flags>();
  CLI::App& app =
      verbs.add("launch", "Train on many ranks: toroid launch --config FILE starts one for each chip",
                "Training", [flags] { return launch(*flags); });
  add_config_flags(app, flags->config);
  app.add_option("--ranks", flags->ranks,
                 "Ranks to start; must be the chips of the mesh, which is the default");
  app.add_option("--hosts", flags->job.hosts,
                 "Hosts and their ranks, such as a:2,b:2; this machine if not given")
      ->type_name("LIST");
  app.add_option("--threads", flags->job.threads,
                 "Threads of each rank; a host's cores over its ranks if not given");
  app.add_option("--out", flags->out, "Run directory, as of `toroid train`")->type_name("DIR");
  app.add_option("--resume", flags->resume, "Go on from a run or a checkpoint, as `toroid train`")
      ->type_name("DIR");
  app.add_option("--trace", flags->trace, "Record a few steps of all ranks to FILE, as `toroid train`")
      ->type_name("FILE");
  app.add_flag("--again", flags->again, "Replace the run that --out holds");
  app.add_flag("--print", flags->print, "Print the mpirun command and do not run it");
}

}  // namespace toroid::launch
