// Every kind of operator there is, for registries, listings and tests that go through all of them. A new kind
// adds its line in kinds.cpp.
#pragma once

#include <span>

#include "core/op/op.h"

namespace toroid::op {

std::span<const OpKind* const> all_kinds();

}  // namespace toroid::op
