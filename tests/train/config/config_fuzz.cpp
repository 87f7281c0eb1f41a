// Config text and, after a NUL byte each, overrides. Whatever it is, it is read or refused by a UserError,
// and what is read is printed as text that reads back to the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "train/config/load.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < size; ++i) {
    if (data[i] == 0) {
      parts.emplace_back();
    } else {
      parts.back() += static_cast<char>(data[i]);
    }
  }
  const std::string text = parts.front();
  parts.erase(parts.begin());
  if (parts.size() > 16) parts.resize(16);
  try {
    const toroid::config::Resolved first = toroid::config::load_text(text, "fuzz", parts);
    const std::string printed = toroid::config::to_text(first);
    const toroid::config::Resolved second = toroid::config::load_text(printed, "again");
    if (second.run.SerializeAsString() != first.run.SerializeAsString()) std::abort();
  } catch (const toroid::UserError&) {
    return 0;
  }
  return 0;
}
