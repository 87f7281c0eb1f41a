// Told what a device is given to do, and later when it did it. A device without an observer neither reads a
// clock for it nor makes a text.
#pragma once

#include <chrono>
#include <functional>

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
  // Takes the time of one entry, once it is over and known, and keeps the observer until then. Those of one
  // queue follow each other. A collective's may be called on the thread that serves the queues of
  // communication, all others on the thread that issues.
  using Report = std::function<void(Span)>;
  // On the thread that issues, in the order of issue; what is named need not be there any more when the
  // report is made.
  virtual Report run(const Call& call, Queue queue) = 0;
  virtual Report copy(const Tensor& to, Queue queue) = 0;
  // The compute queue waits for what `on` does. No report, where it has not had to.
  virtual Report wait(Queue on) = 0;
  // From when this rank is there, whoever else is, to its end on this rank.
  virtual Report transfer(const CollectiveInfo& info, Queue queue) = 0;
};

}  // namespace toroid
