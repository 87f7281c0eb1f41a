// Any bytes as a token index: refused with one sentence, or document bounds that rise from 0.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "data/shard/format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const int32_t vocab : {1000, 256000}) {
    try {
      const auto starts = toroid::decode_index(bytes, vocab, "fuzz");
      if (starts.front() != 0) std::abort();
      for (size_t i = 1; i < starts.size(); ++i) {
        if (starts[i] <= starts[i - 1]) std::abort();
      }
    } catch (const toroid::UserError&) {  // what a bad index is answered with
    }
  }
  return 0;
}
