#include "simulate/answer/search.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "core/base/text.h"
#include "parallel/mesh/mesh.h"
#include "simulate/answer/sweep.h"
#include "train/config/batch_plan.h"
#include "train/config/load.h"

namespace toroid::train {
namespace {

constexpr int64_t kMostSequences = 64;  // of a microbatch that is tried
constexpr int64_t kPlayed = 4;          // microbatches of a longer step, and one fewer, that give the rest
constexpr int64_t kPlayedInFull = 32;   // microbatches
// Gathered weights take memory at stage 3 that they do not below it, and fewer microbatches have fewer
// gradients waiting to be added: only where the layout that should take the least is this far above the
// chip's memory are the others taken as refused.
constexpr double kFarAbove = 1.25;
// Of the chip's memory: closer to it than this, a short step does not tell whether a long one fits. Where
// blocks come to lie depends on the sizes of all others, the batch's among them, and gaps differ by so much.
constexpr double kUncertain = 0.03;

// Ordered factorisations of `chips` into at most `left` factors above 1.
void factorise(int64_t chips, size_t left, int64_t most, std::vector<int64_t>& head,
               std::vector<std::vector<int64_t>>& out) {
  if (chips == 1) {
    out.push_back(head.empty() ? std::vector<int64_t>{1} : head);
    return;
  }
  if (left == 0) return;
  for (int64_t factor = 2; factor <= std::min(chips, most); ++factor) {
    if (chips % factor != 0) continue;
    head.push_back(factor);
    factorise(chips / factor, left - 1, most, head, out);
    head.pop_back();
  }
}

bool has_room(const sim::Topology& topology, std::vector<int64_t> torus) {
  std::vector<int64_t> room = topology.pod;
  std::sort(room.rbegin(), room.rend());
  std::sort(torus.rbegin(), torus.rend());
  for (size_t i = 0; i < torus.size(); ++i) {
    if (torus[i] > (i < room.size() ? room[i] : 1)) return false;
  }
  return true;
}

std::vector<std::vector<int64_t>> tori(const sim::Topology& topology, int64_t chips) {
  std::vector<std::vector<int64_t>> out;
  std::vector<int64_t> head;
  const int64_t most = *std::max_element(topology.pod.begin(), topology.pod.end());
  factorise(chips, std::min<size_t>(topology.pod.size(), sim::kDimensions), most, head, out);
  std::erase_if(out, [&](const std::vector<int64_t>& torus) { return !has_room(topology, torus); });
  return out;
}

// "model.heads (16) is not a multiple of mesh.model (32)" -> the same for all numbers.
std::string without_figures(const std::string& message) {
  std::string out;
  for (size_t i = 0; i < message.size(); ++i) {
    if (std::isdigit(static_cast<unsigned char>(message[i])) == 0) {
      out += message[i];
    } else if (out.empty() || out.back() != 'n') {
      out += 'n';
    }
  }
  return out;
}

using GroupKey = std::tuple<int64_t, int64_t, std::vector<int64_t>>;  // model, sequences a replica, torus

class Searcher {
 public:
  Searcher(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
           const Answerer& answerer)
      : run_(run), chip_(chip), plugins_(plugins), answerer_(answerer), own_(layout_of(run)) {}

  Search run(const SearchOptions& options) {
    const Stopwatch watch;
    const mesh::Mesh mesh(run_.mesh());
    out_.chip = chip_.name;
    out_.nominal = !chip_.fitted && !chip_.measured;
    out_.chips = mesh.world_size();
    out_.pods = mesh.pods();
    out_.global_sequences = run_.batch().global_sequences();
    out_.ramps = BatchPlan(run_.batch()).ramps();
    out_.tokens_per_sequence = run_.batch().tokens_per_sequence();
    for (const LayoutChoice& layout : layout_choices(run_, chip_)) attempt(layout);
    play_the_best_in_full(options.best);
    std::stable_sort(out_.refused.begin(), out_.refused.end(),
                     [](const RefusedLayouts& a, const RefusedLayouts& b) { return a.count > b.count; });
    out_.took = watch.elapsed();
    return std::move(out_);
  }

 private:
  config::RunConfig config_of(const LayoutChoice& layout) const {
    return layout == own_ ? run_ : with_layout(run_, layout);
  }

  void attempt(const LayoutChoice& layout) {
    ++out_.tried;
    const GroupKey group{layout.model, layout.sequences_per_replica, layout.torus};
    if (const auto known = too_large_.find(group); known != too_large_.end() && !(layout == own_)) {
      ++out_.not_recorded;
      refuse(layout, kMemory, known->second);
      return;
    }
    if (const std::string* const known = refused_without_gathered(layout);
        known != nullptr && !(layout == own_)) {
      ++out_.not_recorded;
      refuse(layout, kMemory, *known);
      return;
    }
    try {
      const config::RunConfig run = config_of(layout);
      config::validate(run);
      const sim::Network network(mesh::Mesh(run.mesh()), chip_);  // refuses what the pod has no room for
      RankedLayout ranked = estimate(layout, run);
      if (ranked.memory.fits()) {
        out_.ranked.push_back(std::move(ranked));
        return;
      }
      const std::string reason = does_not_fit(ranked.memory);
      refuse(layout, kMemory, kMemory + (": " + reason));
      if (!layout.keep_gathered && !is_uncertain(ranked.memory))
        too_large_without_gathered_.emplace_back(
            layout, kMemory + (": without kept gathered inputs this layout " + reason));
      const double above =
          static_cast<double>(ranked.memory.peak_bytes) / static_cast<double>(ranked.memory.chip_bytes);
      if (!saves_all(layout) || above < kFarAbove) return;
      too_large_.emplace(group, kMemory + (": the leanest layout of this mesh and microbatch " + reason));
      for (int64_t more = 2 * layout.sequences_per_replica; more <= kMostSequences; more *= 2)
        too_large_.emplace(GroupKey{layout.model, more, layout.torus},
                           kMemory + (": with fewer sequences a replica this mesh " + reason));
    } catch (const UserError& error) {
      refuse(layout, without_figures(error.what()), error.what());
    }
  }

  // Why this layout without kept gathered inputs, which comes before it, did not fit; nullptr: it did.
  const std::string* refused_without_gathered(LayoutChoice layout) const {
    if (!std::exchange(layout.keep_gathered, false)) return nullptr;
    for (const auto& [known, message] : too_large_without_gathered_) {
      if (known == layout) return &message;
    }
    return nullptr;
  }

  // The first of its group that layout_choices() gives.
  static bool saves_all(const LayoutChoice& layout) {
    return layout.remat == config::TrainConfig::FULL && !layout.keep_gathered && layout.stage == 3 &&
           layout.prefetch == 0;
  }

  void refuse(const LayoutChoice& layout, const std::string& reason, const std::string& message) {
    if (layout == own_) out_.own_refusal = message;
    const auto found = std::find_if(out_.refused.begin(), out_.refused.end(),
                                    [&](const RefusedLayouts& each) { return each.reason == reason; });
    if (found != out_.refused.end()) {
      ++found->count;
    } else {
      out_.refused.push_back({reason, 1, layout, message});
    }
  }

  struct Played {
    Answer answer;
    std::array<Seconds, kQueues> waited{};
  };

  // Records without a play where they do not fit: what memory the step takes is then all that is known.
  Played play(const config::RunConfig& run, bool estimate = false) {
    const sim::Network network(mesh::Mesh(run.mesh()), chip_);
    Simulation simulation;
    if (estimate) {
      FirstChip first(run, chip_, plugins_);
      first.step();
      simulation.roles.push_back(first.recorded_step());
    } else {
      simulation.roles = record_roles(run, network.mesh(), chip_, plugins_);
    }
    simulation.fullest = fullest(simulation.roles);
    Played out;
    out.answer.memory = memory_of(simulation.roles[simulation.fullest], chip_);
    if (!out.answer.memory.fits()) return out;
    simulation = simulate_recorded(run, chip_, std::move(simulation.roles));
    return {answerer_(run, chip_, simulation), simulation.played.waited};
  }

  RankedLayout estimate(const LayoutChoice& layout, const config::RunConfig& run) {
    RankedLayout out;
    out.layout = layout;
    out.own = layout == own_;
    const int64_t round = sequences_a_round(run);
    out.microbatches = microbatches_of(run);
    out.padding =
        1 - static_cast<double>(out_.global_sequences) / static_cast<double>(out.microbatches * round);
    // Sums over microbatches are a binary tree in deterministic mode: no microbatch is like the one before.
    if (out.microbatches <= kPlayed || run.train().deterministic()) {
      take(out, play(run));
      out.in_full = true;
      return out;
    }
    config::RunConfig shorter = run;
    shorter.mutable_batch()->set_global_sequences(kPlayed * round);
    take(out, play(shorter, true));
    if (is_uncertain(out.memory)) {
      take(out, play(run));
      out.in_full = true;
      return out;
    }
    if (!out.memory.fits()) return out;
    const RankedLayout longer = out;
    shorter.mutable_batch()->set_global_sequences((kPlayed - 1) * round);
    take(out, play(shorter, true));
    const auto more = static_cast<double>(out.microbatches - kPlayed);
    const auto extend = [&](Seconds& shorter_time, const Seconds& longer_time) {
      shorter_time = longer_time + more * (longer_time - shorter_time);
    };
    for (Seconds TimeSplit::*part :
         {&TimeSplit::products, &TimeSplit::vector_bound, &TimeSplit::memory_bound, &TimeSplit::torus,
          &TimeSplit::pods, &TimeSplit::dispatch, &TimeSplit::bubbles})
      extend(out.split.*part, longer.split.*part);
    extend(out.step, longer.step);
    for (size_t q = 0; q < kQueues; ++q) extend(out.waited[q], longer.waited[q]);
    // From here on nothing that is held grows with the microbatches but the batch's tokens.
    const auto batch = [](const RankedLayout& of) {
      const auto found = of.memory.by_holder.find("batch");
      return found == of.memory.by_holder.end() ? 0 : found->second;
    };
    const int64_t growth = batch(longer) - batch(out);
    out.memory = longer.memory;
    out.memory.peak_bytes += (out.microbatches - kPlayed) * growth;
    rate(out);
    return out;
  }

  static bool is_uncertain(const MemoryAnswer& memory) {
    const auto chip = static_cast<double>(memory.chip_bytes);
    return std::abs(static_cast<double>(memory.peak_bytes) - chip) <= kUncertain * chip;
  }

  void take(RankedLayout& out, const Played& played) const {
    out.step = played.answer.step;
    out.split = played.answer.split;
    out.waited = played.waited;
    out.memory = played.answer.memory;
    rate(out);
  }

  void rate(RankedLayout& out) const {
    if (out.step.count() > 0)
      out.tokens_per_s = static_cast<double>(out_.global_sequences) *
                         static_cast<double>(out_.tokens_per_sequence) / out.step.count();
  }

  void sort() {
    std::stable_sort(out_.ranked.begin(), out_.ranked.end(), [](const auto& a, const auto& b) {
      // Steps that agree to a ten thousandth are equal.
      const auto place = [](const RankedLayout& each) {
        return std::llround(1e4 * std::log(each.step.count()));
      };
      return std::pair(place(a), a.memory.peak_bytes) < std::pair(place(b), b.memory.peak_bytes);
    });
  }

  void play_the_best_in_full(size_t best) {
    while (true) {
      sort();
      size_t at = 0;
      for (; at < out_.ranked.size(); ++at) {
        const RankedLayout& each = out_.ranked[at];
        if (!each.in_full && each.microbatches <= kPlayedInFull && (at < best || each.own)) break;
      }
      if (at == out_.ranked.size()) return;
      RankedLayout& each = out_.ranked[at];
      take(each, play(config_of(each.layout)));
      each.in_full = true;
      if (each.memory.fits()) continue;
      refuse(each.layout, kMemory, kMemory + (": " + does_not_fit(each.memory)));
      out_.ranked.erase(out_.ranked.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }

  static constexpr const char* kMemory = "does not fit in memory";  // as a reason

  const config::RunConfig& run_;
  const sim::Chip& chip_;
  const Plugins& plugins_;
  const Answerer& answerer_;
  LayoutChoice own_;
  Search out_;
  std::map<GroupKey, std::string> too_large_;
  std::vector<std::pair<LayoutChoice, std::string>> too_large_without_gathered_;
};

}  // namespace

std::string LayoutChoice::text() const {
  std::string sizes;
  for (const int64_t size : torus) sizes += (sizes.empty() ? "" : " x ") + std::to_string(size);
  return "torus " + sizes + ", data " + std::to_string(data) + ", model " + std::to_string(model) + ", " +
         std::to_string(sequences_per_replica) + (sequences_per_replica == 1 ? " sequence" : " sequences") +
         " a replica, remat " + config::TrainConfig::Remat_Name(remat) +
         (keep_gathered ? " and gathered inputs" : "") + ", prefetch " + std::to_string(prefetch) +
         ", ZeRO-" + std::to_string(stage);
}

LayoutChoice layout_of(const config::RunConfig& run) {
  LayoutChoice out;
  const mesh::Mesh mesh(run.mesh());
  for (const auto& dimension : mesh.torus()) out.torus.push_back(dimension.size);
  out.data = run.mesh().data();
  out.model = run.mesh().model();
  out.sequences_per_replica = run.batch().sequences_per_replica();
  out.remat = run.train().remat();
  out.keep_gathered = run.train().keep_gathered() && out.model > 1;
  out.prefetch = run.zero().prefetch();
  out.stage = run.zero().stage();
  return out;
}

config::RunConfig with_layout(const config::RunConfig& run, const LayoutChoice& layout) {
  config::RunConfig out = run;
  config::MeshConfig& mesh = *out.mutable_mesh();
  mesh.clear_placement();
  mesh.clear_torus();
  for (const int64_t size : layout.torus) mesh.add_torus(size);
  mesh.set_data(layout.data);
  mesh.set_model(layout.model);
  out.mutable_batch()->set_sequences_per_replica(layout.sequences_per_replica);
  out.mutable_train()->set_remat(layout.remat);
  out.mutable_train()->set_keep_gathered(layout.keep_gathered);
  out.mutable_zero()->set_prefetch(layout.prefetch);
  out.mutable_zero()->set_stage(layout.stage);
  return out;
}

std::vector<LayoutChoice> layout_choices(const config::RunConfig& run, const sim::Chip& chip) {
  const LayoutChoice own = layout_of(run);
  const int64_t chips = mesh::Mesh(run.mesh()).pod_size();
  std::vector<std::vector<int64_t>> shapes = tori(chip.topology, chips);
  if (std::find(shapes.begin(), shapes.end(), own.torus) == shapes.end()) shapes.push_back(own.torus);
  std::vector<LayoutChoice> out;
  const auto add = [&](const LayoutChoice& layout) {
    for (const auto& torus : shapes) {
      out.push_back(layout);
      out.back().torus = torus;
    }
  };
  for (int64_t model = 1; model <= chips; ++model) {
    if (chips % model != 0) continue;
    LayoutChoice layout = own;
    layout.model = model;
    layout.data = chips / model;
    const int64_t replicas = run.mesh().pods() * layout.data;
    const int64_t each = divide_up(run.batch().global_sequences(), replicas);
    std::set<int64_t> sequences;
    for (int64_t count = 1; count <= std::min(each, kMostSequences); count *= 2) sequences.insert(count);
    if (run.train().deterministic()) sequences = {own.sequences_per_replica};
    for (const int64_t count : sequences) {
      layout.sequences_per_replica = count;
      for (const auto remat :
           {config::TrainConfig::FULL, config::TrainConfig::CHEAP, config::TrainConfig::NONE}) {
        layout.remat = remat;
        for (const bool keep_gathered : {false, true}) {
          if (keep_gathered && model == 1) continue;
          layout.keep_gathered = keep_gathered;
          layout.stage = 3;
          for (const int64_t prefetch : {0, 1, 2}) {
            layout.prefetch = prefetch;
            add(layout);
            if (layout.data == 1) break;  // nothing is gathered or sharded
          }
          layout.prefetch = own.prefetch;
          for (const int64_t stage : {2, 1}) {
            layout.stage = stage;
            if (layout.data > 1) add(layout);
          }
        }
      }
    }
  }
  if (std::find(out.begin(), out.end(), own) == out.end()) out.push_back(own);
  return out;
}

const RankedLayout* Search::own() const {
  const auto found = std::find_if(ranked.begin(), ranked.end(), [](const auto& each) { return each.own; });
  return found == ranked.end() ? nullptr : &*found;
}

Search search(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
              const Answerer& answerer, const SearchOptions& options) {
  return Searcher(run, chip, plugins, answerer).run(options);
}

}  // namespace toroid::train
