// Collectives that are under way on the links of chips: how fast each of them is while others share its
// links.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

#include "simulate/play/network.h"

namespace toroid::sim {

// A collective that waits for chips, or is under way.
struct Transit {
  const Flow* flow = nullptr;
  std::vector<uint32_t> chips;  // that have arrived
  std::vector<double> arrived;  // when each of them did
  size_t lane = 0;
  double begun = 0, latency = 0;  // seconds
};

class Transits {
 public:
  explicit Transits(size_t chips) : moving_at_(chips) {}

  using Number = uint32_t;
  Number make();
  Transit& at(Number number) { return all_[number].transit; }
  // All of its chips are there since transit.begun.
  void begin(Number number);

  // When the next of them changes; infinity: none is under way.
  double next() const;
  // Goes on to that time; the collective that is over then, which is to be released once it is read.
  std::optional<Number> advance();
  void release(Number number);

 private:
  // Its latency passes, then its bytes do.
  struct UnderWay {
    Transit transit;
    bool moves = false;
    bool rises = false;               // while rates are found: no link of its is full
    bool marked = false;              // while those that share links are collected
    double work_left = 1, since = 0;  // share of the transfer that was left at a time
    double rate = 1;                  // since then, of the speed that it has alone
    double end = 0;                   // of the latency, or of the transfer at this rate
    uint32_t version = 0;             // of its end
    double seconds() const { return transit.flow->transfer.count(); }
  };
  struct Change {
    double time;
    Number number;
    uint32_t version;
    bool operator>(const Change& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };
  // Those under way at one chip, and what is left of its links; several chips with the same ones are one.
  struct Meeting {
    std::vector<Number> numbers;
    std::array<double, kLinks> room{}, load{};
  };

  static double use(const UnderWay& one, size_t link);
  static bool share_a_link(const UnderWay& a, const UnderWay& b);
  void set_end(Number number, double end);
  // `first` and all that share links with it, or with one of those that do.
  std::vector<Number> connected(Number first);
  std::vector<Meeting> meetings_of(const std::vector<Number>& numbers) const;
  // Rates rise together until a link is full, and those that use it stay where they are (max-min fairness).
  void share_links(const std::vector<Number>& numbers);
  void leave_chips(Number number);

  std::vector<UnderWay> all_;
  std::vector<Number> free_;
  std::vector<std::vector<Number>> moving_at_;  // by chip
  std::priority_queue<Change, std::vector<Change>, std::greater<>> changes_;
  double now_ = 0;
};

}  // namespace toroid::sim
