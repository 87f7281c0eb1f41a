// libFuzzer: what another host's board says; what is accepted must write itself again as the same bytes. The
// input is taken as it is, and as rows behind a header that fits them. Seeds: tests/malformed/board.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "parallel/comm/side_channel/bytes.h"
#include "parallel/comm/side_channel/snapshot.h"

namespace {

void read(std::string_view bytes) {
  try {
    if (toroid::encode(toroid::decode_snapshot(bytes)) != bytes) __builtin_trap();
  } catch (const toroid::UserError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  read(bytes);
  const size_t rows = size / toroid::SnapshotLayout::kRowBytes;
  std::string whole = toroid::encode({}).substr(0, toroid::SnapshotLayout::kHeaderBytes - sizeof(uint32_t));
  toroid::append(whole, static_cast<uint32_t>(rows));
  read(whole.append(bytes.substr(0, rows * toroid::SnapshotLayout::kRowBytes)));
  return 0;
}
