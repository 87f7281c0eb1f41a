// What a search found, as tables and sentences.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>

#include "core/base/text.h"
#include "simulate/answer/search.h"

namespace toroid::train {
namespace {

struct LayoutDifference {
  std::string name;
  double own = 0, best = 0;  // seconds
  double less() const { return own - best; }
};

std::vector<LayoutDifference> differences(const RankedLayout& own, const RankedLayout& best) {
  const auto waited = [](const RankedLayout& of, Queue queue) {
    return of.waited[static_cast<size_t>(queue)].count();
  };
  std::vector<LayoutDifference> out = {
      {"time in products", own.split.products.count(), best.split.products.count()},
      {"time in operators that vector units or memory bound", own.split.other_operators().count(),
       best.split.other_operators().count()}};
  const std::pair<Queue, const char*> queues[] = {{Queue::gather, "waiting for weights on the data axis"},
                                                  {Queue::reduce, "waiting for gradients on the data axis"},
                                                  {Queue::model, "waiting for the model axis"},
                                                  {Queue::pod, "waiting for other pods"}};
  for (const auto& [queue, name] : queues) out.push_back({name, waited(own, queue), waited(best, queue)});
  out.push_back({"waiting for dispatch", own.split.dispatch.count(), best.split.dispatch.count()});
  std::stable_sort(out.begin(), out.end(),
                   [](const LayoutDifference& a, const LayoutDifference& b) { return a.less() > b.less(); });
  return out;
}

std::string sizes(const std::vector<int64_t>& torus) {
  std::string out;
  for (const int64_t size : torus) out += (out.empty() ? "" : "x") + std::to_string(size);
  return out;
}

std::string instead(const LayoutChoice& own, const LayoutChoice& best) {
  std::string out;
  const auto note = [&](const char* name, const std::string& now, const std::string& then) {
    if (now != then) out += (out.empty() ? "" : ", ") + std::string(name) + " " + now + " instead of " + then;
  };
  const auto count = [&](const char* name, int64_t now, int64_t then) {
    note(name, std::to_string(now), std::to_string(then));
  };
  note("torus", sizes(best.torus), sizes(own.torus));
  count("data", best.data, own.data);
  count("model", best.model, own.model);
  count("sequences a replica", best.sequences_per_replica, own.sequences_per_replica);
  note("remat", config::TrainConfig::Remat_Name(best.remat), config::TrainConfig::Remat_Name(own.remat));
  const auto gathered = [](const LayoutChoice& of) {
    return std::string(of.keep_gathered ? "kept" : "dropped");
  };
  note("gathered inputs", gathered(best), gathered(own));
  count("prefetch", best.prefetch, own.prefetch);
  count("ZeRO stage", best.stage, own.stage);
  return out;
}

void print_row(std::ostream& out, size_t rank, const RankedLayout& each) {
  const LayoutChoice& l = each.layout;
  const TimeSplit& s = each.split;
  out << fmt::format("{:4}{}  {:<8} {:5} {:5} {:5} {:5}  {:<6} {:3} {:4}", rank, each.own ? "*" : " ",
                     sizes(l.torus), l.data, l.model, l.sequences_per_replica, each.microbatches,
                     config::TrainConfig::Remat_Name(l.remat) + (l.keep_gathered ? "+" : ""), l.prefetch,
                     l.stage)
      << fmt::format(" {:3.0f}% {:8.3f}{} {:8.3f} {:7.3f} {:7.3f} {:7.3f} {:7.3f} {:>12} {:>9}\n",
                     100 * each.padding, each.step.count(), each.in_full ? " " : "~", s.products.count(),
                     s.other_operators().count(), s.torus.count(), s.pods.count(), s.rest().count(),
                     with_commas(static_cast<int64_t>(each.tokens_per_s)),
                     human_bytes(each.memory.peak_bytes));
}

}  // namespace

std::string why_best(const Search& search) {
  if (search.ranked.empty()) return "No layout of those tried runs on these chips.";
  const RankedLayout& best = search.ranked.front();
  const RankedLayout* own = search.own();
  if (own == nullptr) return "The config's own layout does not run: " + search.own_refusal + ".";
  if (own == &best) return "The config's own layout is the best of those tried.";
  std::string out =
      fmt::format("The best takes {:.3f} s a step, the config's own layout {:.3f} s (simulated)",
                  best.step.count(), own->step.count());
  out += fmt::format(": {:.2f} times the tokens/s", best.tokens_per_s / own->tokens_per_s);
  out += ", by " + instead(own->layout, best.layout) + ". ";
  // What makes out most of the difference, and what speaks against it.
  const double all = (own->step - best.step).count();
  std::string gains, losses;
  const std::vector<LayoutDifference> parts = differences(*own, best);
  for (const LayoutDifference& part : parts) {
    const auto seconds = fmt::format(" ({:.3f} s to {:.3f} s)", part.own, part.best);
    if (part.less() > 0.02 * all && part.less() > 1e-6)
      gains += (gains.empty() ? "less " : ", less ") + part.name + seconds;
    if (part.less() < -0.02 * all && part.less() < -1e-6)
      losses += (losses.empty() ? "more " : ", more ") + part.name + seconds;
  }
  if (!gains.empty()) out += "It has " + gains + (losses.empty() ? "" : ", but " + losses) + "; it needs ";
  if (gains.empty()) out += "It needs ";
  const int64_t more = best.memory.peak_bytes - own->memory.peak_bytes;
  out += human_bytes(std::llabs(more)) + (more >= 0 ? " more" : " less") + " memory (" +
         human_bytes(best.memory.peak_bytes) + " of " + human_bytes(best.memory.chip_bytes) + ").";
  return out;
}

void print_search(std::ostream& out, const Search& search, const SearchOptions& options) {
  out << "simulated: layouts on " << with_commas(search.chips) << " chips " << printable(search.chip)
      << (search.nominal ? " (nominal constants, not validated)" : "") << " in " << search.pods
      << (search.pods == 1 ? " pod" : " pods") << ", " << with_commas(search.global_sequences)
      << " sequences of " << with_commas(search.tokens_per_sequence) << " tokens a step"
      << (search.ramps ? ", the last phase of batch.ramp" : "")
      << "; seconds of a step, and what they go to\n\n"
      << "rank   torus     data model  seqs micro  remat  pre ZeRO  pad     step  products  others   torus   "
         " "
         "pods    rest     tokens/s       HBM\n";
  const RankedLayout* own = search.own();
  bool about = false;
  for (size_t i = 0; i < search.ranked.size(); ++i) {
    const RankedLayout& each = search.ranked[i];
    if (i >= options.best && &each != own) continue;
    print_row(out, i + 1, each);
    about = about || !each.in_full;
  }
  out << "seqs: sequences of a microbatch on a replica; micro: microbatches of a step; remat +: gathered "
         "inputs kept; pre: units gathered ahead; pad: masked sequences; others: operators that vector units "
         "or "
         "memory bound; rest: dispatch and bubbles; * the "
         "config's own layout\n";
  if (about) out << "~ from its first four microbatches\n";
  if (own != nullptr) {
    out << "\nThe config's own layout ranks " << (own - search.ranked.data() + 1) << " of "
        << search.ranked.size() << ".";
  }
  out << "\n" << printable(why_best(search), 2000) << "\n";
  if (!search.refused.empty()) out << "\nrefused\n";
  for (const RefusedLayouts& each : search.refused) {
    out << fmt::format("{:6}  ", each.count) << printable(each.message, 500) << "\n        for example "
        << each.example.text() << "\n";
  }
  int64_t refused = 0;
  for (const RefusedLayouts& each : search.refused) refused += each.count;
  out << fmt::format("\n{} layouts tried in {:.1f} s: {} run, {} refused", search.tried, search.took.count(),
                     search.ranked.size(), refused);
  if (search.not_recorded > 0)
    out << ", " << search.not_recorded << " of them without a record because a leaner layout does not fit";
  out << "\n";
}

}  // namespace toroid::train
