// Work on files side by side.
#pragma once

#include <cstddef>
#include <functional>

namespace toroid {

// work(0) to work(count - 1), in this order as threads come free, on up to `threads` threads, the calling one
// among them; what one throws is thrown, and what was not begun is left out.
void on_threads(size_t count, int threads, const std::function<void(size_t)>& work);

}  // namespace toroid
