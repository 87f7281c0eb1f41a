// Steps that a run has gone back behind: checkpoints/aside-K holds them, with what else the run kept of later
// steps and aside.json, which says how far back the run went. They are no part of the run any more.
//
// The folder is filled as .aside-K, which begins with aside.json. From there on these steps do not count,
// wherever a stop leaves them, and the next one to write into the run moves the rest and takes the dot away.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

struct Aside {
  Path directory;       // checkpoints/aside-K
  int64_t back_to = 0;  // the step that the run went back to
  std::set<int64_t> steps;
};

// Moves what is not a checkpoint: all of the run that is later than `back_to`, into `directory`. Called again
// where a stop came between.
using MoveRest = std::function<void(const Path& directory, int64_t back_to)>;

// Steps under `checkpoints`, oldest first, by name alone, without those that are being set aside.
std::vector<int64_t> steps_of_run(const Path& checkpoints);

// Moves `steps` into a new aside-K, K being the smallest number that is free. SystemError where it fails; the
// next finish_asides() then goes on.
Aside set_aside(const Path& checkpoints, int64_t back_to, std::span<const int64_t> steps,
                const MoveRest& rest);

// Brings to an end what a stop left half done.
std::vector<Aside> finish_asides(const Path& checkpoints, const MoveRest& rest);

// RUN/checkpoints/aside-K/step-N, looked for by the name of RUN/checkpoints/step-N; nothing where there is
// none.
std::optional<Path> find_aside(const Path& step);

// Whether `path` is a folder that was set aside, by its name.
bool is_aside(const Path& path);

}  // namespace toroid
