// Which way a collective goes where none is asked for: a table that `toroid bench collectives` measures. It
// is the same on all ranks of a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid {

// How a collective is carried out.
struct Method {
  enum class By : uint8_t {
    messages,      // in the order of `algorithm`
    read,          // ranks of a host read each other's arrays (host_transfer.h)
    relay,         // ranks of a host hand pieces on through memory that all of them map (relay_transfer.h)
    hierarchical,  // ranks of a host read, those of the same place on each host exchange messages
    library,       // by the transport itself (library_transfer.h)
  };
  By by = By::messages;
  schedule::Algorithm algorithm = schedule::Algorithm::direct;  // of messages

  Method(By method) : by(method) {}
  Method(schedule::Algorithm order) : algorithm(order) {}
  friend bool operator==(const Method&, const Method&) = default;
};

// All that there are.
std::vector<Method> all_methods();

std::string_view name(const Method& method);
// Nothing where there is no such way.
std::optional<Method> method_named(std::string_view name);

// Serves arrays of more bytes than the row before it (of the same operation and ranks) and at most of these.
struct Choice {
  schedule::Operation operation = schedule::Operation::all_gather;
  int ranks = 0, ranks_per_host = 0;
  int64_t up_to_bytes = 0;
  Method method = Method::By::read;
};

// The row for an array of `bytes`: of the smallest size that is not below it, else of the largest there is.
// Nothing where the table has none for such a group.
const Choice* choose(const std::vector<Choice>& table, schedule::Operation operation, int ranks,
                     int ranks_per_host, int64_t bytes);

}  // namespace toroid
