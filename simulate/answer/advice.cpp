#include "simulate/answer/advice.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "simulate/answer/estimate.h"
#include "train/config/load.h"
#include "train/report/memory_report.h"

namespace toroid::train {
namespace {

struct Variant {
  std::string text;  // "train.remat=FULL"
  config::RunConfig run;
  bool waits_alone = false;  // has the same operators: at best nothing waits any more
};

class Variants {
 public:
  explicit Variants(const config::RunConfig& run) : run_(run) {}

  template <class Apply>
  void add(const std::string& text, const Apply& apply, bool waits_alone = false) {
    Variant change{text, run_, waits_alone};
    apply(change.run);
    try {
      config::validate(change.run);
    } catch (const UserError&) {
      return;  // the change alone makes no valid config
    }
    changes_.push_back(std::move(change));
  }
  void add_gathered() {
    if (run_.train().keep_gathered() || run_.mesh().model() == 1) return;
    add("train.keep_gathered=true",
        [&](config::RunConfig& run) { run.mutable_train()->set_keep_gathered(true); });
  }
  void add_remat(config::TrainConfig::Remat remat) {
    if (run_.train().remat() == remat) return;
    add("train.remat=" + config::TrainConfig::Remat_Name(remat),
        [&](config::RunConfig& run) { run.mutable_train()->set_remat(remat); });
  }
  void add_sequences(int64_t sequences) {
    const int64_t now = run_.batch().sequences_per_replica();
    const int64_t of_a_replica = run_.batch().global_sequences() / (run_.mesh().pods() * run_.mesh().data());
    if (sequences < 1 || sequences == now || sequences > of_a_replica) return;
    add("batch.sequences_per_replica=" + std::to_string(sequences),
        [&](config::RunConfig& run) { run.mutable_batch()->set_sequences_per_replica(sequences); });
  }
  void add_prefetch(int64_t prefetch) {
    if (prefetch < 0 || prefetch == run_.zero().prefetch()) return;
    add(
        "zero.prefetch=" + std::to_string(prefetch),
        [&](config::RunConfig& run) { run.mutable_zero()->set_prefetch(prefetch); }, true);
  }
  void add_stage(int64_t stage) {
    if (stage == run_.zero().stage()) return;
    add("zero.stage=" + std::to_string(stage),
        [&](config::RunConfig& run) { run.mutable_zero()->set_stage(stage); });
  }
  // With as many chips in a pod.
  void add_model(int64_t model) {
    const int64_t chips = run_.mesh().data() * run_.mesh().model();
    if (model < 1 || model == run_.mesh().model() || chips % model != 0) return;
    add(fmt::format("mesh.model={} with mesh.data={}", model, chips / model), [&](config::RunConfig& run) {
      run.mutable_mesh()->set_model(model);
      run.mutable_mesh()->set_data(chips / model);
      run.mutable_mesh()->clear_placement();
    });
  }
  const std::vector<Variant>& all() const { return changes_; }

 private:
  config::RunConfig run_;
  std::vector<Variant> changes_;
};

// Nothing where no chip can run it.
template <class Judge>
std::optional<Estimate> attempt(const Judge& judge) {
  try {
    return judge();
  } catch (const UserError&) {
    return std::nullopt;
  }
}

int64_t peak_of(const Simulation& simulation) {
  return simulation.roles[simulation.fullest].placed_bytes;
}

}  // namespace

void require_room(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation,
                  const Plugins& plugins) {
  const int64_t peak = peak_of(simulation);
  if (peak <= chip.memory_bytes) return;
  Variants changes(run);
  changes.add_remat(config::TrainConfig::CHEAP);
  changes.add_remat(config::TrainConfig::FULL);
  for (int64_t sequences = run.batch().sequences_per_replica() / 2; sequences >= 1; sequences /= 2)
    changes.add_sequences(sequences);
  changes.add_prefetch(0);
  changes.add_stage(3);
  for (int64_t model = 2; model <= 16; model *= 2) {
    if (model > run.mesh().model()) changes.add_model(model);
  }
  std::string fits;
  for (const Variant& change : changes.all()) {
    const auto tried = attempt([&] { return estimate_in_full(change.run, chip, plugins); });
    if (!tried || tried->peak_bytes > chip.memory_bytes) continue;
    fits = "with " + change.text + " it would take " + human_bytes(tried->peak_bytes) + " and fit";
    break;
  }
  if (fits.empty()) {
    fits = "of " + std::to_string(changes.all().size()) +
           " single changes that were tried (recomputation, smaller microbatches, prefetch, ZeRO stage, a "
           "larger model axis) none makes it fit; combine them or take more chips";
  }
  throw UserError("the simulated step takes " + human_bytes(peak) + " of memory at its peak, and chip " +
                  chip.name + " has " + human_bytes(chip.memory_bytes) + "; the most is held by " +
                  largest_holders(simulation.roles[simulation.fullest].memory.peak_by_holder) + "; " + fits);
}

std::string what_would_help(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation,
                            const Plugins& plugins, const AnswerOptions& options) {
  Variants changes(run);
  changes.add_sequences(2 * run.batch().sequences_per_replica());
  changes.add_remat(config::TrainConfig::CHEAP);
  changes.add_remat(config::TrainConfig::NONE);
  changes.add_gathered();
  changes.add_model(run.mesh().model() / 2);
  changes.add_model(run.mesh().model() * 2);
  changes.add_prefetch(run.zero().prefetch() + 1);  // last: the gain of others may be out of its reach
  const Seconds now = step_time(run, chip, simulation.played.step, options);
  const auto gain = [&](const config::RunConfig& changed, Seconds played) {
    return 100 * (now / step_time(changed, chip, played, options) - 1);
  };
  struct Tried {
    const Variant* change = nullptr;
    std::unique_ptr<Estimator> estimator;
    double percent = 0;
  };
  std::vector<Tried> tried;
  double most = 0;
  // Whether the change runs and fits.
  const auto judge = [&](Tried& one, const auto& how) {
    const auto found = attempt(how);
    if (!found || found->peak_bytes > chip.memory_bytes) return false;
    one.percent = gain(one.change->run, found->step);
    most = std::max(most, one.percent);
    return true;
  };
  // A short step is as quickly simulated, and the first one of a run is less like those that follow.
  constexpr size_t kShort = 5000;
  const bool is_short = simulation.roles[0].records().size() < kShort;
  const sim::Played& played = simulation.played;
  const Seconds work = played.products + played.vector_bound + played.memory_bound;
  for (const Variant& change : changes.all()) {
    if (change.waits_alone && gain(run, work) <= most) continue;
    Tried one{&change, {}, 0};
    const bool fits = judge(one, [&] {
      if (is_short) return estimate_in_full(change.run, chip, plugins);
      one.estimator = std::make_unique<Estimator>(change.run, chip, plugins);
      return one.estimator->next_step();
    });
    if (fits) tried.push_back(std::move(one));
  }
  constexpr double kNear = 2;  // percent by which a first step may mislead
  if (!is_short) {
    const double near = std::exchange(most, 0) - kNear;
    std::erase_if(tried, [&](Tried& one) {
      return one.percent < near || one.percent <= 0 ||
             !judge(one, [&] { return one.estimator->next_step(); });
    });
  }
  const auto best = std::max_element(tried.begin(), tried.end(),
                                     [](const Tried& a, const Tried& b) { return a.percent < b.percent; });
  constexpr double kWorthAWord = 1;  // percent
  std::string out =
      most > kWorthAWord
          ? fmt::format("{} gives {:.0f} % more tokens a second", best->change->text, most)
          : fmt::format(
                "none of {} single changes of the config that were tried gives 1 % more tokens a second",
                changes.all().size());
  if (run.mesh().pods() * run.mesh().data() * run.mesh().model() == 1) return out;
  sim::Chip faster = chip;
  faster.topology.bytes_per_s *= 2;
  faster.host.chip_bytes_per_s *= 2;
  // Of the first chip alone, as the changes above.
  const auto first = std::span(simulation.roles).first(1);
  return out + fmt::format("; links twice as fast would give {:.0f} %",
                           gain(run, play_step(run, faster, first).step));
}

}  // namespace toroid::train
