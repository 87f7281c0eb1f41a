// libFuzzer: the text of a chip's file. Whatever it is, it is read or refused by a UserError, and what is
// read prices a product and a collective with numbers. Seeds: tests/malformed/chip.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "simulate/play/chips.h"
#include "simulate/play/network.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace toroid;
  try {
    const sim::Chip chip = train::parse_chip({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const auto& [type, peak] : chip.peak_flops_per_s) {
      Cost cost;
      cost.products.push_back({100, 200, 300, 1, type});
      cost.bytes_read = 1 << 20;
      cost.vector_flops = 1000;
      for (const char* kind : {"matmul", "attention"}) {
        const double seconds = sim::time_of(chip, kind, cost).total.count();
        if (!std::isfinite(seconds) || seconds < 0) std::abort();
      }
    }
    const sim::Flow flow = sim::play_on_switch(schedule::Algorithm::ring, schedule::Operation::all_gather, 4,
                                               1e6, {chip.host.chip_bytes_per_s, chip.host.ring_step});
    if (!std::isfinite(flow.alone().count()) || flow.alone().count() < 0) std::abort();
  } catch (const UserError&) {
  }
  return 0;
}
