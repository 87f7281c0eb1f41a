// The side channel of a job of several hosts (parallel/comm/side_channel), made over MPI.
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/board/board.h"
#include "parallel/comm/side_channel/server.h"
#include "parallel/comm/side_channel/side_channel.h"

namespace toroid::mpi {

struct MpiSideChannel {
  std::unique_ptr<BoardServer> server;        // on the first ranks of each host
  std::shared_ptr<const SideChannel> others;  // nullptr: there is one host
};

// Every rank calls it. `hosts`: by rank, the first rank of its host.
MpiSideChannel open_side_channel(const Board& board, int rank, const std::vector<int>& host_ranks,
                                 const std::vector<int>& hosts);

}  // namespace toroid::mpi
