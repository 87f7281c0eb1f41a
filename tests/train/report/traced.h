// Steps of ranks that are threads, traced and recorded at once, on any device.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/device/sim/recording_device.h"
#include "tests/parallel/local_world.h"
#include "train/engine/plugins.h"

namespace toroid::train {

struct Slice {
  int64_t begin = 0, end = 0;  // nanoseconds
  std::string name, category;
  nlohmann::json arguments;
};
using Row = std::vector<Slice>;  // in the order of time

struct Traced {
  std::vector<std::vector<Record>> records;  // of the traced steps, by rank
  std::map<int, std::string> processes;
  std::map<std::pair<int, std::string>, Row> rows;  // by rank and name; every named row is there
};

// A rank's device and what it is one of; nullptr: a CPU of one thread.
struct TracedOn {
  std::function<std::unique_ptr<Device>(World& world)> make_device;
  Plugins plugins;
};

// Five steps, of which the third and the fourth are recorded, once by the tracer and once by a recorder.
Traced trace(const std::string& layout, const LocalJob::Options& options = {}, const TracedOn& on = {},
             const std::vector<std::string>& sets = {});

// Every rank has its rows, each with the operators, copies and collectives that were issued on its queue, in
// their order, and without overlaps.
void expect_whole(const Traced& traced);
// Of all rows, these have something in them.
void expect_used(const Traced& traced, const std::set<std::string>& expected);

}  // namespace toroid::train
