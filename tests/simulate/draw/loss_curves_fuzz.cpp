// A run's metrics file: read or refused.
#include <cstddef>
#include <cstdint>

#include "core/base/error.h"
#include "simulate/draw/loss_curves.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    (void)toroid::train::loss_curves_svg({toroid::train::loss_curve("fuzz", text, "fuzz")});
  } catch (const toroid::UserError&) {
  }
  return 0;
}
