#include <CLI/CLI.hpp>

#include "core/base/range.h"
#include "launch/toroid/supervise/supervise.h"

namespace toroid::launch {

void add_supervise_flags(CLI::App& app, SuperviseFlags& flags) {
  constexpr const char* kGroup = "Supervision";
  app.add_flag("--supervise", flags.on,
               "Start the job again from its newest checkpoint when it fails, and keep incidents.jsonl")
      ->group(kGroup);
  app.add_option("--give-up-after", flags.rules.without_progress,
                 "Restarts in a row that got no further, after which it is given up")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--max-restarts", flags.rules.in_all, "Restarts in all; 0: no limit")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--backoff", flags.backoff_s,
                 "Seconds before a restart, twice as long after each that got no further, up to 300")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option(
         "--hang-after", flags.hang_after_s,
         "Seconds without a sign of life, at least, after which the job is ended; 0: train.deadline_s "
         "and 30")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--check-host", flags.check_host,
                 "Command that is given a host of --hosts and ends with 0 where it can be used; ssh if not "
                 "given")
      ->type_name("CMD")
      ->group(kGroup);
  app.add_option("--pods-file", flags.pods_file,
                 "File that says how many pods may run; all while it is not there")
      ->type_name("FILE")
      ->group(kGroup);
  app.add_option("--look-again", flags.look_again_s, "Seconds between two looks for pods that are missing")
      ->capture_default_str()
      ->group(kGroup);
}

void check_supervise_flags(const SuperviseFlags& flags) {
  if (!flags.on) {
    const SuperviseFlags none;
    const bool any = flags.rules.without_progress != none.rules.without_progress ||
                     flags.rules.in_all != none.rules.in_all || flags.backoff_s != none.backoff_s ||
                     flags.hang_after_s != none.hang_after_s || flags.look_again_s != none.look_again_s ||
                     !flags.check_host.empty() || !flags.pods_file.empty();
    if (any) throw UserError("a flag of supervision is given without --supervise; add it");
    return;
  }
  check_range("--give-up-after", int64_t{flags.rules.without_progress}, int64_t{0}, int64_t{1'000'000});
  check_range("--max-restarts", int64_t{flags.rules.in_all}, int64_t{0}, int64_t{1'000'000});
  check_range("--backoff", flags.backoff_s, 0.0, 1e6);
  check_range("--hang-after", flags.hang_after_s, 0.0, 1e7);
  check_range("--look-again", flags.look_again_s, 0.1, 1e7);
}

}  // namespace toroid::launch
