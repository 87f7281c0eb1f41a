// Told what a device does, and when. A device without an observer neither reads a clock for it nor makes a
// text.
#pragma once

#include <chrono>

#include "core/device/transfer.h"
#include "core/op/op.h"
#include "core/tensor/block.h"

namespace toroid {

struct Span {
  std::chrono::steady_clock::time_point begin, end;
};

class Observer {
 public:
  virtual ~Observer() = default;
  // On the thread that issues, one after the other: operators, copies, and waits for a queue of
  // communication.
  virtual void ran(const Call& call, Span span) = 0;
  virtual void copied(const Tensor& to, Span span) = 0;
  virtual void waited(Queue on, Span span) = 0;
  // On the thread that serves the queues of communication; those of one queue follow each other. From the
  // first look at a collective, whoever of its ranks is there, to its end on this rank.
  virtual void transferred(const CollectiveInfo& info, Queue queue, Span span) = 0;
};

}  // namespace toroid
