#include "core/tensor/block.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/round_up.h"

namespace toroid {

Tickets Block::last_use() const {
  Tickets out{};
  for (const Uses& uses : parts()) {
    for (size_t queue = 0; queue < kQueues; ++queue)
      out[queue] = std::max({out[queue], uses.read[queue], uses.written[queue]});
  }
  return out;
}

void Block::cut(int64_t count) {
  require(cut_.size() <= 1 && count > 0 && bytes % count == 0, "a block is cut once, into equal parts");
  cut_.assign(static_cast<size_t>(count), whole_);
}

std::span<Uses> Block::parts_of(int64_t first, int64_t end) {
  if (cut_.size() <= 1) return parts();
  const auto count = static_cast<int64_t>(cut_.size());
  if (end <= first || bytes == 0) return {};
  const int64_t each = bytes / count;
  const int64_t from = std::min(first / each, count - 1), to = std::min(divide_up(end, each), count);
  return std::span(cut_).subspan(static_cast<size_t>(from), static_cast<size_t>(to - from));
}

}  // namespace toroid
