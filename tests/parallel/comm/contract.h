// What every communicator must do, checked against plain serial sums. Each rank of a job calls these, in the
// same order.
#pragma once

#include <optional>

#include "core/device/device.h"
#include "parallel/comm/world.h"

namespace toroid::testing {

// Every operation, element type and many sizes, by one way of moving the bytes; arrays of several segments
// among them, with lengths that nothing divides.
void check_operations(World& world, Device& device, const GroupOptions& options);
// Sums of numbers that do not add up exactly are the balanced tree's, bit for bit.
void check_tree(World& world, Device& device, std::optional<Method> method);
// Within the bound of scheduled_communicator.h, and the same on all ranks.
void check_bf16_wire(World& world, Device& device, Method method);
// Collectives with work beside them, cut into the rounds of a ring or a line and whole: odd sizes, fewer rows
// than a round has halves, none; each row is worked on once, and the sums are the serial ones.
void check_beside(World& world, Device& device);
// Several groups on several queues, issued in turn and read at the end. One of them sums in the order of its
// ranks, bit for bit.
void check_many_groups(World& world, Device& device);
// Arrays that go past the caches, in pieces of odd sizes.
void check_streamed(World& world, Device& device, Method method);
// All of the above but the last that the number of ranks allows, every way.
void check_all(World& world, Device& device);

}  // namespace toroid::testing
