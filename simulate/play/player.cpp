#include "simulate/play/player.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "simulate/play/role.h"
#include "simulate/play/transits.h"

namespace toroid::sim {
namespace {

constexpr double kNoEnd = std::numeric_limits<double>::infinity();
constexpr size_t kAxes = std::tuple_size_v<decltype(PlayedChip::group)>;

// When an entry was done, and of a transfer when all chips were there and when this one was.
struct End {
  double time = 0, begun = 0, arrived = 0;
};

struct ChipState {
  std::array<uint32_t, kQueues> at{};    // the entry that each lane is at
  std::array<uint32_t, kQueues> done{};  // entries of each queue
  std::array<double, kQueues> time{};    // until which each lane has been played
  std::array<bool, kQueues> in_transit{};
  End* ends = nullptr;
  double owed = 0;  // what operators still lose to collectives that took their cores
  std::vector<std::pair<double, double>> working;  // when operators ran, where they lose time
};

// Each lane of each chip is played as far as it can be without knowing when a collective ends; what is left
// to be played in the order of time is collectives alone.
class Player {
 public:
  Player(const Chip& chip, Network& network, const std::vector<StepRecords>& roles,
         const std::vector<PlayedChip>& chips, const PlayOptions& options)
      : network_(options.schedule, network),
        chips_(chips),
        options_(options),
        transits_(chips.size()),
        states_(chips.size()),
        sums_(chips.size()) {
    for (const auto& role : roles) roles_.push_back(role_of(chip, network_, role));
    size_t ends = 0;
    for (const PlayedChip& each : chips) ends += static_cast<size_t>(roles_[each.role].ends);
    ends_.resize(ends);
    ends = 0;
    for (size_t c = 0; c < chips.size(); ++c) {
      states_[c].ends = ends_.data() + ends;
      ends += static_cast<size_t>(role(c).ends);
      for (size_t axis = 0; axis < kAxes; ++axis) {
        const auto group = static_cast<size_t>(chips[c].group[axis]);
        if (members_[axis].size() <= group) members_[axis].resize(group + 1);
        ++members_[axis][group];
      }
    }
    for (size_t axis = 0; axis < kAxes; ++axis) waiting_[axis].resize(members_[axis].size() * kQueues, kNone);
  }

  Played run() {
    for (size_t c = 0; c < chips_.size(); ++c) advance(c);
    while (transits_.next() < kNoEnd) {
      now_ = std::max(now_, transits_.next());
      if (const auto over = transits_.advance()) finish(*over);
    }
    return result();
  }

 private:
  static constexpr Transits::Number kNone = std::numeric_limits<Transits::Number>::max();

  const Role& role(size_t c) const { return roles_[chips_[c].role]; }

  void advance(size_t c) {
    for (bool again = true; again;) {
      again = false;
      for (size_t lane = 0; lane < kQueues; ++lane) again = play_lane(c, lane) || again;
    }
  }

  // As far as it goes; whether that was at all.
  bool play_lane(size_t c, size_t lane) {
    ChipState& state = states_[c];
    const std::vector<Entry>& entries = role(c).lanes[lane];
    const uint32_t from = state.at[lane];
    while (!state.in_transit[lane] && state.at[lane] < entries.size()) {
      const Entry& entry = entries[state.at[lane]];
      if (entry.kind == Entry::Kind::wait) {
        if (state.done[static_cast<size_t>(entry.queue)] < entry.done) break;
        pass_wait(c, lane, entry);
        ++state.at[lane];
      } else if (entry.kind == Entry::Kind::transfer) {
        state.in_transit[lane] = true;
        join(c, lane, entry);
        return true;
      } else {
        work(c, lane, entry);
        ++state.at[lane];
      }
    }
    return state.at[lane] != from;
  }

  void work(size_t c, size_t lane, const Entry& entry) {
    ChipState& state = states_[c];
    Played& sum = sums_[c];
    const double begin = state.time[lane];
    double seconds = entry.seconds;
    if (entry.kind == Entry::Kind::work) {
      seconds *= chips_[c].slowness;
      if (lane == 0) seconds += std::exchange(state.owed, 0);
      complete(state, entry, {begin + seconds, 0, 0});
    }
    state.time[lane] = begin + seconds;
    if (lane == 0) {
      if (entry.kind == Entry::Kind::stall) {
        sum.waited[static_cast<size_t>(entry.queue)] += Seconds(seconds);
      } else if (entry.bound == OperatorTime::Bound::memory) {
        sum.memory_bound += Seconds(seconds);
      } else {
        (entry.bound == OperatorTime::Bound::vector ? sum.vector_bound : sum.products) += Seconds(seconds);
      }
      sum.phases[static_cast<size_t>(entry.record->phase)] += Seconds(seconds);
      if (role(c).loses) state.working.emplace_back(begin, begin + seconds);
    }
    note_span(c, *entry.record, begin, begin + seconds);
  }

  static void complete(ChipState& state, const Entry& entry, const End& end) {
    ++state.done[static_cast<size_t>(entry.queue)];
    if (entry.end != Entry::kNobody) state.ends[entry.end] = end;
  }

  void pass_wait(size_t c, size_t lane, const Entry& entry) {
    ChipState& state = states_[c];
    const End& end = state.ends[entry.end];
    const double begin = state.time[lane];
    if (end.time <= begin) return;
    state.time[lane] = end.time;
    if (lane == 0) note_waited(c, entry.queue, begin, end, phase_after(role(c).lanes[0], state.at[0]));
    note_span(c, *entry.record, begin, end.time);
  }

  // Of the time since `begin`, what passed after this chip had come to the collective and before the last one
  // had is others' lateness.
  void note_waited(size_t c, Queue queue, double begin, const End& end, Phase phase) {
    Played& sum = sums_[c];
    const double late = std::max(0.0, end.begun - std::max(end.arrived, begin));
    sum.late += Seconds(late);
    sum.waited[static_cast<size_t>(queue)] += Seconds(end.time - begin - late);
    sum.phases[static_cast<size_t>(phase)] += Seconds(end.time - begin);
  }

  static Phase phase_after(const std::vector<Entry>& entries, size_t at) {
    for (; at < entries.size(); ++at) {
      if (entries[at].record->kind == Record::Kind::launch) return entries[at].record->phase;
    }
    return Phase::optimizer;
  }

  void note_span(size_t c, const Record& record, double begin, double end) {
    if (c == 0 && options_.spans && end > begin)
      spans_.push_back({record.queue, &record, Seconds(begin), Seconds(end)});
  }

  void join(size_t c, size_t lane, const Entry& entry) {
    const auto group = static_cast<size_t>(chips_[c].group[entry.axis]);
    Transits::Number& number = waiting_[entry.axis][group * kQueues + lane];
    if (number == kNone) {
      number = transits_.make();
      Transit& fresh = transits_.at(number);
      fresh.flow = entry.flow;
      fresh.lane = lane;
      fresh.begun = 0;
      const bool stood_still = entry.queue == Queue::pod &&
                               network_.schedule().between_pods == Schedule::Beside::operators_but_latencies;
      fresh.latency = stood_still ? 0 : entry.flow->latency.count();
    }
    Transit& transit = transits_.at(number);
    if (transit.flow != entry.flow)
      throw InternalError("chips of a group issue the same collectives in one order");
    const double arrived = states_[c].time[lane];
    transit.chips.push_back(static_cast<uint32_t>(c));
    transit.arrived.push_back(arrived);
    transit.begun = std::max(transit.begun, arrived);
    if (transit.chips.size() < members_[entry.axis][group]) return;
    transits_.begin(std::exchange(number, kNone));
  }

  void finish(Transits::Number number) {
    const size_t lane = transits_.at(number).lane;
    for (size_t i = 0; i < transits_.at(number).chips.size(); ++i) {
      const Transit& transit = transits_.at(number);
      leave(transit.chips[i], lane, transit, {now_, transit.begun, transit.arrived[i]});
    }
    // Going on may begin others, and this one's place is not theirs before all have left.
    const std::vector<uint32_t> chips = std::exchange(transits_.at(number).chips, {});
    transits_.release(number);
    for (const uint32_t c : chips) advance(c);
  }

  void leave(size_t c, size_t lane, const Transit& transit, const End& end) {
    ChipState& state = states_[c];
    Played& sum = sums_[c];
    const Entry& entry = role(c).lanes[lane][state.at[lane]];
    const auto queue = static_cast<size_t>(entry.queue);
    if (transit.flow->lost > Seconds(0)) {
      double beside = 0;
      for (auto at = state.working.rbegin(); at != state.working.rend() && at->second > transit.begun; ++at)
        beside += std::max(0.0, std::min(at->second, end.time) - std::max(at->first, transit.begun));
      state.owed += std::min(transit.flow->lost.count(), beside);
    }
    if (lane == 0) note_waited(c, entry.queue, state.time[0], end, entry.record->info->phase);
    sum.busy[queue] += Seconds(end.time - end.begun);
    for (size_t link = 0; link < kLinks; ++link) {
      sum.link_seconds[link] += transit.flow->busy[link];
      sum.link_bytes[link] += transit.flow->bytes[link];
    }
    note_span(c, *entry.record, std::max(end.arrived, end.begun), end.time);
    complete(state, entry, end);
    state.time[lane] = end.time;
    state.in_transit[lane] = false;
    ++state.at[lane];
  }

  // The chip that stands for all: see Played.
  size_t typical() const {
    std::vector<size_t> order(chips_.size());
    for (size_t c = 0; c < order.size(); ++c) order[c] = c;
    const auto slower = [&](size_t a, size_t b) { return chips_[a].slowness < chips_[b].slowness; };
    const auto [least, most] = std::minmax_element(order.begin(), order.end(), slower);
    if (chips_[*least].slowness == chips_[*most].slowness) {
      return *std::max_element(order.begin(), order.end(),
                               [&](size_t a, size_t b) { return states_[a].time[0] < states_[b].time[0]; });
    }
    std::stable_sort(order.begin(), order.end(), slower);
    return order[(order.size() - 1) / 2];
  }

  Played result() {
    double end = 0;
    for (size_t c = 0; c < chips_.size(); ++c) {
      ChipState& state = states_[c];
      state.time[0] += state.owed;
      for (size_t lane = 0; lane < kQueues; ++lane) {
        if (state.at[lane] < role(c).lanes[lane].size())
          throw InternalError("a simulated chip waits for what never happens");
        end = std::max(end, state.time[lane]);
      }
    }
    const size_t shown = typical();
    Played out = sums_[shown];
    out.step = Seconds(end);
    out.tail = Seconds(end - states_[shown].time[0]);
    out.spans = std::move(spans_);
    return out;
  }

  ScheduledNetwork network_;
  const std::vector<PlayedChip>& chips_;
  PlayOptions options_;
  std::vector<Role> roles_;
  Transits transits_;
  std::vector<ChipState> states_;
  std::vector<Played> sums_;
  std::vector<End> ends_;                                     // of all chips
  std::array<std::vector<size_t>, kAxes> members_;            // of each group
  std::array<std::vector<Transits::Number>, kAxes> waiting_;  // by group and lane
  std::vector<TimeSpan> spans_;
  double now_ = 0;
};

}  // namespace

Played play(const Chip& chip, Network& network, const std::vector<StepRecords>& roles,
            const std::vector<PlayedChip>& chips, const PlayOptions& options) {
  require(!chips.empty(), "there is a chip to play");
  return Player(chip, network, roles, chips, options).run();
}

}  // namespace toroid::sim
