#include "core/device/cuda/timeline.h"

#include <algorithm>

namespace toroid::cuda {
namespace {

using HostClock = std::chrono::steady_clock;

// A queue passes the events around a wait for what is already there within so long.
constexpr Seconds kNoWait{5e-6};
// CUDA gives the time between two events in 24 bits: over a second that is as fine as its clock.
constexpr Seconds kFarFromOrigin{1};

HostClock::duration ticks(Seconds time) {
  return std::chrono::duration_cast<HostClock::duration>(time);
}

void destroy(cudaEvent_t event) {
  (void)cudaEventDestroy(event);
}

}  // namespace

Timeline::~Timeline() = default;

cudaEvent_t Timeline::record(cudaStream_t stream) {
  if (spare_.empty()) {
    cudaEvent_t fresh = nullptr;
    calls_.check(cudaEventCreateWithFlags(&fresh, cudaEventDefault), "cudaEventCreateWithFlags");
    events_.emplace_back(fresh, destroy);
    spare_.push_back(fresh);
  }
  auto* const event = spare_.back();
  calls_.check(cudaEventRecord(event, stream), "cudaEventRecord");
  spare_.pop_back();
  return event;
}

// As for another host's clock: the answer that came soonest is off by at most half the time that it took.
void Timeline::align(cudaStream_t stream, const Wait& wait) {
  constexpr int kQuestions = 8;
  HostClock::duration shortest = HostClock::duration::max();
  for (int i = 0; i < kQuestions; ++i) {
    const Time asked = HostClock::now();
    auto* const event = record(stream);
    wait(event);
    const HostClock::duration took = HostClock::now() - asked;
    if (took >= shortest) {
      spare_.push_back(event);
      continue;
    }
    shortest = took;
    if (origin_ != nullptr) spare_.push_back(origin_);
    origin_ = event;
    origin_time_ = asked + took / 2;
  }
}

void Timeline::add(Entry entry) {
  entries_[static_cast<size_t>(entry.queue)].push_back(std::move(entry));
}

bool Timeline::has_passed(cudaEvent_t event) const {
  const cudaError_t code = cudaEventQuery(event);
  if (code == cudaErrorNotReady) return false;
  calls_.check(code, "cudaEventQuery");
  return true;
}

void Timeline::collect() {
  for (std::deque<Entry>& queue : entries_) {
    while (!queue.empty() && has_passed(queue.front().end)) {
      read(queue.front());
      queue.pop_front();
    }
  }
}

Timeline::Time Timeline::time_of(cudaEvent_t passed) const {
  float milliseconds = 0;
  calls_.check(cudaEventElapsedTime(&milliseconds, origin_, passed), "cudaEventElapsedTime");
  return origin_time_ + ticks(Seconds(1e-3 * static_cast<double>(milliseconds)));
}

void Timeline::keep(std::deque<Span>& spans, Span span) {
  spans.push_back(span);
  if (spans.size() > kKept) spans.pop_front();
}

void Timeline::read(Entry& entry) {
  // A queue ends one entry before it begins the next: times that say otherwise were rounded.
  Time& last = ends_[static_cast<size_t>(entry.queue)];
  Span span;
  span.begin = std::max(last, time_of(entry.begin));
  span.end = std::max(span.begin, time_of(entry.end));
  last = span.end;
  spare_.push_back(entry.begin);
  if (span.end - origin_time_ > kFarFromOrigin) {
    std::swap(origin_, entry.end);
    origin_time_ = span.end;
  }
  spare_.push_back(entry.end);
  if (entry.kind == Kind::wait && span.end - span.begin < kNoWait) return;
  if (entry.kind == Kind::wait) keep(waits_, span);
  if (entry.kind == Kind::collective) keep(collectives_, span);
  if (entry.report) entry.report(span);
}

CommunicationTime Timeline::communication(Time from, Time to) const {
  CommunicationTime out;
  for (const Span& span : waits_) {
    const Time begin = std::max(span.begin, from), end = std::min(span.end, to);
    if (begin < end) out.exposed += end - begin;
  }
  std::vector<Span> inside;
  for (const Span& span : collectives_) {
    const Time begin = std::max(span.begin, from), end = std::min(span.end, to);
    if (begin < end) inside.push_back({begin, end});
  }
  for (const std::deque<Entry>& queue : entries_) {
    if (queue.empty() || queue.front().kind != Kind::collective || !has_passed(queue.front().begin)) continue;
    const Time begin = std::max(time_of(queue.front().begin), from);
    if (begin < to) inside.push_back({begin, to});
  }
  // Those of several queues overlap, and such a moment counts once.
  std::sort(inside.begin(), inside.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  Time counted = from;
  for (const Span& span : inside) {
    if (span.end <= counted) continue;
    out.under_way += span.end - std::max(span.begin, counted);
    counted = span.end;
  }
  return out;
}

}  // namespace toroid::cuda
