#include "simulate/play/player.h"

#include <algorithm>
#include <limits>
#include <map>
#include <queue>
#include <set>
#include <tuple>
#include <utility>

#include "core/base/error.h"

namespace toroid::sim {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kFull = 1e-12;  // less than this of a link is nothing

bool is_entry(const Record& record) {
  return record.kind == Record::Kind::launch || record.kind == Record::Kind::copy ||
         record.kind == Record::Kind::transfer;
}

// A role's records by queue, with what each operator takes.
struct Entry {
  const Record* record = nullptr;
  double seconds = 0;
  bool by_memory = false;
};
struct RoleQueues {
  std::array<std::vector<Entry>, kQueues> entries;
  std::array<uint64_t, kQueues> before{};  // tickets passed before the first record

  // Tickets passed once the entry `at` is done. Tickets between two entries are of what takes no time here,
  // as the host's writes.
  uint64_t passed(size_t queue, size_t at) const {
    for (size_t next = at + 1; next < entries[queue].size(); ++next) {
      const Record& record = *entries[queue][next].record;
      if (record.kind != Record::Kind::wait) return record.ticket - 1;
    }
    return kAll;
  }
  static constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
};

RoleQueues queues_of(const Chip& chip, std::span<const Record> records) {
  RoleQueues out;
  out.before.fill(RoleQueues::kAll);  // of a queue without entries
  for (const Record& record : records) {
    const auto q = static_cast<size_t>(record.queue);
    if (record.kind == Record::Kind::wait) {
      out.entries[q].push_back({&record, 0, false});
      continue;
    }
    if (!is_entry(record)) continue;
    out.before[q] = std::min(out.before[q], record.ticket - 1);
    Entry entry{&record, 0, false};
    if (record.kind != Record::Kind::transfer) {
      Cost cost = record.cost;
      if (record.kind == Record::Kind::copy) cost.bytes_read = cost.bytes_written = record.bytes;
      const OperatorTime time = time_of(chip, record.op, cost);
      entry.seconds = time.total.count();
      entry.by_memory = time.bound_by_memory();
    }
    out.entries[q].push_back(entry);
  }
  return out;
}

// A collective that is under way, or waits for chips.
struct Transit {
  const Flow* flow = nullptr;
  std::vector<size_t> chips;   // that have arrived
  std::vector<double> worked;  // what their operators had taken when it began
  size_t queue = 0;
  double begun = 0;
  bool moves = false, over = false;  // its latency is over, or all of it
  bool rises = false;                // while rates are found: no link of its is full
  double work_left = 1, since = 0;   // share of the transfer that was left at a time
  double rate = 1;                   // since then, of the speed that it has alone
  double end = 0;                    // of the latency, or of the transfer at this rate
  double seconds() const { return flow->transfer.count(); }
};

struct ChipState {
  std::array<size_t, kQueues> at{};
  std::array<uint64_t, kQueues> done{};
  std::array<bool, kQueues> busy{};
  std::array<double, kQueues> blocked_since;
  std::array<size_t, kQueues> collectives{};  // issued so far
  double last = 0;                            // end of the last operator of the compute queue
  double working = 0, since = 0;  // operators of the compute queue: what they took, and since when one runs
  double owed = 0;                // what they still lose to collectives that took their cores
  double worked(double now) const { return working + (busy[0] ? now - since : 0); }
};

class Player {
 public:
  Player(const Chip& chip, Network& network, const std::vector<std::span<const Record>>& roles,
         const std::vector<PlayedChip>& chips, const PlayOptions& options)
      : network_(network), chips_(chips), options_(options), states_(chips.size()), sums_(chips.size()) {
    for (const auto& role : roles) roles_.push_back(queues_of(chip, role));
    for (size_t c = 0; c < chips.size(); ++c) {
      states_[c].done = roles_[chips[c].role].before;
      states_[c].blocked_since.fill(-1);
      for (size_t axis = 0; axis < 3; ++axis) ++members_[{static_cast<int>(axis), chips[c].group[axis]}];
    }
  }

  Played run() {
    for (size_t c = 0; c < chips_.size(); ++c) advance(c);
    while (true) {
      const double event = events_.empty() ? kNever : events_.top().time;
      const double arrival = soonest_;
      if (event == kNever && arrival == kNever) break;
      now_ = std::min(event, arrival);
      if (arrival <= event) {
        finish_transits();
      } else {
        const Ending ending = events_.top();
        events_.pop();
        if (ending.queue == 0 && put_off(ending.chip)) continue;
        complete(ending.chip, ending.queue);
      }
    }
    return result();
  }

 private:
  struct Ending {
    double time;
    size_t chip, queue;
    bool operator>(const Ending& other) const {
      return std::tie(time, chip, queue) > std::tie(other.time, other.chip, other.queue);
    }
  };

  const RoleQueues& role(size_t c) const { return roles_[chips_[c].role]; }

  // Starts whatever can be started on all queues of a chip.
  void advance(size_t c) {
    for (bool again = true; again;) {
      again = false;
      for (size_t q = 0; q < kQueues; ++q) again = start(c, q) || again;
    }
  }

  // Whether a wait was passed, so that others may follow.
  bool start(size_t c, size_t q) {
    ChipState& state = states_[c];
    const std::vector<Entry>& entries = role(c).entries[q];
    bool passed = false;
    while (!state.busy[q] && state.at[q] < entries.size()) {
      const Entry& entry = entries[state.at[q]];
      if (entry.record->kind == Record::Kind::wait) {
        const Event& until = entry.record->until;
        const auto on = static_cast<size_t>(until.queue);
        if (state.done[on] < until.ticket) {
          if (state.blocked_since[q] < 0) state.blocked_since[q] = now_;
          return passed;
        }
        if (state.blocked_since[q] >= 0) note_wait(c, q, on, entry);
        state.blocked_since[q] = -1;
        ++state.at[q];
        passed = true;
        continue;
      }
      state.busy[q] = true;
      if (entry.record->kind == Record::Kind::transfer) {
        join(c, q, entry);
      } else {
        const double seconds = entry.seconds * chips_[c].slowness;
        if (q == 0) state.since = now_;
        note_operator(c, q, entry, seconds);
        events_.push({now_ + seconds, c, q});
      }
    }
    return passed;
  }

  // Whether the operator that would be done now has lost time to collectives, and goes on for as long.
  bool put_off(size_t c) {
    ChipState& state = states_[c];
    if (state.owed <= 0) return false;
    const size_t at = state.at[0];
    const double owed = std::exchange(state.owed, 0);
    note_operator(c, 0, role(c).entries[0][at], owed);
    events_.push({now_ + owed, c, 0});
    return true;
  }

  void note_wait(size_t c, size_t q, size_t on, const Entry& entry) {
    const double waited = now_ - states_[c].blocked_since[q];
    if (q == 0) {
      sums_[c].waited[on] += Seconds(waited);
      sums_[c].phases[static_cast<size_t>(phase_after(c, states_[c].at[q]))] += Seconds(waited);
    }
    if (c == 0 && options_.spans && waited > 0)
      spans_.push_back({entry.record->queue, entry.record, Seconds(now_ - waited), Seconds(now_)});
  }

  Phase phase_after(size_t c, size_t at) const {
    const std::vector<Entry>& entries = role(c).entries[0];
    for (; at < entries.size(); ++at) {
      if (entries[at].record->kind == Record::Kind::launch) return entries[at].record->phase;
    }
    return Phase::optimizer;
  }

  void note_operator(size_t c, size_t q, const Entry& entry, double seconds) {
    if (q == 0) {
      (entry.by_memory ? sums_[c].memory_bound : sums_[c].products) += Seconds(seconds);
      sums_[c].phases[static_cast<size_t>(entry.record->phase)] += Seconds(seconds);
      states_[c].last = now_ + seconds;
    }
    if (c == 0 && options_.spans)
      spans_.push_back({entry.record->queue, entry.record, Seconds(now_), Seconds(now_ + seconds)});
  }

  static int axis_of(const CollectiveInfo& info) {
    for (const mesh::Axis axis : mesh::kAxes) {
      if (info.axis == mesh::name(axis)) return static_cast<int>(axis);
    }
    throw InternalError("a collective of a step is on an axis of the mesh, not on " + info.axis);
  }

  void join(size_t c, size_t q, const Entry& entry) {
    const int axis = axis_of(entry.record->info);
    const int group = chips_[c].group[static_cast<size_t>(axis)];
    const auto key = std::tuple(axis, group, q, states_[c].collectives[q]++);
    auto [found, fresh] = waiting_.try_emplace(key);
    Transit& transit = found->second;
    const Flow& flow = network_.flow(entry.record->info);
    if (fresh) {
      transit.flow = &flow;
      transit.queue = q;
    }
    if (transit.flow != &flow)
      throw InternalError("chips of a group issue the same collectives in one order");
    transit.chips.push_back(c);
    if (c == 0 && options_.spans) first_joined_[q] = {now_, entry.record};
    if (transit.chips.size() < members_.at({axis, group})) return;
    transit.begun = now_;
    transit.end = now_ + flow.latency.count();
    soonest_ = std::min(soonest_, transit.end);
    for (const size_t chip : transit.chips) transit.worked.push_back(states_[chip].worked(now_));
    under_way_.push_back(std::move(transit));
    waiting_.erase(found);
  }

  // Collectives that meet on a chip share its links: rates rise together until a link is full, and those that
  // use it stay where they are (max-min fairness).
  void share_links() {
    std::vector<Transit*> rising;
    for (Transit& transit : under_way_) {
      if (!transit.moves) continue;
      transit.work_left =
          std::max(0.0, transit.work_left - (now_ - transit.since) * transit.rate / transit.seconds());
      transit.since = now_;
      transit.rate = 0;
      rising.push_back(&transit);
    }
    const std::vector<Transit*> moving = rising;
    std::vector<Meeting> meetings = meetings_of(moving);
    while (!rising.empty()) {
      double step = kNever;
      for (const Transit* transit : rising) step = std::min(step, 1 - transit->rate);
      for (Meeting& meeting : meetings) {
        meeting.load.fill(0);
        for (const Transit* transit : meeting.transits) {
          if (!transit->rises) continue;
          for (size_t link = 0; link < kLinks; ++link) meeting.load[link] += use(*transit, link);
        }
        for (size_t link = 0; link < kLinks; ++link) {
          if (meeting.load[link] > 0) step = std::min(step, meeting.room[link] / meeting.load[link]);
        }
      }
      for (Transit* transit : rising) {
        transit->rate += step;
        if (transit->rate >= 1 - kFull) transit->rises = false;
      }
      for (Meeting& meeting : meetings) {
        for (size_t link = 0; link < kLinks; ++link) {
          meeting.room[link] -= step * meeting.load[link];
          if (meeting.load[link] == 0 || meeting.room[link] >= kFull) continue;
          for (Transit* transit : meeting.transits) {
            if (use(*transit, link) > 0) transit->rises = false;
          }
        }
      }
      std::erase_if(rising, [](const Transit* transit) { return !transit->rises; });
    }
    for (Transit* transit : moving)
      transit->end = now_ + transit->work_left * transit->seconds() / transit->rate;
  }

  // Those under way at one chip, and what is left of its links; several chips with the same ones are one
  // meeting.
  struct Meeting {
    std::vector<Transit*> transits;
    std::array<double, kLinks> room{}, load{};
  };
  std::vector<Meeting> meetings_of(const std::vector<Transit*>& moving) {
    at_chip_.resize(chips_.size());
    for (size_t m = 0; m < moving.size(); ++m) {
      moving[m]->rises = true;
      for (const size_t c : moving[m]->chips) at_chip_[c].push_back(m);
    }
    std::set<std::vector<size_t>> different;
    for (const Transit* transit : moving) {
      for (const size_t c : transit->chips) {
        if (at_chip_[c].size() > 1) different.insert(at_chip_[c]);
        at_chip_[c].clear();
      }
    }
    std::vector<Meeting> out;
    for (const std::vector<size_t>& those : different) {
      Meeting& meeting = out.emplace_back();
      for (const size_t m : those) meeting.transits.push_back(moving[m]);
      meeting.room.fill(1);
    }
    return out;
  }

  // The share of its own time during which it keeps the busiest link of a kind busy.
  static double use(const Transit& transit, size_t link) {
    const double seconds = transit.flow->transfer.count();
    return seconds > 0 ? std::min(1.0, transit.flow->busy[link] / seconds) : 0;
  }

  void finish_transits() {
    std::vector<Transit> finished;
    for (Transit& transit : under_way_) {
      if (transit.end > now_) continue;
      if (!transit.moves && transit.seconds() > 0) {
        transit.moves = true;
        transit.since = now_;
      } else {
        transit.over = true;
        finished.push_back(transit);
      }
    }
    std::erase_if(under_way_, [](const Transit& transit) { return transit.over; });
    share_links();
    soonest_ = kNever;
    for (const Transit& transit : under_way_) soonest_ = std::min(soonest_, transit.end);
    for (const Transit& transit : finished) {
      for (size_t i = 0; i < transit.chips.size(); ++i) {
        const size_t c = transit.chips[i];
        Played& sum = sums_[c];
        const double beside = states_[c].worked(now_) - transit.worked[i];
        states_[c].owed += std::min(transit.flow->lost.count(), beside);
        sum.busy[transit.queue] += Seconds(now_ - transit.begun);
        for (size_t link = 0; link < kLinks; ++link) {
          sum.link_seconds[link] += transit.flow->busy[link];
          sum.link_bytes[link] += transit.flow->bytes[link];
        }
        if (c == 0 && options_.spans) {
          const auto& [joined, record] = first_joined_[transit.queue];
          spans_.push_back({record->queue, record, Seconds(std::max(joined, transit.begun)), Seconds(now_)});
        }
        complete(c, transit.queue);
      }
    }
  }

  void complete(size_t c, size_t q) {
    ChipState& state = states_[c];
    state.done[q] = role(c).passed(q, state.at[q]);
    if (q == 0) state.working = state.worked(now_);
    state.busy[q] = false;
    ++state.at[q];
    advance(c);
  }

  Played result() {
    size_t last = 0;
    for (size_t c = 0; c < chips_.size(); ++c) {
      for (size_t q = 0; q < kQueues; ++q) {
        if (states_[c].at[q] < role(c).entries[q].size())
          throw InternalError("a simulated chip waits for what never happens");
      }
      if (states_[c].last > states_[last].last) last = c;
    }
    Played out = sums_[last];
    out.step = Seconds(now_);
    out.tail = Seconds(now_ - states_[last].last);
    out.spans = std::move(spans_);
    return out;
  }

  Network& network_;
  const std::vector<PlayedChip>& chips_;
  PlayOptions options_;
  std::vector<RoleQueues> roles_;
  std::vector<ChipState> states_;
  std::vector<Played> sums_;
  std::map<std::pair<int, int>, size_t> members_;
  std::map<std::tuple<int, int, size_t, size_t>, Transit> waiting_;
  std::vector<Transit> under_way_;
  std::vector<std::vector<size_t>> at_chip_;  // of meetings_of, kept for its memory
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> events_;
  std::array<std::pair<double, const Record*>, kQueues> first_joined_{};
  std::vector<TimeSpan> spans_;
  double now_ = 0;
  double soonest_ = kNever;  // end of what is under way
};

}  // namespace

Played play(const Chip& chip, Network& network, const std::vector<std::span<const Record>>& roles,
            const std::vector<PlayedChip>& chips, const PlayOptions& options) {
  require(!chips.empty(), "there is a chip to play");
  return Player(chip, network, roles, chips, options).run();
}

}  // namespace toroid::sim
