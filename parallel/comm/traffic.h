// How many bytes leave this rank, and for whom. Counted when a collective is issued, by its plan; what a peer
// reads from this rank's memory counts as if it had been sent. One thread issues, and it reads the counts.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/comm/messages/message_transfer.h"
#include "parallel/comm/within_host/host_transfer.h"

namespace toroid {

struct Traffic {
  explicit Traffic(int world_size) : sent_bytes(static_cast<size_t>(world_size)) {}
  std::vector<int64_t> sent_bytes;  // since the start, by rank of the world
};

// Adds what one call of `group` sends.
void count(const MessageJob& job, const GroupMembers& group, Traffic& traffic);
void count(const HostJob& job, const GroupMembers& group, Traffic& traffic);

}  // namespace toroid
