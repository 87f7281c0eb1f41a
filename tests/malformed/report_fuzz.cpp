// libFuzzer: a rank's report of what it wrote of a checkpoint; what is accepted must write itself again to
// the same effect. Seeds: tests/malformed/report.
#include <cstdint>
#include <string_view>

#include "core/base/error.h"
#include "train/checkpoint/report_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const toroid::RankReport first =
        toroid::parse_report({reinterpret_cast<const char*>(data), size}, {1, 4});
    const std::string text = toroid::report_text(first);
    if (toroid::report_text(toroid::parse_report(text, {1, 4})) != text) __builtin_trap();
  } catch (const toroid::UserError&) {
  }
  return 0;
}
