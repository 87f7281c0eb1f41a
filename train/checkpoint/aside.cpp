#include "train/checkpoint/aside.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/text.h"
#include "train/checkpoint/lineage.h"
#include "train/checkpoint/manifest_json.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "aside-";
constexpr const char* kRecord = "aside.json";

// K of "aside-K" as set_aside() spells it.
std::optional<int64_t> number_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool plain = error == std::errc() && end == name.data() + name.size() && number >= 0;
  return plain && name == std::to_string(number) ? std::optional(number) : std::nullopt;
}

// K of ".aside-K".
std::optional<int64_t> unfinished_number_of(std::string_view name) {
  return name.starts_with('.') ? number_of(name.substr(1)) : std::nullopt;
}

Path finished(const Path& checkpoints, int64_t number) {
  return checkpoints / (std::string(kPrefix) + std::to_string(number));
}

Path unfinished(const Path& checkpoints, int64_t number) {
  return checkpoints / ("." + std::string(kPrefix) + std::to_string(number));
}

std::vector<int64_t> numbers(const Path& checkpoints, std::optional<int64_t> (*number)(std::string_view)) {
  std::vector<int64_t> found;
  if (!is_present(checkpoints)) return found;
  for (const Path& entry : list_directory(checkpoints)) {
    if (const auto one = number(entry.filename().string())) found.push_back(*one);
  }
  std::sort(found.begin(), found.end());
  return found;
}

// What aside.json says; nothing where it was never written whole, so that nothing was moved.
std::optional<Aside> record_of(const Path& directory) {
  try {
    const JsonDocument document = JsonDocument::read(directory / kRecord);
    const JsonView root = document.root();
    Aside aside;
    aside.back_to = root.at("back_to").as_integer(0, kMost);
    for (const int64_t step : root.at("steps").as_integers(0, kMost)) aside.steps.insert(step);
    return aside;
  } catch (const UserError&) {
    return std::nullopt;
  }
}

void move_directory(const Path& from, const Path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0 || errno == ENOENT) return;  // the latter: moved before a stop
  throw SystemError("cannot move " + in_quotes(from.string()) + " to " + in_quotes(to.string()), errno);
}

Aside finish(const Path& checkpoints, int64_t number, Aside aside, const MoveRest& rest) {
  const Path filling = unfinished(checkpoints, number);
  // The newest first, for a program that knows nothing of this and takes the largest number.
  for (auto step = aside.steps.rbegin(); step != aside.steps.rend(); ++step) {
    move_directory(checkpoints / step_name(*step), filling / step_name(*step));
  }
  rest(filling, aside.back_to);
  sync_directory(filling);
  aside.directory = finished(checkpoints, number);
  move_directory(filling, aside.directory);
  sync_directory(checkpoints);
  return aside;
}

}  // namespace

std::vector<int64_t> steps_of_run(const Path& checkpoints) {
  std::vector<int64_t> steps = steps_in(checkpoints);
  for (const int64_t number : numbers(checkpoints, unfinished_number_of)) {
    const auto aside = record_of(unfinished(checkpoints, number));
    if (aside) std::erase_if(steps, [&](int64_t step) { return aside->steps.contains(step); });
  }
  return steps;
}

Aside set_aside(const Path& checkpoints, int64_t back_to, std::span<const int64_t> steps,
                const MoveRest& rest) {
  std::error_code ignored;
  int64_t number = 0;
  while (fs::exists(finished(checkpoints, number), ignored) ||
         fs::exists(unfinished(checkpoints, number), ignored)) {
    ++number;
  }
  const Path filling = unfinished(checkpoints, number);
  make_directories(filling);
  write_file(filling / kRecord, nlohmann::ordered_json{{"back_to", back_to}, {"steps", steps}}.dump() + "\n");
  sync_directory(checkpoints);
  return finish(checkpoints, number, {{}, back_to, {steps.begin(), steps.end()}}, rest);
}

std::vector<Aside> finish_asides(const Path& checkpoints, const MoveRest& rest) {
  std::vector<Aside> asides;
  for (const int64_t number : numbers(checkpoints, unfinished_number_of)) {
    const Path filling = unfinished(checkpoints, number);
    if (auto aside = record_of(filling)) {
      asides.push_back(finish(checkpoints, number, std::move(*aside), rest));
    } else if (const std::vector<int64_t> steps = steps_in(filling); steps.empty()) {
      std::error_code ignored;
      fs::remove_all(filling, ignored);
    } else {  // the record was damaged since: nothing of checkpoints is lost
      move_directory(filling, finished(checkpoints, number));
      sync_directory(checkpoints);
      asides.push_back({finished(checkpoints, number), 0, {steps.begin(), steps.end()}});
    }
  }
  return asides;
}

std::optional<Path> find_aside(const Path& step) {
  const Path checkpoints = step.parent_path();
  std::error_code ignored;
  for (const int64_t number : numbers(checkpoints, number_of)) {
    const Path path = finished(checkpoints, number) / step.filename();
    if (fs::exists(path, ignored)) return path;
  }
  return std::nullopt;
}

bool is_aside(const Path& path) {
  return number_of(path.filename().string()).has_value();
}

}  // namespace toroid
