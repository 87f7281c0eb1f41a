// Which part of a device's memory is whose: best fit, in the order in which the program allocates and frees.
// Offsets follow from that order and from the sizes alone, never from how far a queue has come, so that two
// runs of one program have the same. A free never waits: memory that queues still use is free at once, keeps
// the tickets of its last uses, and brings them to whoever is given it next. Memory itself is not touched.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "core/tensor/block.h"

namespace toroid {

class DeviceArena {
 public:
  // Offsets and sizes are multiples of `alignment` bytes; what `bytes` has beyond is not used.
  explicit DeviceArena(int64_t bytes, int64_t alignment = 256);

  struct Piece {
    int64_t offset = 0, bytes = 0;  // as rounded
    Tickets tickets{};              // that the first user has to wait for
  };
  // `holder` outlives the piece. At least one unit, so that every block has an offset of its own.
  // SystemError, which names the largest holders, where no free piece is large enough.
  Piece allocate(int64_t bytes, std::string_view holder);
  // `last_use`: after these tickets nobody uses the piece at `offset`.
  void free(int64_t offset, const Tickets& last_use);

  int64_t bytes() const { return bytes_; }
  int64_t bytes_used() const { return used_; }
  // Up to the highest byte that was ever handed out, gaps between pieces included.
  int64_t reached() const { return reached_; }
  int64_t largest_free() const { return by_size_.empty() ? 0 : by_size_.rbegin()->first; }

 private:
  struct Held {
    int64_t bytes = 0;
    std::string_view holder;
  };
  // Free memory whose last users are the same; where nobody has used it there is none.
  struct Used {
    int64_t end = 0;
    Tickets tickets{};
  };
  void add_free(int64_t offset, int64_t bytes);
  void remove_free(std::map<int64_t, int64_t>::iterator piece);
  Tickets take_tickets(int64_t offset, int64_t end);
  std::string shortage(int64_t bytes, std::string_view holder) const;

  int64_t bytes_, alignment_, used_ = 0, reached_ = 0;
  std::map<int64_t, Held> held_;                   // by offset
  std::map<int64_t, int64_t> free_;                // bytes by offset; no two are neighbours
  std::set<std::pair<int64_t, int64_t>> by_size_;  // of the same: bytes, offset
  // By offset. A piece that is free as a whole may have parts with different last users: whoever takes one
  // part waits for its users only.
  std::map<int64_t, Used> last_uses_;
};

}  // namespace toroid
