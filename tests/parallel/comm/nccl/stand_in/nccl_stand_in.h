// A stand-in for NCCL, linked by tests in place of libnccl, over the stand-in for CUDA's runtime. Ranks may
// be threads of one process or processes of one host: they meet in memory that all map, whose path is the
// unique identifier. As with NCCL,
//   work runs in the order of its stream and waits there for its peers, until both sides have moved all;
//   calls that do not match hang, a send without its receive too, and only an abort ends them, on this rank;
//   a communicator that does not block is ready when all have come, and its first call of each kind of
//   traffic is under way for a while, during which nothing else may be asked of it; one that is finalized is
//   done when its peers have come to the same.
// Sums are taken in the order of a ring, which is that of no tree. What a test says to it beside NCCL's
// calls:
#pragma once

#include <nccl.h>

#include <cstdint>
#include <set>
#include <string_view>

namespace toroid::testing {

// What is set here lasts until the end of the scope, of which there is one at a time; it is this process's.
class NcclScope {
 public:
  NcclScope();
  ~NcclScope();
  NcclScope(const NcclScope&) = delete;  // of the process's one state
  NcclScope& operator=(const NcclScope&) = delete;

  // The `count`-th call of that name from now on, counted from 1, returns `code`.
  void fail(std::string_view call, int count, ncclResult_t code);
  // What is issued takes up to so long to be taken, and to begin on its stream, at random.
  void delay(int microseconds, unsigned seed);
  // The rank of the first communicator whose work moves nothing from now on.
  void unplug(int rank);
  // The same, and its communicators report `code`.
  void break_rank(int rank, ncclResult_t code);
  // Calls of ncclCommRegister that were given so many bytes.
  int registered(size_t bytes) const;
  // What communicators were bound to take of a GPU at most, each figure once.
  std::set<int> most_multiprocessors() const;
  // Of communicators that were made and neither destroyed nor aborted.
  static int alive();
  static int aborted();  // in this scope
};

}  // namespace toroid::testing
