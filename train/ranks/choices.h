// The config's table of which way a collective takes, as communicators use it, the same on all ranks.
#pragma once

#include <string>
#include <vector>

#include "parallel/comm/choice.h"
#include "parallel/comm/world.h"
#include "parallel/mesh/mesh.pb.h"

namespace toroid::train {

// UserError, which names the row by `path`, where it is none.
Choice choice_of(const config::CollectiveChoice& row, const std::string& path);
// The config's rows. UserError with the row and what is wrong with it.
std::vector<Choice> choices_of(const config::MeshConfig& mesh);
// The same of the first rank, on all of them; blocks.
std::vector<Choice> agreed_choices(World& world, const config::MeshConfig& mesh);

}  // namespace toroid::train
