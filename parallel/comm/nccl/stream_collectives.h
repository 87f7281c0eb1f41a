// What a library of GPUs carries out for one group, in one piece on the stream of a queue: a collective of
// its own, or sends and receives that go together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/transfer.h"

namespace toroid {

struct StreamJob {
  enum class Operation : uint8_t { all_gather, reduce_scatter, all_reduce, broadcast, exchange };
  // Of an exchange: elements that go to or come from a rank of the group, this one among them. Those between
  // two ranks meet in the order of their lists.
  struct Part {
    int peer = 0;
    bool receive = false;
    std::byte* data = nullptr;
    int64_t elements = 0;
  };
  Operation operation = Operation::exchange;
  DType type = DType::u8;
  Combine how = Combine::sum;
  int root = 0;
  int64_t elements = 0;           // of the whole array: gathered, or before scattering
  const std::byte* in = nullptr;  // this rank's share, for all_gather; else the whole array
  std::byte* out = nullptr;       // the whole array, for reduce_scatter this rank's share; may be `in`
  std::vector<Part> parts;        // of an exchange
};

class StreamCollectives {
 public:
  virtual ~StreamCollectives() = default;
  // Watched over as every other transfer is, under this number of the group's calls (0: a message between two
  // ranks).
  virtual std::unique_ptr<Transfer> transfer(StreamJob job, uint64_t sequence, CollectiveInfo info) = 0;
};

}  // namespace toroid
