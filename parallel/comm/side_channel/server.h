// Tells ranks of other hosts what this host's board says: a thread that sleeps until one of them asks. It
// knows nothing of MPI, so it answers while the rank's other threads wait, compute or hang; a rank whose
// process is stopped cannot serve, and therefore two ranks of a host do.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "parallel/comm/side_channel/address.h"
#include "parallel/comm/side_channel/descriptor.h"
#include "parallel/comm/side_channel/token.h"

namespace toroid {

class BoardServer {
 public:
  // What cannot prove the token, is slow or talks too much is dropped. Nobody can make it hold more than
  // kClients connections, each for kPatience seconds and of one question and one answer.
  static constexpr size_t kClients = 64;
  static constexpr double kPatience = 2;

  // The board as the group with this number sees it, encoded; called on the server's thread.
  using Tell = std::function<std::string(int context)>;

  // Listens on a free port of `address`, as host number `host`. SystemError where that fails.
  BoardServer(uint32_t address, uint32_t host, const Token& token, Tell tell);
  ~BoardServer();
  BoardServer(const BoardServer&) = delete;  // owns a thread
  BoardServer& operator=(const BoardServer&) = delete;
  const Endpoint& endpoint() const { return endpoint_; }

 private:
  class Loop;

  Endpoint endpoint_;
  Descriptor stop_;  // an event that ends the thread
  std::thread thread_;
};

}  // namespace toroid
