// In place of the others of this folder where the build has no MPI.
#include <string>

#include "core/base/error.h"
#include "parallel/comm/mpi/mpi_world.h"

namespace toroid::mpi {

std::unique_ptr<World> make_mpi_world(std::shared_ptr<cpu::TransferThread>, Seconds) {
  throw UserError("the launcher started " + std::to_string(launched_ranks()) +
                  " ranks, and this build has no MPI; install libopenmpi-dev and build again");
}

}  // namespace toroid::mpi
