// libFuzzer: the header of a safetensors file. Seeds: tests/malformed/safetensors.
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/base/error.h"
#include "core/base/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8) return 0;
  uint64_t length = 0;
  std::memcpy(&length, data, 8);
  if (length > size - 8) return 0;
  const std::string_view header(reinterpret_cast<const char*>(data) + 8, length);
  try {
    const auto parsed = toroid::parse_safetensors_header(header, static_cast<int64_t>(size), "fuzz");
    int64_t next = 8 + static_cast<int64_t>(length);
    for (const toroid::TensorInfo& tensor : parsed.tensors) {
      if (tensor.offset != next || tensor.bytes < 0) __builtin_trap();
      next += tensor.bytes;
    }
    if (next != static_cast<int64_t>(size)) __builtin_trap();
  } catch (const toroid::UserError&) {
  }
  return 0;
}
