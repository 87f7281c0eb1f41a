// toroid checkpoint verify: every byte of a checkpoint, or of all of a run's, against its hashes.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/clock.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "launch/toroid/checkpoint_json.h"
#include "launch/toroid/verb.h"
#include "train/checkpoint/inventory.h"

namespace toroid::launch {
namespace {

using Json = nlohmann::ordered_json;

struct VerifyFlags {
  std::string path;
  int threads = reading_threads();
  bool cached = false, json = false;
};

void print(const ListedStep& step) {
  const StepCheck& check = step.check;
  const std::string name = printable(check.directory.string());
  if (check.whole()) {
    print_line(fmt::format("{}: whole, {} files of {} ranks, {} tensors, {}", name,
                           check.manifest->files.size(), check.manifest->world_size,
                           check.manifest->tensors.size(), human_bytes(check.bytes)));
    return;
  }
  print_line(fmt::format("{}: DAMAGED, {} {}", name, check.faults.size(),
                         check.faults.size() == 1 ? "fault" : "faults"));
  for (const Fault& fault : check.faults) print_line("  " + to_text(fault));
}

ExitCode run(const VerifyFlags& flags) {
  check_range("--threads", flags.threads, int64_t{1}, int64_t{1024});
  const CheckOptions options{.from_disk = !flags.cached, .threads = flags.threads};
  const Stopwatch watch;
  std::vector<ListedStep> steps;
  if (is_checkpoint(flags.path)) {
    steps.push_back(list_step(flags.path, options));
  } else {
    steps = list_run(flags.path, options).steps;
  }
  const double seconds = watch.elapsed().count();
  int64_t read = 0, damaged = 0;
  Json listed = Json::array();
  for (const ListedStep& step : steps) {
    read += step.check.bytes_read;
    damaged += step.check.whole() ? 0 : 1;
    if (!flags.json) print(step);
    listed.push_back({{"step", step.step},
                      {"directory", step.check.directory.string()},
                      {"whole", step.check.whole()},
                      {"bytes_read", step.check.bytes_read},
                      {"faults", faults_json(step.check.faults)}});
  }
  if (steps.empty()) throw UserError(in_quotes(flags.path) + " has no checkpoints to verify");
  if (flags.json) {
    print_line(Json{
        {"whole", damaged == 0}, {"bytes_read", read}, {"seconds", seconds}, {"steps", std::move(listed)}}
                   .dump(1));
  } else {
    print_line(fmt::format("{} of {} checkpoints whole; {} read in {:.2f} s ({:.2f} GB/s)",
                           static_cast<int64_t>(steps.size()) - damaged, steps.size(), human_bytes(read),
                           seconds, static_cast<double>(read) / 1e9 / std::max(seconds, 1e-9)));
  }
  return damaged == 0 ? ExitCode::done : ExitCode::bad_input;
}

}  // namespace

void add_checkpoint_verify(Verbs& verbs) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App& app = verbs.add("checkpoint verify",
                            "Read checkpoints and name all that is damaged; ends with 2 where something is",
                            "Training", [flags] { return run(*flags); });
  app.add_option("RUN", flags->path, "A run (all of its checkpoints) or one checkpoints/step-N")->required();
  app.add_option("--threads", flags->threads, "Files read at once")->capture_default_str();
  app.add_flag("--cached", flags->cached,
               "Take what memory holds of the files, instead of reading the disk's own copy");
  app.add_flag("--json", flags->json, "For programs");
}

}  // namespace toroid::launch
