// libFuzzer: a checkpoint's manifest; what is accepted must write itself again to the same effect. Seeds:
// tests/malformed/manifest.
#include <cstdint>
#include <string_view>

#include "core/base/error.h"
#include "train/checkpoint/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    toroid::Manifest first = toroid::parse_manifest({reinterpret_cast<const char*>(data), size}, "fuzz");
    const std::string text = toroid::manifest_text(first);
    toroid::Manifest second = toroid::parse_manifest(text, "fuzz");
    if (toroid::manifest_text(second) != text) __builtin_trap();
  } catch (const toroid::UserError&) {
  }
  return 0;
}
