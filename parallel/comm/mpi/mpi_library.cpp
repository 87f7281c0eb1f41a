#include "parallel/comm/mpi/mpi_library.h"

#include <limits>

#include "core/base/error.h"
#include "parallel/comm/mpi/mpi_transport.h"

namespace toroid::mpi {
namespace {

MPI_Datatype mpi_type(DType type) {
  switch (type) {
    case DType::f64:
      return MPI_DOUBLE;
    case DType::f32:
      return MPI_FLOAT;
    case DType::bf16:
      return MPI_UINT16_T;  // of which only bits travel
    case DType::i64:
      return MPI_INT64_T;
    case DType::i32:
      return MPI_INT32_T;
    case DType::u8:
      return MPI_UINT8_T;
  }
  throw InternalError("MPI has no such type");
}

}  // namespace

MpiLibrary::MpiLibrary(const std::vector<int>& world_ranks, int context)
    : size_(static_cast<int>(world_ranks.size())) {
  MPI_Group world = MPI_GROUP_NULL, group = MPI_GROUP_NULL;
  check(MPI_Comm_group(MPI_COMM_WORLD, &world), "group of all");
  check(MPI_Group_incl(world, size_, world_ranks.data(), &group), "group");
  check(MPI_Comm_create_group(MPI_COMM_WORLD, group, context, &comm_), "communicator of a group");
  MPI_Group_free(&group);
  MPI_Group_free(&world);
}

bool MpiLibrary::serves(schedule::Operation operation, DType type, Combine how, int64_t elements) const {
  if (elements > std::numeric_limits<int>::max()) return false;  // MPI counts in int
  const bool combines =
      operation == schedule::Operation::all_reduce || operation == schedule::Operation::reduce_scatter;
  if (!combines) return true;
  // It has no bf16, and does not say what the larger of a number and a NaN is.
  if (how == Combine::max) return type == DType::i32 || type == DType::i64 || type == DType::u8;
  return type != DType::bf16;
}

void MpiLibrary::begin(const HostJob& job) {
  using Operation = HostJob::Operation;
  const MPI_Datatype type = mpi_type(job.type);
  const MPI_Op how = job.how == Combine::sum ? MPI_SUM : MPI_MAX;
  const int all = static_cast<int>(job.elements), share = all / size_;
  int rank = 0;
  check(MPI_Comm_rank(comm_, &rank), "rank in a group");
  const auto in_place = [&](const std::byte* own) -> const void* {
    return job.in == own ? MPI_IN_PLACE : job.in;
  };
  switch (job.operation) {
    case Operation::all_gather:
      return check(MPI_Iallgather(in_place(job.out + int64_t{rank} * share * bytes_of(job.type)), share, type,
                                  job.out, share, type, comm_, &request_),
                   "all_gather");
    case Operation::reduce_scatter:
      return check(MPI_Ireduce_scatter_block(job.in, job.out, share, type, how, comm_, &request_),
                   "reduce_scatter");
    case Operation::all_reduce:
      return check(MPI_Iallreduce(in_place(job.out), job.out, all, type, how, comm_, &request_),
                   "all_reduce");
    case Operation::broadcast:
      return check(MPI_Ibcast(job.out, all, type, job.root, comm_, &request_), "broadcast");
    case Operation::all_to_all:
      return check(MPI_Ialltoall(job.in, share, type, job.out, share, type, comm_, &request_), "all_to_all");
    case Operation::barrier:
      return check(MPI_Ibarrier(comm_, &request_), "barrier");
    case Operation::sum:
    case Operation::spread:
      break;
  }
  throw InternalError("MPI has no such collective");
}

bool MpiLibrary::done() {
  int done = 0;
  check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "test of a collective");
  return done != 0;
}

}  // namespace toroid::mpi
