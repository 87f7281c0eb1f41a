#include "train/config/changes.h"

#include <algorithm>
#include <array>
#include <span>

#include "train/config/reflection.h"

namespace toroid::config {
namespace {

constexpr auto kFree = std::to_array<std::string_view>({
    "device",
    "chip",
    "model.token_ids",
    "mesh",
    "zero",
    "train.steps",
    "train.threads",
    "train.bf16_products",
    "train.remat",
    "train.keep_gathered",
    "train.validate",
    "train.checkpoint",
    "train.log",
    "train.loss",
    "train.deadline_s",
    "train.deadline_floor_s",
    "train.straggler",
    "train.detect",
    "train.trace",
    "batch.sequences_per_replica",
    "batch.on_fewer_pods",
    "faults",
    "train.init_from",
    "data.directory",
    "data.corpus",
    "data.threads",
    "data.skip",  // has rules of its own (train/loop/data_position.h)
    "optim.skip.max_consecutive",
    "optim.skip.roll_backs",
});

constexpr auto kOfARank = std::to_array<std::string_view>({
    "train.threads", "train.trace", "train.log", "train.init_from", "data.directory", "data.corpus",
    "data.threads", "data.tokenizer.model", "data.source.path",
    "mesh.collective",  // the first rank's table goes for all
});

std::string without_indices(std::string_view path) {
  std::string out;
  int depth = 0;
  for (const char c : path) {
    depth += c == '[' ? 1 : 0;
    if (depth == 0) out += c;
    depth -= c == ']' ? 1 : 0;
  }
  return out;
}

bool is_in(std::string_view path, std::span<const std::string_view> fields) {
  const std::string plain = without_indices(path);
  return std::any_of(fields.begin(), fields.end(), [&](std::string_view field) {
    return plain.starts_with(field) && (plain.size() == field.size() || plain[field.size()] == '.');
  });
}

}  // namespace

std::vector<NamedValue> values(const RunConfig& run) {
  std::vector<NamedValue> out;
  for_each_value(run, "", [&](const Value& value) { out.push_back({value.path, literal(value)}); });
  return out;
}

bool may_change(std::string_view path) {
  return is_in(path, kFree);
}

bool may_differ(std::string_view path) {
  return is_in(path, kOfARank);
}

}  // namespace toroid::config
