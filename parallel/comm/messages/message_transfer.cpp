#include "parallel/comm/messages/message_transfer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "parallel/comm/combine.h"
#include "parallel/schedule/algorithm.h"

namespace toroid {
namespace {

constexpr int64_t kSegmentBytes = int64_t{256} << 10;
constexpr int64_t kSmallestSegment = int64_t{16} << 10;
constexpr int64_t kFlights = 2;                           // messages under way in a lane
constexpr int64_t kMessageBytesAStep = int64_t{4} << 20;  // about a millisecond

int64_t boundary_of(const MessageJob& job, int64_t chunk) {
  // chunks < 2^20 and elements < 2^43
  return job.elements * chunk / job.plan.chunks;
}

// The staging memory for one message.
int64_t slot_bytes(const MessageJob& job) {
  return std::min(job.segment_bytes, job.elements * bytes_of(job.type));
}

bool stages(const MessageJob& job, const schedule::Move& move) {
  return job.bf16_wire || (move.receive && move.combine);
}

}  // namespace

int64_t segment_bytes_for(schedule::Algorithm algorithm, int ranks) {
  if (!algorithm->peers_at_once) return kSegmentBytes;
  return std::clamp(8 * kSegmentBytes / ranks, kSmallestSegment, kSegmentBytes);
}

int64_t staging_bytes(const MessageJob& job) {
  // A lane for each peer and direction of a round: counted generously as one for each move.
  int64_t most = 0;
  int64_t lanes = 0;
  bool any = false;
  int round = -1;
  for (const schedule::Move& move : job.plan.moves) {
    if (move.round != round) lanes = 0;
    round = move.round;
    most = std::max(most, ++lanes);
    any |= stages(job, move);
  }
  return any ? most * kFlights * slot_bytes(job) : 0;
}

MessageTransfer::MessageTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence,
                                 CollectiveInfo info, Transport& transport, int context, MessageJob job)
    : WatchedTransfer(std::move(group), sequence, std::move(info)),
      transport_(transport),
      context_(context),
      job_(std::move(job)) {
  // Within a round, messages of one pair of ranks meet in the order of their chunks, on both sides.
  std::stable_sort(job_.plan.moves.begin(), job_.plan.moves.end(), [](const auto& a, const auto& b) {
    return std::pair(a.round, a.first) < std::pair(b.round, b.first);
  });
}

int64_t MessageTransfer::boundary(int64_t chunk) const {
  return boundary_of(job_, chunk);
}

int64_t MessageTransfer::wire_bytes(int64_t elements) const {
  return elements * (job_.bf16_wire ? bytes_of(DType::bf16) : bytes_of(job_.type));
}

void MessageTransfer::begin_round() {
  ++round_;
  lanes_.clear();
  for (; next_move_ < job_.plan.moves.size() && job_.plan.moves[next_move_].round == round_; ++next_move_) {
    const schedule::Move& move = job_.plan.moves[next_move_];
    const auto same = [&](const Lane& lane) {
      return lane.peer == move.peer && lane.receive == move.receive;
    };
    auto lane = std::find_if(lanes_.begin(), lanes_.end(), same);
    if (lane == lanes_.end()) {
      Lane fresh;
      fresh.peer = move.peer;
      fresh.receive = move.receive;
      lane = lanes_.insert(lanes_.end(), std::move(fresh));
    }
    move.for_each_run([&](int64_t first, int64_t chunks) {
      Run run{boundary(first), boundary(first + chunks), move.receive && move.combine};
      run.precedes = run.combine && move.precedes && !job_.bf16_wire;  // a wire has no room for their sum
      if (run.first == run.last) return;                               // empty on both sides
      const bool follows = !lane->runs.empty() && lane->runs.back().last == run.first &&
                           lane->runs.back().combine == run.combine &&
                           lane->runs.back().precedes == run.precedes;
      if (follows) {
        lane->runs.back().last = run.last;
      } else {
        lane->runs.push_back(run);
      }
    });
  }
  for (Lane& lane : lanes_) lane.checks = job_.checks != nullptr && !lane.runs.empty();
}

void MessageTransfer::add_to_sum(Lane& lane, const std::byte* bytes, int64_t count) const {
  if (job_.checks == nullptr) return;
  lane.sum.add(job_.checks->of({bytes, static_cast<size_t>(count)}), count);
  lane.summed_bytes += count;
}

void MessageTransfer::post_checksum(Lane& lane) {
  lane.checking = true;
  Flight flight;
  flight.checksum = true;
  flight.bytes = reinterpret_cast<std::byte*>(&lane.sent);
  const int peer = members().ranks[static_cast<size_t>(lane.peer)];
  if (lane.receive) {
    flight.request = transport_.receive(peer, context_, {flight.bytes, sizeof lane.sent});
  } else {
    lane.sent = lane.sum.total();
    flight.request = transport_.send(peer, context_, {flight.bytes, sizeof lane.sent});
  }
  lane.flights.push_back(flight);
}

// Sums are taken in the order of the moves, whoever's message comes first.
bool MessageTransfer::earlier_sums_wait(size_t index, const Run& part) const {
  for (size_t other = 0; other < index; ++other) {
    const Lane& lane = lanes_[other];
    if (!lane.receive) continue;
    for (size_t i = lane.ending; i < lane.runs.size(); ++i) {
      const int64_t first = lane.runs[i].first + (i == lane.ending ? lane.ended : 0);
      if (lane.runs[i].combine && first < part.last && part.first < lane.runs[i].last) return true;
    }
  }
  return false;
}

bool MessageTransfer::post(Lane& lane, size_t index) {
  if (lane.posting == lane.runs.size()) {
    if (!lane.checks || lane.checking) return false;
    post_checksum(lane);
    return true;
  }
  if (static_cast<int64_t>(lane.flights.size()) == kFlights) return false;
  const Run& run = lane.runs[lane.posting];
  const int64_t segment = job_.segment_bytes / bytes_of(job_.type);
  Flight flight;
  flight.part = run;
  flight.part.first = run.first + lane.posted;
  flight.part.last = std::min(run.last, flight.part.first + segment);
  const int64_t elements = flight.part.last - flight.part.first;
  const auto bytes = static_cast<size_t>(wire_bytes(elements));
  std::byte* const in_place = at(lane.receive ? job_.received : job_.sent, flight.part.first);
  const bool staged = job_.bf16_wire || run.combine;
  if (staged) {
    const int64_t slot = kFlights * static_cast<int64_t>(index) + lane.parity;
    lane.parity = (lane.parity + 1) % kFlights;
    flight.bytes = job_.staging + slot * slot_bytes(job_);
  } else {
    flight.bytes = in_place;
  }
  if (lane.receive) {
    flight.request =
        transport_.receive(members().ranks[static_cast<size_t>(lane.peer)], context_, {flight.bytes, bytes});
  } else {
    if (job_.bf16_wire) {
      round_onto_wire(reinterpret_cast<float*>(in_place), reinterpret_cast<uint16_t*>(flight.bytes),
                      elements);
    }
    add_to_sum(lane, flight.bytes, static_cast<int64_t>(bytes));
    flight.request =
        transport_.send(members().ranks[static_cast<size_t>(lane.peer)], context_, {flight.bytes, bytes});
  }
  lane.flights.push_back(flight);
  lane.posted += elements;
  if (flight.part.last == run.last) {
    ++lane.posting;
    lane.posted = 0;
  }
  return true;
}

bool MessageTransfer::end(Lane& lane, size_t index) {
  if (lane.flights.empty()) return false;
  Flight& flight = lane.flights.front();
  const int64_t elements = flight.part.last - flight.part.first;
  if (!arrived(lane, flight)) return false;
  if (flight.checksum) {
    if (lane.receive) compare(lane.peer, lane.sent, lane.sum.total(), lane.summed_bytes);
    lane.flights.pop_front();
    lane.checks = false;
    return true;
  }
  if (flight.part.precedes) return sum_preceding(index);
  if (lane.receive) {
    std::byte* const to = at(job_.received, flight.part.first);
    if (flight.part.combine) {
      if (earlier_sums_wait(index, flight.part)) return false;
      if (job_.bf16_wire) {
        combine_from_wire(job_.how, reinterpret_cast<float*>(to),
                          reinterpret_cast<const uint16_t*>(flight.bytes), elements);
      } else {
        combine(job_.type, job_.how, to, to, flight.bytes, elements);
      }
    } else if (job_.bf16_wire) {
      take_from_wire(reinterpret_cast<float*>(to), reinterpret_cast<const uint16_t*>(flight.bytes), elements);
    }
  }
  pass(lane);
  return true;
}

bool MessageTransfer::arrived(Lane& lane, Flight& flight) {
  if (flight.request.id < 0) return true;
  const auto size = transport_.test(flight.request);
  if (!size) return false;
  const int64_t expected = flight.checksum ? static_cast<int64_t>(sizeof lane.sent)
                                           : wire_bytes(flight.part.last - flight.part.first);
  if (lane.receive && *size != expected) wrong_size(lane.peer, expected, *size);
  flight.request.id = -1;
  if (lane.receive && !flight.checksum) add_to_sum(lane, flight.bytes, expected);
  return true;
}

// The lane's first flight is done with.
void MessageTransfer::pass(Lane& lane) {
  const Run& part = lane.flights.front().part;
  const int64_t elements = part.last - part.first;
  moved_bytes_ += elements * bytes_of(job_.type);
  lane.ended += elements;
  if (part.last == lane.runs[lane.ending].last) {
    ++lane.ending;
    lane.ended = 0;
  }
  lane.flights.pop_front();
}

// What precedes the own summand stays in staging memory until the last of it is there, which adds it all up:
// the lane `index`, where it is the last one of its kind.
bool MessageTransfer::sum_preceding(size_t index) {
  std::vector<Lane*> lanes;
  for (size_t other = 0; other < lanes_.size(); ++other) {
    Lane& lane = lanes_[other];
    if (!lane.receive || lane.ending == lane.runs.size() || !lane.runs[lane.ending].precedes) continue;
    if (other > index || lane.flights.empty() || !arrived(lane, lane.flights.front())) return false;
    lanes.push_back(&lane);
  }
  const Run part = lanes.front()->flights.front().part;
  const int64_t elements = part.last - part.first;
  std::byte* const sum = lanes.front()->flights.front().bytes;
  for (size_t i = 1; i < lanes.size(); ++i) {
    const Run& next = lanes[i]->flights.front().part;
    require(next.first == part.first && next.last == part.last, "what is added up is of the same elements");
    combine(job_.type, job_.how, sum, sum, lanes[i]->flights.front().bytes, elements);
  }
  std::byte* const own = at(job_.received, part.first);
  combine(job_.type, job_.how, own, sum, own, elements);
  for (Lane* const lane : lanes) pass(*lane);
  return true;
}

bool MessageTransfer::advance_lane(size_t index) {
  Lane& lane = lanes_[index];
  bool any = false;
  while (post(lane, index)) any = true;
  if (end(lane, index)) any = true;
  return any;
}

WatchedTransfer::Progress MessageTransfer::step() {
  moved_bytes_ = 0;
  bool moved = false;
  if (round_ < 0) {
    const auto& copy = job_.before;
    if (copy.bytes > 0 && copy.to != copy.from)
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    begin_round();
    moved = true;
  }
  while (moved_bytes_ < kMessageBytesAStep) {
    if (round_ >= job_.plan.rounds) {
      const auto& copy = job_.after;
      if (copy.bytes > 0) std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
      return Progress::done;
    }
    bool any = false;
    for (size_t index = 0; index < lanes_.size(); ++index) any |= advance_lane(index);
    if (std::all_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.done(); })) {
      begin_round();
      any = true;
    }
    moved |= any;
    if (!any) return moved ? Progress::moved : Progress::waiting;
  }
  return Progress::moved;
}

}  // namespace toroid
