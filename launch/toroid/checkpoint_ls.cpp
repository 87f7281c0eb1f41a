// toroid checkpoint ls: the checkpoints of a run.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/text.h"
#include "launch/toroid/checkpoint_json.h"
#include "launch/toroid/verb.h"
#include "train/checkpoint/inventory.h"
#include "train/checkpoint/keep.h"

namespace toroid::launch {
namespace {

using Json = nlohmann::ordered_json;

struct LsFlags {
  std::string run;
  bool verify = false, json = false;
};

constexpr const char* kBranches[] = {"current", "left", "aside"};

std::string name_of(const ListedStep& step) {
  return (step.aside.empty() ? "" : step.aside + "/") + std::to_string(step.step);
}

std::string state_of(const ListedStep& step) {
  std::string state = step.check.whole() ? "whole" : "damaged";
  if (step.branch == Branch::left) state += ", other branch";
  if (step.branch == Branch::aside) state += ", set aside";
  return state;
}

class Listing {
 public:
  explicit Listing(const LsFlags& flags) : flags_(flags) {
    const CheckOptions options{.depth = flags.verify ? Depth::contents : Depth::lengths,
                               .threads = reading_threads()};
    if (is_checkpoint(flags.run)) {
      inventory_ = {run_of_checkpoint(flags.run), {list_step(flags.run, options)}, {}};
    } else {
      inventory_ = list_run(flags.run, options);
    }
  }

  void print_json() const {
    Json steps = Json::array();
    for (const ListedStep& step : inventory_.steps) steps.push_back(json_of(step));
    print_line(Json{{"run", inventory_.run.string()},
                    {"checked", flags_.verify ? "contents" : "lengths"},
                    {"steps", std::move(steps)},
                    {"unfinished", inventory_.unfinished}}
                   .dump(1));
  }

  void print() const {
    int64_t bytes = 0, damaged = 0;
    size_t width = 4, states = 5;
    for (const ListedStep& step : inventory_.steps) {
      bytes += step.check.bytes;
      damaged += step.check.whole() ? 0 : 1;
      width = std::max(width, name_of(step).size());
      states = std::max(states, state_of(step).size());
    }
    print_line(fmt::format("{}: {} checkpoints, {}{}", printable(inventory_.run.string()),
                           inventory_.steps.size(), human_bytes(bytes), run_text()));
    if (inventory_.steps.empty()) return;
    print_line(fmt::format("  {:>{}}  {:<{}}  {:<19}  {:>9}  {:>5}  {:>8}  {}", "step", width, "state",
                           states, "saved", "bytes", "ranks", "parent", "validation loss"));
    for (const ListedStep& step : inventory_.steps) {
      const Manifest* manifest = step.check.manifest ? &*step.check.manifest : nullptr;
      const auto parent = manifest == nullptr ? std::nullopt : manifest->state.lineage.parent;
      const auto loss = loss_of(step);
      print_line(fmt::format("  {:>{}}  {:<{}}  {:<19}  {:>9}  {:>5}  {:>8}  {}", name_of(step), width,
                             state_of(step), states, time_text(step.saved), human_bytes(step.check.bytes),
                             manifest == nullptr ? "?" : std::to_string(manifest->world_size),
                             parent ? std::to_string(parent->step) : "-",
                             loss ? fmt::format("{:.4f}", *loss) : "-"));
    }
    for (const ListedStep& step : inventory_.steps) {
      for (const Fault& fault : step.check.faults) {
        print_line("  " + name_of(step) + ": " + to_text(fault));
      }
    }
    for (const std::string& name : inventory_.unfinished) {
      print_line("  " + printable(name) + " was left by something that was stopped");
    }
    if (!flags_.verify) print_line("  whole: by manifest and lengths; --verify reads all bytes");
    if (damaged > 0 && !flags_.verify) {
      print_line("  " + std::to_string(damaged) + " damaged; see toroid checkpoint verify");
    }
  }

 private:
  static std::optional<double> loss_of(const ListedStep& step) {
    if (!step.check.manifest) return std::nullopt;
    return validation_loss(step.check.manifest->state);
  }

  std::string run_text() const {
    for (auto step = inventory_.steps.rbegin(); step != inventory_.steps.rend(); ++step) {
      if (step->check.manifest && !step->check.manifest->state.lineage.run.empty()) {
        return ", run " + step->check.manifest->state.lineage.run;
      }
    }
    return "";
  }

  Json json_of(const ListedStep& step) const {
    Json json{{"step", step.step},
              {"directory", step.check.directory.string()},
              {"whole", step.check.whole()},
              {"branch", kBranches[static_cast<size_t>(step.branch)]},
              {"saved", time_text(step.saved)},
              {"bytes", step.check.bytes}};
    if (step.check.manifest) {
      const Manifest& manifest = *step.check.manifest;
      json["world_size"] = manifest.world_size;
      json["files"] = manifest.files.size();
      json["run"] = manifest.state.lineage.run;
      json["seal"] = manifest.seal;
      json["parent"] = nullptr;
      if (const auto& parent = manifest.state.lineage.parent) {
        json["parent"] = {{"step", parent->step}, {"seal", parent->seal}};
      }
    }
    const auto loss = loss_of(step);
    json["validation_loss"] = loss ? Json(*loss) : Json(nullptr);
    json["faults"] = faults_json(step.check.faults);
    return json;
  }

  const LsFlags& flags_;
  Inventory inventory_;
};

ExitCode run(const LsFlags& flags) {
  const Listing listing(flags);
  if (flags.json) {
    listing.print_json();
  } else {
    listing.print();
  }
  return ExitCode::done;
}

}  // namespace

void add_checkpoint_ls(Verbs& verbs) {
  auto flags = std::make_shared<LsFlags>();
  CLI::App& app = verbs.add("checkpoint ls", "List the checkpoints of a run", "Training",
                            [flags] { return run(*flags); });
  app.add_option("RUN", flags->run, "A run, or one of its checkpoints/step-N")->required();
  app.add_flag("--verify", flags->verify, "Read all bytes and compare their hashes");
  app.add_flag("--json", flags->json, "For programs");
}

}  // namespace toroid::launch
