// Memory and time are one: what is gathered takes memory that others have used, and waits for them. A deeper
// prefetch costs memory and saves time; less memory than it takes is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "simulate/answer/advice.h"
#include "simulate/play/simulate.h"
#include "tests/simulate/small_run.h"

namespace toroid::train {
namespace {

constexpr int kLayers = 8;

// A pod of 4x4 that shards its weights over all chips; a layer's gather takes some of its forward pass.
config::RunConfig gathering(int64_t prefetch, const std::vector<std::string>& more = {}) {
  std::vector<std::string> sets = {"mesh.pods=1",
                                   "mesh.data=16",
                                   "mesh.model=1",
                                   "model.layers=" + std::to_string(kLayers),
                                   "batch.tokens_per_sequence=2048",
                                   "batch.global_sequences=16",
                                   "zero.prefetch=" + std::to_string(prefetch)};
  sets.insert(sets.end(), more.begin(), more.end());
  return testing::small_run(sets);
}

Simulation simulated(const config::RunConfig& run) {
  SimulateOptions options;
  options.spans = true;
  return simulate(run, testing::v5e(), Plugins(), options);
}

double waited_for_gathers(const Simulation& of) {
  return of.played.waited[static_cast<size_t>(Queue::gather)].count();
}

int64_t gathered_bytes(const Simulation& of) {
  return of.roles[0].memory.peak_by_holder.at("gathered weights");
}

TEST(SimulatedMemory, deeper_prefetch_takes_memory_and_saves_time) {
  const Simulation none = simulated(gathering(0)), one = simulated(gathering(1)),
                   two = simulated(gathering(2));
  EXPECT_GT(none.played.step, 1.02 * one.played.step);
  EXPECT_GE(one.played.step, two.played.step);
  EXPECT_GT(waited_for_gathers(none), 1.5 * waited_for_gathers(one));
  EXPECT_GE(waited_for_gathers(one), waited_for_gathers(two));
  EXPECT_LT(gathered_bytes(none), gathered_bytes(one));
  EXPECT_LT(gathered_bytes(one), gathered_bytes(two));
}

struct Held {
  int64_t bytes = 0;
  double begin = 0, end = 0;  // of its gather, and of the last operator that was issued before it was freed
};

// When each layer's gathered weights were being written or used.
std::vector<Held> held_weights(const Simulation& of) {
  std::map<const Record*, sim::TimeSpan> when;
  for (const sim::TimeSpan& span : of.played.spans) {
    if (span.record->kind != Record::Kind::wait) when[span.record] = span;
  }
  std::vector<Held> out;
  std::deque<size_t> live;  // layers are freed in the order in which they were gathered
  int64_t layer_bytes = 0;
  const Record* last = nullptr;
  of.roles[0].records().each([&](const Record& record) {
    if (record.kind == Record::Kind::launch && record.queue == Queue::compute && when.count(&record) > 0)
      last = &record;
    const bool layers = record.kind == Record::Kind::transfer && record.queue == Queue::gather &&
                        record.info->tensor.starts_with("layer.");
    if (layers) {
      layer_bytes = record.info->bytes;
      live.push_back(out.size());
      out.push_back({layer_bytes, when.at(&record).begin.count(), 0});
    }
    if (record.kind == Record::Kind::free && record.text == "gathered weights" &&
        record.bytes == layer_bytes && !live.empty()) {
      out[live.front()].end = when.at(last).end.count();
      live.pop_front();
    }
  });
  EXPECT_TRUE(live.empty());
  return out;
}

int64_t most_held(const std::vector<Held>& all) {
  int64_t most = 0;
  for (const Held& at : all) {
    int64_t bytes = 0;
    for (const Held& other : all) {
      if (other.begin <= at.begin && at.begin < other.end) bytes += other.bytes;
    }
    most = std::max(most, bytes);
  }
  return most;
}

// Memory that comes and goes within a step, at most.
int64_t most_in_a_step(const SimulatedRole& role) {
  int64_t now = 0, most = 0;
  role.records().each([&](const Record& record) {
    if (record.kind == Record::Kind::allocate) now += record.bytes;
    if (record.kind == Record::Kind::free) now -= record.bytes;
    most = std::max(most, now);
  });
  return most;
}

// No gather is ahead of its memory. A layer's place is the next one's when its last reader is done; one more
// layer may be on its way to a place that others have left.
TEST(SimulatedMemory, gathers_are_never_ahead_of_their_memory) {
  for (const int64_t prefetch : {0, 1, 2, 4}) {
    const Simulation of = simulated(gathering(prefetch));
    const SimulatedRole& role = of.roles[0];
    const std::vector<Held> held = held_weights(of);
    ASSERT_GE(held.size(), 2u * kLayers - static_cast<size_t>(prefetch))
        << "forward, and backward what was not gathered ahead";
    EXPECT_LE(most_held(held), (prefetch + 2) * held[0].bytes) << "prefetch " << prefetch;
    const int64_t stays = role.memory.bytes_peak - most_in_a_step(role);
    EXPECT_LE(most_held(held), role.placed_bytes - stays) << "prefetch " << prefetch;
  }
}

TEST(SimulatedMemory, placed_memory_is_the_sum_and_a_few_gaps) {
  for (const config::RunConfig& run : {gathering(0), gathering(1), gathering(4), testing::small_run(),
                                       testing::recipe({}), testing::recipe({"train.remat=CHEAP"})}) {
    const mesh::Mesh mesh = network_of(run, testing::v5e()).mesh();
    for (const SimulatedRole& role : record_roles(run, mesh, testing::v5e(), Plugins())) {
      const double gaps =
          static_cast<double>(role.placed_bytes) / static_cast<double>(role.memory.bytes_peak) - 1;
      EXPECT_GE(gaps, 0);
      EXPECT_LT(gaps, 0.1) << role.placed_bytes << " of " << role.memory.bytes_peak;
    }
  }
}

TEST(SimulatedMemory, what_is_gathered_ahead_must_fit) {
  const Simulation none = simulated(gathering(0)), deep = simulated(gathering(6));
  sim::Chip chip = testing::v5e();
  chip.memory_bytes = deep.roles[0].memory.bytes_peak - 1;
  ASSERT_GT(chip.memory_bytes, none.roles[0].placed_bytes);
  EXPECT_NO_THROW(require_room(gathering(0), chip, none, Plugins()));
  try {
    require_room(gathering(6), chip, deep, Plugins());
    FAIL() << "was accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("takes "), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(" and fit"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace toroid::train
