#include "simulate/play/message_play.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace toroid::sim {
namespace {

struct Message {
  int from = 0, to = 0, round = 0;
  double bytes = 0;
  double tail = 0;  // when its last byte is where its first one is
  std::vector<schedule::Link> route;
};

class MessagePlay {
 public:
  MessagePlay(const schedule::GroupShape& shape, const std::vector<schedule::Plan>& plans, double bytes,
              const std::array<Lane, schedule::kDirections>& lanes)
      : shape_(shape), lanes_(lanes), ranks_(plans.size()) {
    const auto links = static_cast<size_t>(schedule::link_count(shape));
    free_.resize(links, 0.0);
    out_.carried.resize(links, 0.0);
    for (size_t r = 0; r < plans.size(); ++r) {
      ranks_[r].rounds.resize(static_cast<size_t>(plans[r].rounds));
      for (const schedule::Move& move : plans[r].moves) {
        Round& round = ranks_[r].rounds[static_cast<size_t>(move.round)];
        ++round.open;
        if (move.receive) continue;
        round.sends.push_back(messages_.size());
        messages_.push_back(
            {static_cast<int>(r),
             move.peer,
             move.round,
             bytes * static_cast<double>(move.chunks()) / static_cast<double>(plans[r].chunks),
             0,
             {}});
      }
    }
  }

  PlayedMessages run() {
    for (size_t r = 0; r < ranks_.size(); ++r) begin(r, 0);
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      out_.seconds = event.time;
      Message& message = messages_[event.message];
      if (event.hop == kSent) {
        close(static_cast<size_t>(message.from), message.round, event.time);
      } else if (static_cast<size_t>(event.hop) == message.route.size()) {
        message.route = {};
        close(static_cast<size_t>(message.to), message.round, event.time);
      } else {
        take_link(event, message);
      }
    }
    return std::move(out_);
  }

 private:
  struct Round {
    int open = 0;  // moves that are not done
    std::vector<size_t> sends;
  };
  struct Rank {
    std::vector<Round> rounds;
    size_t round = 0;
  };
  static constexpr int kSent = -1;
  struct Event {
    double time;
    uint64_t number;  // of those at one time, the first that was made is the first
    size_t message;
    int hop;  // which link of its way it comes to; past the last, all of it has come; or kSent
    bool operator>(const Event& other) const {
      return std::tie(time, number) > std::tie(other.time, other.number);
    }
  };

  void push(double time, size_t message, int hop) { events_.push({time, made_++, message, hop}); }

  // The rank's round, and those after it that have nothing left to do.
  void begin(size_t r, double time) {
    Rank& rank = ranks_[r];
    for (; rank.round < rank.rounds.size(); ++rank.round) {
      const Round& round = rank.rounds[rank.round];
      for (const size_t m : round.sends) {
        Message& message = messages_[m];
        schedule::append_route(shape_, message.from, message.to, message.route);
        message.tail = time;
        push(time, m, 0);
      }
      if (round.open > 0) return;
    }
  }

  void close(size_t r, int round, double time) {
    Rank& rank = ranks_[r];
    if (--rank.rounds[static_cast<size_t>(round)].open > 0 || rank.round != static_cast<size_t>(round))
      return;
    ++rank.round;
    begin(r, time);
  }

  void take_link(const Event& event, Message& message) {
    const schedule::Link& link = message.route[static_cast<size_t>(event.hop)];
    const Lane& lane = lanes_[static_cast<size_t>(link.direction)];
    const auto index = static_cast<size_t>(schedule::link_index(link));
    const double seconds = message.bytes / lane.bytes_per_s, latency = lane.latency.count();
    const double start = std::max(event.time, free_[index]);
    // A slower link behind it may have the last bytes still on their way.
    message.tail = std::max(message.tail, start + seconds) + latency;
    free_[index] = start + seconds;
    out_.carried[index] += message.bytes;
    if (event.hop == 0) push(start + seconds, event.message, kSent);
    const bool last = static_cast<size_t>(event.hop) + 1 == message.route.size();
    push(last ? message.tail : start + latency, event.message, event.hop + 1);
  }

  schedule::GroupShape shape_;
  std::array<Lane, schedule::kDirections> lanes_;
  std::vector<Rank> ranks_;
  std::vector<Message> messages_;
  std::vector<double> free_;  // when a link has carried what came to it, by link_index
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t made_ = 0;
  PlayedMessages out_;
};

}  // namespace

PlayedMessages play_messages(const schedule::GroupShape& shape, const std::vector<schedule::Plan>& plans,
                             double bytes, const std::array<Lane, schedule::kDirections>& lanes) {
  return MessagePlay(shape, plans, bytes, lanes).run();
}

}  // namespace toroid::sim
