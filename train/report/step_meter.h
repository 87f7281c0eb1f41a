// What a step spent on communication: each rank measures its own, and all of them tell each other once a
// step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/device/device.h"
#include "parallel/comm/world.h"
#include "parallel/mesh/mesh.h"

namespace toroid::train {

// What one rank spent.
struct StepShare {
  Seconds took{0};       // the step, by the device's events
  Seconds exposed{0};    // of that, waiting for collectives
  Seconds under_way{0};  // at least one collective was under way, waits for peers included
  // What this rank's messages put on links: bytes x links, for each dimension of the torus, and last between
  // pods. What a peer on the same host reads from its memory counts as a message.
  std::vector<double> link_bytes;
  Seconds own() const { return std::max(Seconds(0), took - exposed); }
};

class StepMeter {
 public:
  // `device` and `world` outlive this.
  StepMeter(const Device& device, const World& world, const mesh::Mesh& mesh);
  // Around the issue of a step: what is sent is counted there.
  void begin();
  StepShare end() const;
  // Once the step has run, which lies between the two.
  void time(StepShare& share, Event begin, Event end) const;

 private:
  const Device& device_;
  const World& world_;
  std::vector<std::vector<int>> links_;  // by rank of the world: for each dimension, and last between pods
  std::vector<int64_t> sent_before_;
};

// Over the ranks.
struct StepCommunication {
  double exposed_s = 0, under_way_s = 0;  // means
  std::optional<double> overlap;          // 1 - exposed / under way; absent where nothing was under way
  std::vector<double> link_bytes;         // of a rank, mean
  int slowest = 0;
  std::vector<double> own_s;  // by rank
  double median_own_s() const;
};
StepCommunication summarise(std::span<const StepShare> ranks);

// As numbers to exchange, all ranks the same many.
std::vector<double> to_numbers(const StepShare& share);
StepShare share_of(std::span<const double> numbers);

// Names ranks that do more work of their own than their peers, and says when that is over.
class StragglerWatch {
 public:
  // A rank is slow in a step whose own work takes more than `factor` times the median of the other ranks'. It
  // is named after `steps` such steps in a row, and again after as many that are not; 0: never.
  StragglerWatch(double factor, int64_t steps) : factor_(factor), steps_(steps) {}

  struct Finding {
    int rank = 0;
    bool recovered = false;
    double own_s = 0, peers_s = 0;  // in the last step
  };
  std::vector<Finding> look(std::span<const double> own_s);

 private:
  struct State {
    int64_t in_a_row = 0;  // steps that were not what `named` says
    bool named = false;
  };
  double factor_;
  int64_t steps_;
  std::vector<State> states_;
};

}  // namespace toroid::train
