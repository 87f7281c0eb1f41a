// The job that mpirun started.
#pragma once

#include <memory>

#include "parallel/comm/world.h"

namespace toroid::mpi {

std::unique_ptr<World> make_mpi_world(Seconds deadline);

}  // namespace toroid::mpi
