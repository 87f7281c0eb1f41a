// libFuzzer: JSON as an index or a config.json brings it. Seeds: tests/malformed/json, tests/malformed/index.
#include <cstdint>
#include <string_view>

#include "core/base/error.h"
#include "core/base/io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto document = toroid::JsonDocument::parse({reinterpret_cast<const char*>(data), size}, "fuzz",
                                                      {.depth = 16, .values = 10'000});
    const toroid::JsonView map = document.root().at("weight_map");
    for (const std::string& name : map.keys()) map.at(name).as_string();
  } catch (const toroid::UserError&) {
  }
  return 0;
}
