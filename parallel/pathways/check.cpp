#include "parallel/pathways/check.h"

#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "parallel/pathways/pathways.pb.h"

namespace toroid::pathways {

void check(const config::PathwaysConfig& pathways) {
  check_range("pathways.every_steps", pathways.every_steps(), 1, 1'000'000'000);
  if (pathways.has_nesterov()) {
    check_range("pathways.nesterov.learning_rate", pathways.nesterov().learning_rate(), 1e-6, 10.0);
    check_range("pathways.nesterov.momentum", pathways.nesterov().momentum(), 0.0, 1.0 - 1e-6);
  } else if (pathways.every_steps() > 1) {
    throw UserError("pathways.every_steps is " + std::to_string(pathways.every_steps()) +
                    " without an outer optimizer; pods that train apart agree by one: set pathways.nesterov");
  }
}

}  // namespace toroid::pathways
