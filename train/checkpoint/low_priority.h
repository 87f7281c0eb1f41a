// For threads that work beside the steps of a run and are not to take their time.
#pragma once

namespace toroid {

// The calling thread from now on: the lowest share of a processor, and of a disk where its scheduler knows
// priorities. Where the system refuses, it goes on as it is.
void lower_priority();

}  // namespace toroid
