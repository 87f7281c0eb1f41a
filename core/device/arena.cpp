#include "core/device/arena.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "core/base/text.h"

namespace toroid {

DeviceArena::DeviceArena(int64_t bytes, int64_t alignment)
    : bytes_(alignment > 0 ? bytes / alignment * alignment : 0), alignment_(alignment) {
  require(alignment > 0 && bytes >= 0, "an arena has a size, and a unit of at least one byte");
  if (bytes_ > 0) add_free(0, bytes_);
}

void DeviceArena::add_free(int64_t offset, int64_t bytes) {
  free_.emplace(offset, bytes);
  by_size_.emplace(bytes, offset);
}

void DeviceArena::remove_free(std::map<int64_t, int64_t>::iterator piece) {
  by_size_.erase({piece->second, piece->first});
  free_.erase(piece);
}

DeviceArena::Piece DeviceArena::allocate(int64_t bytes, std::string_view holder) {
  require(bytes >= 0, "an allocation has a size of at least zero bytes");
  if (bytes > bytes_) throw SystemError(shortage(bytes, holder));
  Piece out;
  out.bytes = std::max(alignment_, round_up(bytes, alignment_));
  // The first of the smallest pieces that are large enough.
  const auto found = by_size_.lower_bound({out.bytes, 0});
  if (found == by_size_.end()) throw SystemError(shortage(bytes, holder));
  const auto [piece_bytes, offset] = *found;
  out.offset = offset;
  remove_free(free_.find(offset));
  if (piece_bytes > out.bytes) add_free(offset + out.bytes, piece_bytes - out.bytes);
  out.tickets = take_tickets(offset, offset + out.bytes);
  held_.emplace(offset, Held{out.bytes, holder});
  used_ += out.bytes;
  reached_ = std::max(reached_, out.offset + out.bytes);
  return out;
}

void DeviceArena::free(int64_t offset, const Tickets& last_use) {
  const auto found = held_.find(offset);
  require(found != held_.end(), "what is freed was allocated");
  int64_t begin = offset, bytes = found->second.bytes;
  held_.erase(found);
  used_ -= bytes;
  if (last_use != Tickets{}) last_uses_.emplace(offset, Used{offset + bytes, last_use});
  const auto after = free_.lower_bound(offset);
  if (after != free_.end() && after->first == offset + bytes) {
    bytes += after->second;
    remove_free(after);
  }
  const auto next = free_.lower_bound(offset);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      begin = before->first;
      bytes += before->second;
      remove_free(before);
    }
  }
  add_free(begin, bytes);
}

// The last uses of [offset, end), which are forgotten there and stay on either side.
Tickets DeviceArena::take_tickets(int64_t offset, int64_t end) {
  Tickets out{};
  auto at = last_uses_.upper_bound(offset);
  if (at != last_uses_.begin() && std::prev(at)->second.end > offset) --at;
  while (at != last_uses_.end() && at->first < end) {
    const int64_t begin = at->first;
    const Used used = at->second;
    for (size_t queue = 0; queue < kQueues; ++queue) out[queue] = std::max(out[queue], used.tickets[queue]);
    at = last_uses_.erase(at);
    if (begin < offset) last_uses_.emplace(begin, Used{offset, used.tickets});
    if (used.end > end) last_uses_.emplace(end, used);
  }
  return out;
}

std::string DeviceArena::shortage(int64_t bytes, std::string_view holder) const {
  std::map<std::string, int64_t> by_holder;
  for (const auto& [offset, held] : held_) by_holder[std::string(held.holder)] += held.bytes;
  std::vector<std::pair<int64_t, std::string>> largest;
  for (const auto& [name, held] : by_holder) largest.emplace_back(-held, name);
  std::sort(largest.begin(), largest.end());
  constexpr size_t kNamed = 3;
  if (largest.size() > kNamed) largest.resize(kNamed);
  std::string out = "not enough device memory: " + human_bytes(bytes) + " for " + std::string(holder) +
                    ", but of " + human_bytes(bytes_) + " there are " + human_bytes(bytes_ - used_) +
                    " free, at most " + human_bytes(largest_free()) + " in one piece";
  for (size_t i = 0; i < largest.size(); ++i) {
    out += (i == 0 ? "; the largest holders are " : ", ") + largest[i].second + " with " +
           human_bytes(-largest[i].first);
  }
  return out;
}

}  // namespace toroid
