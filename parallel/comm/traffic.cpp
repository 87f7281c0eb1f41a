#include "parallel/comm/traffic.h"

#include <algorithm>

namespace toroid {

void count(const MessageJob& job, const GroupMembers& group, Traffic& traffic) {
  const int64_t wire = job.bf16_wire ? bytes_of(DType::bf16) : bytes_of(job.type);
  const auto boundary = [&](int64_t chunk) { return job.elements * chunk / job.plan.chunks; };
  for (const schedule::Move& move : job.plan.moves) {
    if (move.receive) continue;
    int64_t elements = 0;
    move.for_each_run(
        [&](int64_t first, int64_t chunks) { elements += boundary(first + chunks) - boundary(first); });
    const int peer = group.ranks[static_cast<size_t>(move.peer)];
    traffic.sent_bytes[static_cast<size_t>(peer)] += elements * wire;
  }
}

void count(const HostJob& job, const GroupMembers& group, Traffic& traffic) {
  using Operation = HostJob::Operation;
  const int size = group.size();
  const int places = std::max(size, job.places);
  const auto rows = [&](int rank) {
    int64_t elements = 0;
    for (int place = rank; place < places; place += size)
      elements += job.elements * (place + 1) / places - job.elements * place / places;
    return elements;
  };
  for (int place = 0; place < size; ++place) {
    if (place == group.place) continue;
    int64_t elements = 0;
    switch (job.operation) {
      case Operation::all_gather:
      case Operation::spread:
        elements = rows(group.place);
        break;
      case Operation::reduce_scatter:
      case Operation::sum:
        elements = rows(place);
        break;
      case Operation::all_reduce:
        elements = rows(place) + rows(group.place);
        break;
      case Operation::broadcast:
        elements = job.root == group.place ? job.elements : 0;
        break;
      case Operation::all_to_all:
        elements = job.elements / size;
        break;
      case Operation::barrier:
        break;
    }
    const int peer = group.ranks[static_cast<size_t>(place)];
    traffic.sent_bytes[static_cast<size_t>(peer)] += elements * bytes_of(job.type);
  }
}

}  // namespace toroid
