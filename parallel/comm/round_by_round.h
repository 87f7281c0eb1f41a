// Collectives whose rounds are transfers of their own, so that work on one rank's rows goes on beside the
// journey of another's. A gather's rounds write the rows that come; a sum's rounds bring what is to be added
// into a place of its own, and what adds it is a transfer behind, so that this rank's summand may be made
// while its peer's is under way.
#pragma once

#include <functional>
#include <span>
#include <string>
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

// The rounds of a plan for so many ranks.
std::vector<Round> rounds_of(const schedule::Plan& plan, int ranks);

// Work on ranks' rows in the order in which rounds name the ranks, once for each.
class OnceARank {
 public:
  OnceARank(int ranks, std::function<void(int rank)> work);
  void of(std::span<const int> ranks);

 private:
  std::vector<bool> done_;
  std::function<void(int rank)> work_;
};

// Fewer rows of a rank are not cut by rule: their product is slower than what it hides.
inline constexpr int64_t kFewestRows = 64;

// What all ranks say alike of the rounds of a collective on `whole`, which travels as `wire`: one text for
// all of them, of which the end changes.
class RoundInfo {
 public:
  RoundInfo(CollectiveInfo whole, DType type, DType wire, schedule::Algorithm algorithm, size_t rounds);
  const CollectiveInfo& of(std::string_view operation, size_t index);
  // Of what adds up the round: no bytes travel.
  const CollectiveInfo& of_sum(size_t index);

 private:
  int64_t share(int64_t bytes, int round) const {
    return bytes * (round + 1) / rounds_ - bytes * round / rounds_;
  }

  CollectiveInfo said_;
  int64_t bytes_, wire_bytes_;
  int rounds_;
  size_t name_length_;
  std::string suffix_;
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
