// Messages between ranks, without waiting: what collectives are made of where ranks share no memory. Nothing
// here is known of MPI. One thread uses a transport.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace toroid {

class Transport {
 public:
  // A message under way; its memory stays in place until test() has returned a size.
  struct Request {
    int64_t id = -1;
  };

  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Messages of one (sender, receiver, context) arrive in the order in which they were sent, and meet
  // receives in the order in which those were posted. Sizes are 64-bit.
  virtual Request send(int peer, int context, std::span<const std::byte> bytes) = 0;
  virtual Request receive(int peer, int context, std::span<std::byte> bytes) = 0;
  // The message's size once it is through, which ends the request; a message larger than what was to be
  // received gives a larger size and is cut.
  virtual std::optional<int64_t> test(Request request) = 0;
};

}  // namespace toroid
