#include "train/loop/run_directory.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/checkpoint/aside.h"
#include "train/faults/record.h"
#include "train/report/metrics.h"

namespace toroid::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetrics = "metrics.jsonl";

MoveRest move_rows(const Path& run) {
  return [run](const Path& aside, int64_t back_to) {
    move_later_rows(run / kMetrics, back_to, aside / kMetrics);
  };
}

void say(const Aside& aside) {
  std::string steps;
  for (const int64_t step : aside.steps) steps += (steps.empty() ? "" : ", ") + std::to_string(step);
  log::warn("the run goes back to step {}: its steps {} and their rows of {} are now in {}", aside.back_to,
            printable(steps, 200), kMetrics, printable(aside.directory.string()));
}

}  // namespace

bool holds_run(const Path& directory) {
  return is_present(directory / "config.textproto") || is_present(directory / kMetrics) ||
         is_present(directory / "checkpoints");
}

Path run_directory_of(const Path& out, const Path& resume) {
  if (resume.empty()) return out;
  const Path run = run_of_checkpoint(resume);
  const std::string name = in_quotes(resume.string());
  const bool goes_on = out.empty() || goes_on_in(out, resume);
  if (goes_on && is_aside((resume.has_filename() ? resume : resume.parent_path()).parent_path())) {
    throw UserError(name + " was set aside when its run went back; to go on from it, give another --out");
  }
  if (!out.empty()) return out;
  if (!is_present(run)) {
    throw UserError("there is no checkpoint at " + name + ": it does not exist");
  }
  if (is_checkpoint(run)) {
    throw UserError(
        name + " lies in no run's checkpoints; say with --out where the run that goes on from it is to be");
  }
  return run;
}

bool goes_on_in(const Path& directory, const Path& resume) {
  if (resume.empty()) return false;
  std::error_code error;
  const Path run = run_of_checkpoint(resume);
  return !is_checkpoint(run) && fs::equivalent(run, directory, error) && !error;
}

RunDirectory::RunDirectory(const Path& directory, bool again, const Path& resume)
    : directory_(directory), lock_(directory), goes_on_(goes_on_in(directory, resume)) {
  if (goes_on_) {
    for (const Aside& aside : finish_asides(directory_ / "checkpoints", move_rows(directory_))) say(aside);
    return;
  }
  if (!holds_run(directory_)) return;
  if (!resume.empty()) {
    throw UserError(in_quotes(directory.string()) +
                    " already holds a run, and not the one that --resume names; "
                    "give another --out, or continue it with --resume " +
                    in_quotes(directory.string()));
  }
  if (!again) {
    throw UserError(
        "'" + printable(directory.string()) +
        "' already holds a run; give another --out, continue it with --resume, or replace it with "
        "--again");
  }
  replaces_ = true;
}

void RunDirectory::begin(int64_t step, const std::string& config_text) {
  if (replaces_) {
    for (const char* name : {"config.textproto", kMetrics, faults::kRecord, "checkpoints", "huggingface"}) {
      std::error_code error;
      fs::remove_all(directory_ / name, error);
      if (error) throw SystemError("cannot remove " + (directory_ / name).string(), error.value());
    }
  }
  if (goes_on_) go_back(step);
  write_file(directory_ / "config.textproto", config_text);
}

void RunDirectory::go_back(int64_t step) {
  const Path checkpoints = directory_ / "checkpoints";
  const auto left = outside_branch(known_steps(checkpoints, steps_of_run(checkpoints)), step);
  if (!left.empty()) say(set_aside(checkpoints, step, left, move_rows(directory_)));
}

}  // namespace toroid::train
