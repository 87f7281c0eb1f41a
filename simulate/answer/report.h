// An answer as a table for people and as JSON for programs (docs/simulator.md lists the fields).
#pragma once

#include <iosfwd>
#include <string>

#include "simulate/answer/answer.h"

namespace toroid::train {

void print_answer(std::ostream& out, const Answer& answer);
std::string to_json(const Answer& answer);

}  // namespace toroid::train
