// What the ranks of a world tell each other beside their devices: text and a few numbers, from memory of
// their hosts. It goes by the thread that serves the transfers, on queues of its own, so that neither a
// device nor its collectives wait for it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/cpu/cpu_device.h"

namespace toroid {

class World;

class HostExchange {
 public:
  // All ranks of `world`, which make it together. Where its ranks do not exist, they say what this one says.
  explicit HostExchange(World& world);

  // `what` names it in reports of peers that do not come. Each but send() and begin() blocks, and throws a
  // PeerError then.
  //
  // Every rank's text, in the order of the ranks.
  std::vector<std::string> texts(const std::string& mine, const std::string& what);
  // The first rank's, on every rank.
  std::string from_first(const std::string& mine, const std::string& what);
  // A few numbers, as many on every rank: all ranks' one after the other.
  std::vector<double> numbers(std::span<const double> mine, const std::string& what);

  // Between two ranks: as many bytes as the other gives or takes.
  void send(int peer, std::span<const std::byte> bytes, const std::string& what);
  void receive(int peer, std::span<std::byte> bytes, const std::string& what);

  // Numbers that all ranks have begun to give, or will.
  class Answer {
   public:
    std::vector<double> wait();

   private:
    friend class HostExchange;
    Device* device_ = nullptr;
    std::vector<double> alone_;  // where nobody else answers
    Array mine_, all_;
  };
  // numbers() without its wait; not longer than this.
  Answer begin(std::span<const double> mine, const std::string& what);

 private:
  bool alone() const { return all_ == nullptr; }
  std::vector<std::byte> gather(DType type, std::span<const std::byte> mine, const std::string& what);

  int ranks_;
  CpuDevice memory_;                   // without kernels
  std::unique_ptr<Communicator> all_;  // nullptr: alone
};

}  // namespace toroid
