#include "parallel/comm/host_exchange.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/base/error.h"
#include "parallel/comm/world.h"

namespace toroid {
namespace {

constexpr int64_t kLongestText = int64_t{1} << 30;

CollectiveLabel label(const std::string& what) {
  return {what, "transfer", Phase::setup};
}

// Its own copy of `bytes`.
Array copied(Device& memory, DType type, std::span<const std::byte> bytes) {
  Array out = memory.array(type, {static_cast<int64_t>(bytes.size()) / bytes_of(type)}, "transfer");
  memory.write(out.tensor, bytes);
  return out;
}

// The first rank's bytes, in place on every rank.
void broadcast(Device& memory, Communicator& all, DType type, std::span<std::byte> bytes,
               const std::string& what) {
  const Array array = copied(memory, type, bytes);
  all.broadcast(array.tensor, 0, label(what));
  memory.read(array.tensor, bytes);
}

void check_length(int64_t bytes, size_t rank, const std::string& what) {
  if (bytes >= 0 && bytes <= kLongestText) return;
  throw PeerError("rank " + std::to_string(rank) + " sends " + std::to_string(bytes) + " bytes of " + what +
                  ", but at most " + std::to_string(kLongestText) + " are taken");
}

}  // namespace

HostExchange::HostExchange(World& world)
    : ranks_(world.size()), memory_(std::make_shared<DeviceKernels>(), world.transfers(), world.pages()) {
  if (world.size() == 1 || world.transfers() == nullptr) return;
  std::vector<int> everybody(static_cast<size_t>(world.size()));
  std::iota(everybody.begin(), everybody.end(), 0);
  all_ = world.group(memory_, Queue::pod, "all", everybody, {1, world.size()}, {});
}

std::vector<std::byte> HostExchange::gather(DType type, std::span<const std::byte> mine,
                                            const std::string& what) {
  const Array own = copied(memory_, type, mine);
  const Array all = all_->all_gather({own.tensor, {}}, label(what));
  std::vector<std::byte> out(static_cast<size_t>(all.tensor.bytes()));
  memory_.read(all.tensor, out);
  return out;
}

std::vector<std::string> HostExchange::texts(const std::string& mine, const std::string& what) {
  std::vector<std::string> out(static_cast<size_t>(ranks_), alone() ? mine : "");
  if (alone()) return out;
  const auto length = static_cast<int64_t>(mine.size());
  std::vector<int64_t> lengths(static_cast<size_t>(ranks_));
  const auto words = gather(DType::i64, std::as_bytes(std::span(&length, 1)), what);
  std::memcpy(lengths.data(), words.data(), words.size());
  for (size_t r = 0; r < lengths.size(); ++r) check_length(lengths[r], r, what);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  if (longest == 0) return out;
  std::string padded = mine;
  padded.resize(static_cast<size_t>(longest));
  const auto bytes = gather(DType::u8, std::as_bytes(std::span(padded)), what);
  for (size_t r = 0; r < out.size(); ++r) {
    const auto* from = reinterpret_cast<const char*>(bytes.data()) + r * static_cast<size_t>(longest);
    out[r].assign(from, static_cast<size_t>(lengths[r]));
  }
  return out;
}

std::string HostExchange::from_first(const std::string& mine, const std::string& what) {
  if (alone()) return mine;
  auto length = static_cast<int64_t>(mine.size());
  broadcast(memory_, *all_, DType::i64, std::as_writable_bytes(std::span(&length, 1)), what);
  check_length(length, 0, what);
  std::string out = mine;
  out.resize(static_cast<size_t>(length));
  if (length > 0) broadcast(memory_, *all_, DType::u8, std::as_writable_bytes(std::span(out)), what);
  return out;
}

void HostExchange::send(int peer, std::span<const std::byte> bytes, const std::string& what) {
  require(!alone(), "there is a peer to send to");
  all_->send(copied(memory_, DType::u8, bytes).tensor, peer, label(what));
}

void HostExchange::receive(int peer, std::span<std::byte> bytes, const std::string& what) {
  require(!alone(), "there is a peer to receive from");
  const Array array = memory_.array(DType::u8, {static_cast<int64_t>(bytes.size())}, "transfer");
  all_->receive(array.tensor, peer, label(what));
  memory_.read(array.tensor, bytes);
}

std::vector<double> HostExchange::numbers(std::span<const double> mine, const std::string& what) {
  return begin(mine, what).wait();
}

HostExchange::Answer HostExchange::begin(std::span<const double> mine, const std::string& what) {
  Answer out;
  if (alone()) {
    for (int rank = 0; rank < ranks_; ++rank) out.alone_.insert(out.alone_.end(), mine.begin(), mine.end());
    return out;
  }
  out.device_ = &memory_;
  out.mine_ = copied(memory_, DType::f64, std::as_bytes(mine));
  out.all_ = all_->all_gather({out.mine_.tensor, {}}, label(what));
  return out;
}

std::vector<double> HostExchange::Answer::wait() {
  if (device_ == nullptr) return alone_;
  std::vector<double> out(static_cast<size_t>(all_.tensor.elements()));
  device_->read(all_.tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

}  // namespace toroid
