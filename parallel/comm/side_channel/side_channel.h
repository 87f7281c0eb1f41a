// What the other hosts' boards say, asked over TCP when a wait has lasted too long (token.h has the
// exchange).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "parallel/comm/side_channel/address.h"
#include "parallel/comm/side_channel/snapshot.h"
#include "parallel/comm/side_channel/token.h"

namespace toroid {

// A host as the others know it.
struct ServingHost {
  uint32_t number = 0;
  std::string name;
  std::vector<int> ranks;         // of the world
  std::vector<Endpoint> servers;  // any of which speaks for all of it
};

struct HostAnswer {
  const ServingHost* host = nullptr;
  std::optional<HostSnapshot> snapshot;
  std::string failure;  // why there is none
  const RankSnapshot* find(int rank) const;
};

class SideChannel {
 public:
  SideChannel(const Token& token, std::vector<ServingHost> others, Seconds patience = Seconds(2));
  // All servers of all hosts at once; returns when of each host one has answered, or after `patience`.
  std::vector<HostAnswer> ask(int context) const;

 private:
  Token token_;
  std::vector<ServingHost> others_;
  Seconds patience_;
};

}  // namespace toroid
