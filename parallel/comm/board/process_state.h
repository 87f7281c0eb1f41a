// Whether a process of this host runs.
#pragma once

#include <cstdint>

namespace toroid {

enum class ProcessState : uint8_t { running, stopped, gone };

ProcessState state_of(int process);

}  // namespace toroid
