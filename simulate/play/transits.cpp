#include "simulate/play/transits.h"

#include <algorithm>
#include <limits>
#include <set>

namespace toroid::sim {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kFull = 1e-12;  // less than this of a link is nothing

}  // namespace

Transits::Number Transits::make() {
  if (free_.empty()) {
    all_.emplace_back();
    return static_cast<Number>(all_.size() - 1);
  }
  const Number number = free_.back();
  free_.pop_back();
  UnderWay& fresh = all_[number];
  fresh.transit.flow = nullptr;
  fresh.transit.chips.clear();
  fresh.transit.arrived.clear();
  fresh.moves = false;
  fresh.work_left = 1;
  fresh.rate = 1;
  return number;
}

void Transits::release(Number number) {
  free_.push_back(number);
}

void Transits::begin(Number number) {
  const Transit& transit = all_[number].transit;
  set_end(number, transit.begun + transit.latency);
}

double Transits::next() const {
  if (changes_.empty()) return kNever;
  return changes_.top().time;
}

void Transits::set_end(Number number, double end) {
  UnderWay& one = all_[number];
  one.end = end;
  changes_.push({end, number, ++one.version});
}

// The share of its own time during which it keeps the busiest link of a kind busy.
double Transits::use(const UnderWay& one, size_t link) {
  const double seconds = one.seconds();
  return seconds > 0 ? std::min(1.0, one.transit.flow->busy[link] / seconds) : 0;
}

bool Transits::share_a_link(const UnderWay& a, const UnderWay& b) {
  for (size_t link = 0; link < kLinks; ++link) {
    if (a.transit.flow->busy[link] > 0 && b.transit.flow->busy[link] > 0) return true;
  }
  return false;
}

std::optional<Transits::Number> Transits::advance() {
  const Change change = changes_.top();
  changes_.pop();
  UnderWay& one = all_[change.number];
  if (change.version != one.version) return std::nullopt;  // its rate has changed since
  now_ = change.time;
  if (!one.moves && one.seconds() > 0) {
    one.moves = true;
    one.since = now_;
    for (const uint32_t chip : one.transit.chips) moving_at_[chip].push_back(change.number);
    share_links(connected(change.number));
    return std::nullopt;
  }
  if (one.moves) leave_chips(change.number);
  return change.number;
}

// Those that it shared links with go on faster.
void Transits::leave_chips(Number number) {
  std::vector<Number> others = connected(number);
  std::erase(others, number);
  for (const uint32_t chip : all_[number].transit.chips) std::erase(moving_at_[chip], number);
  share_links(others);
}

std::vector<Transits::Number> Transits::connected(Number first) {
  std::vector<Number> out{first};
  all_[first].marked = true;
  for (size_t i = 0; i < out.size(); ++i) {
    const UnderWay& one = all_[out[i]];
    for (const uint32_t chip : one.transit.chips) {
      for (const Number other : moving_at_[chip]) {
        if (all_[other].marked || !share_a_link(one, all_[other])) continue;
        all_[other].marked = true;
        out.push_back(other);
      }
    }
  }
  for (const Number number : out) all_[number].marked = false;
  return out;
}

std::vector<Transits::Meeting> Transits::meetings_of(const std::vector<Number>& numbers) const {
  std::set<std::vector<Number>> different;
  std::vector<Number> here;
  for (const Number number : numbers) {
    for (const uint32_t chip : all_[number].transit.chips) {
      if (moving_at_[chip].size() < 2) continue;
      here.clear();
      for (const Number other : moving_at_[chip]) {
        if (all_[other].rises) here.push_back(other);
      }
      std::sort(here.begin(), here.end());
      if (here.size() > 1) different.insert(here);
    }
  }
  std::vector<Meeting> out;
  for (const std::vector<Number>& those : different) {
    Meeting& meeting = out.emplace_back();
    meeting.numbers = those;
    meeting.room.fill(1);
  }
  return out;
}

void Transits::share_links(const std::vector<Number>& numbers) {
  std::vector<Number> rising = numbers;
  for (const Number number : numbers) {
    UnderWay& one = all_[number];
    one.work_left = std::max(0.0, one.work_left - (now_ - one.since) * one.rate / one.seconds());
    one.since = now_;
    one.rate = numbers.size() == 1 ? 1 : 0;
    one.rises = true;
  }
  std::vector<Meeting> meetings = numbers.size() == 1 ? std::vector<Meeting>{} : meetings_of(numbers);
  while (numbers.size() > 1 && !rising.empty()) {
    double step = kNever;
    for (const Number number : rising) step = std::min(step, 1 - all_[number].rate);
    for (Meeting& meeting : meetings) {
      meeting.load.fill(0);
      for (const Number number : meeting.numbers) {
        if (!all_[number].rises) continue;
        for (size_t link = 0; link < kLinks; ++link) meeting.load[link] += use(all_[number], link);
      }
      for (size_t link = 0; link < kLinks; ++link) {
        if (meeting.load[link] > 0) step = std::min(step, meeting.room[link] / meeting.load[link]);
      }
    }
    for (const Number number : rising) {
      all_[number].rate += step;
      if (all_[number].rate >= 1 - kFull) all_[number].rises = false;
    }
    for (Meeting& meeting : meetings) {
      for (size_t link = 0; link < kLinks; ++link) {
        meeting.room[link] -= step * meeting.load[link];
        if (meeting.load[link] == 0 || meeting.room[link] >= kFull) continue;
        for (const Number number : meeting.numbers) {
          if (use(all_[number], link) > 0) all_[number].rises = false;
        }
      }
    }
    std::erase_if(rising, [&](Number number) { return !all_[number].rises; });
  }
  for (const Number number : numbers) {
    UnderWay& one = all_[number];
    one.rises = false;
    set_end(number, now_ + one.work_left * one.seconds() / one.rate);
  }
}

}  // namespace toroid::sim
