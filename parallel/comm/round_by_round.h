// Collectives whose rounds are transfers of their own, so that work on one rank's rows goes on beside the
// journey of another's. A gather's rounds write the rows that come; a sum's rounds bring what is to be added
// into a place of its own, and what adds it is a transfer behind, so that this rank's summand may be made
// while its peer's is under way.
#pragma once

#include <string_view>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/transfer.h"
#include "parallel/schedule/schedule.h"

namespace toroid {

// Whether collectives of a group are issued round by round where there is work beside them.
enum class Cut : uint8_t {
  never,
  by_rule,  // where messages go by a ring or within a pair, and a rank has rows enough for efficient products
  always,   // and by messages, where the group's shape lets them
};

// One round of a plan that moves whole ranks' rows or halves of them.
struct Round {
  schedule::Plan plan;
  std::vector<int> sent;      // the rank whose rows a move carries, of the sends in their order
  std::vector<int> received;  // and of the receives
};

// The operation, in records, of what adds up a round of a sum: no bytes travel.
inline constexpr std::string_view kSum = "sum";

// Adds to rows what has come, and then copies some, on the thread that serves transfers; no peer has a part
// in it.
class SumTransfer final : public Transfer {
 public:
  struct Part {
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    int64_t elements = 0;
  };
  SumTransfer(DType type, std::vector<Part> parts, Part copy);
  bool advance() override;

 private:
  DType type_;
  std::vector<Part> parts_;
  Part copy_;
  size_t at_ = 0;
};

}  // namespace toroid
