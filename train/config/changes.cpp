#include "train/config/changes.h"

#include <google/protobuf/descriptor.h>

#include <array>
#include <map>
#include <string_view>

#include "train/config/reflection.h"

namespace toroid::config {
namespace {

constexpr std::array<std::string_view, 21> kFree = {
    "device",
    "chip",
    "model.token_ids",
    "mesh",
    "zero",
    "train.steps",
    "train.threads",
    "train.remat",
    "train.validate",
    "train.checkpoint",
    "train.log",
    "train.loss",
    "train.deadline_s",
    "train.straggler",
    "train.trace",
    "batch.sequences_per_replica",
    "train.init_from",
    "data.directory",
    "data.corpus",
    "data.threads",
    "data.skip",  // has rules of its own (train/data_position.h)
    "optim.skip.max_consecutive",
};

bool is_free(const std::string& path) {
  for (const std::string_view free : kFree) {
    if (path.compare(0, free.size(), free) == 0 &&
        (path.size() == free.size() || path[free.size()] == '.' || path[free.size()] == '[')) {
      return true;
    }
  }
  return false;
}

std::map<std::string, std::string> values(const RunConfig& run) {
  std::map<std::string, std::string> all;
  for_each_value(run, "", [&](const Value& value) {
    if (!is_free(value.path)) all[value.path] = literal(value);
  });
  return all;
}

}  // namespace

std::vector<std::string> changes(const RunConfig& saved, const RunConfig& now) {
  const auto before = values(saved), after = values(now);
  std::vector<std::string> lines;
  for (const auto& [path, value] : before) {
    const auto found = after.find(path);
    if (found == after.end()) {
      lines.push_back(path + " was " + value + " and is gone");
    } else if (found->second != value) {
      lines.push_back(path + " was " + value + " and is " + found->second);
    }
  }
  for (const auto& [path, value] : after) {
    if (!before.contains(path)) lines.push_back(path + " was not set and is " + value);
  }
  return lines;
}

}  // namespace toroid::config
