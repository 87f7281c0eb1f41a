// Messages over MPI: nonblocking calls, the context as the tag. All calls are made on one thread.
#pragma once

#include <mpi.h>

#include <deque>
#include <vector>

#include "parallel/comm/messages/transport.h"

namespace toroid::mpi {

// Throws SystemError with MPI's own text where `code` is not success.
void check(int code, const char* what);

class MpiTransport final : public Transport {
 public:
  // Over MPI_COMM_WORLD, which has been made ready and returns its errors.
  MpiTransport();
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Request send(int peer, int context, std::span<const std::byte> bytes) override;
  Request receive(int peer, int context, std::span<std::byte> bytes) override;
  std::optional<int64_t> test(Request request) override;

 private:
  // A message in parts that MPI can count; most have one.
  struct Message {
    std::vector<MPI_Request> parts;
    int64_t bytes = 0;  // of those parts that are through
    bool receive = false;
  };
  Request keep(Message message);

  int rank_ = 0, size_ = 1;
  std::vector<Message> messages_;  // by request
  std::vector<int64_t> unused_;
};

}  // namespace toroid::mpi
