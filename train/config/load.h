// From a recipe on disk and --set overrides to one checked RunConfig whose every value has an origin.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "configs/run.pb.h"
#include "core/base/io/file.h"

namespace toroid::config {

// Path of a value ("optim.adamw.beta1", "mesh.torus[0]") -> where it came from ("default",
// "configs/quickstart.textproto:12", "--set", "from model.heads").
using Origins = std::map<std::string, std::string>;

struct Resolved {
  RunConfig run;    // every field set: defaults are written out
  Origins origins;  // of every field
};

// Reads `file`, applies `overrides` ("path=value") in order, fills in what is left and validates all of it.
// UserError names file, line and column, the override, or the relation that failed with both values.
Resolved load(const Path& file, std::span<const std::string> overrides = {});

// The same from text that is already in memory; `name` stands for the file in messages.
Resolved load_text(std::string_view text, const std::string& name,
                   std::span<const std::string> overrides = {});

// Text format, each value with its origin as a trailing comment. load_text() of it gives the same config.
std::string to_text(const Resolved& resolved);

// Checks every component and every relation between components. UserError with the first that fails.
void validate(const RunConfig& run);

}  // namespace toroid::config
