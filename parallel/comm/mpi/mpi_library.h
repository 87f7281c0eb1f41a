// MPI's own collectives, nonblocking, on a communicator of the group's own. All calls are made on one thread.
#pragma once

#include <mpi.h>

#include <vector>

#include "parallel/comm/library_transfer.h"

namespace toroid::mpi {

class MpiLibrary final : public LibraryCollectives {
 public:
  // All ranks of the group make it, in the order of their groups; it waits for them.
  MpiLibrary(const std::vector<int>& world_ranks, int context);
  bool serves(schedule::Operation operation, DType type, Combine how, int64_t elements) const override;
  void begin(const HostJob& job) override;
  bool done() override;

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;  // a run has few, and MPI's end frees them
  int size_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

}  // namespace toroid::mpi
