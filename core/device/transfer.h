// A collective under way on a queue of communication, and what is said of it.
#pragma once

#include <cstdint>
#include <string>

#include "core/op/op.h"

namespace toroid {

// What a collective moves, for records, for the table that peers read and for reports of an expired deadline.
struct CollectiveInfo {
  std::string operation;   // "all_gather"
  std::string axis;        // "data"
  std::string tensor;      // "layer.3 weights"
  int64_t bytes = 0;       // of the whole array: gathered, or before scattering
  int ranks = 1;           // of the group
  std::string method;      // how it is carried out: a schedule's name, "read" ...
  int64_t wire_bytes = 0;  // of the whole array as it travels: fewer where a wire rounds
  Phase phase = Phase::forward;
  DType type = DType::f32;  // of the array's elements
  // Of a collective whose rounds are issued one by one: which one this is. `bytes` and `wire_bytes` are then
  // this round's share of the array's. -1: all of them at once.
  int round = -1;
};

class Transfer {
 public:
  virtual ~Transfer() = default;
  // Where a library of the device carries it out: puts all of it on `stream`, the handle of its queue, when
  // it is issued, and is kept until the queue has passed it. False: it is advanced.
  virtual bool put_on([[maybe_unused]] void* stream) { return false; }
  // Of one that was put on a stream, and on the thread that issues: whether it is known to have ended well.
  // What a stream has passed may have been broken off: an exception says why. Asked while the device waits.
  virtual bool settled() { return true; }
  // Does what can be done without waiting and says whether all is done. The thread that serves the queues of
  // communication calls it again and again; an exception ends the transfer and reaches whoever waits for it.
  virtual bool advance() = 0;
  // Whether those that it waits for ring the thread's bell (cpu::Bell) when they have come so far.
  virtual bool rings() const { return false; }
};

}  // namespace toroid
