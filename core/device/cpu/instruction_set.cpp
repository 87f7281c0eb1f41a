#include "core/device/cpu/instruction_set.h"

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <dnnl.hpp>
#include <mutex>
#include <optional>
#include <string_view>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cpu/host_info.h"

namespace toroid::cpu {
namespace {

struct Level {
  std::string_view cap;  // as TOROID_MAX_ISA names it
  std::string_view name;
  dnnl::cpu_isa products;
  int64_t beyond;  // Highway's targets that it excludes
};

constexpr int64_t kAvx512 = HWY_AVX3 | HWY_AVX3_DL;
constexpr std::array<Level, 5> kLevels{{
    {"baseline", "baseline", dnnl::cpu_isa::sse41, HWY_AVX2 | kAvx512},
    {"avx2", "AVX2", dnnl::cpu_isa::avx2, kAvx512},
    {"avx512", "AVX-512", dnnl::cpu_isa::avx512_core_vnni, 0},
    {"avx512_bf16", "AVX-512 bf16", dnnl::cpu_isa::avx512_core_bf16, 0},
    {"amx", "AMX", dnnl::cpu_isa::avx512_core_amx, 0},
}};

const Level& level(Isa isa) {
  return kLevels[static_cast<size_t>(isa)];
}

// Asked of the system: oneDNN takes no cap once it has been asked what it would use.
Isa level_here() {
  const HostInfo host = host_info();
  if (host.amx_bf16) return Isa::amx;
  if (host.avx512_bf16) return Isa::avx512_bf16;
  if (host.avx512) return Isa::avx512;
  return host.avx2 ? Isa::avx2 : Isa::baseline;
}

std::optional<Isa> wanted_cap() {
  const char* const wanted = std::getenv("TOROID_MAX_ISA");
  if (wanted == nullptr || *wanted == '\0') return std::nullopt;
  for (size_t i = 0; i < kLevels.size(); ++i) {
    if (kLevels[i].cap == wanted) return static_cast<Isa>(i);
  }
  throw UserError("TOROID_MAX_ISA is " + in_quotes(wanted) +
                  "; use baseline, avx2, avx512, avx512_bf16 or amx");
}

// Highway's and oneDNN's own settings are the process's, and so is the choice.
struct Choice {
  std::once_flag once;
  Instructions made;
};

Choice& choice() {
  static Choice instance;
  return instance;
}

void choose(const Instructions& instructions) {
  // Without a reason to ask for less, what oneDNN's own environment says stands.
  if (wanted_cap() || instructions != available_instructions()) {
    hwy::DisableTargets(~instructions.vectors);
    dnnl::set_max_cpu_isa(level(instructions.products).products);
  }
  choice().made = instructions;
}

Isa effective() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      return Isa::amx;
    case dnnl::cpu_isa::avx512_core_bf16:
      return Isa::avx512_bf16;
    case dnnl::cpu_isa::avx512_core:
    case dnnl::cpu_isa::avx512_core_vnni:
      return Isa::avx512;
    case dnnl::cpu_isa::avx2:
    case dnnl::cpu_isa::avx2_vnni:
      return Isa::avx2;
    default:
      return Isa::baseline;
  }
}

}  // namespace

Instructions common(const Instructions& a, const Instructions& b) {
  return {std::min(a.products, b.products), a.vectors & b.vectors};
}

std::string text(Isa isa) {
  return std::string(level(isa).name);
}

Instructions available_instructions() {
  Instructions out{level_here(), hwy::SupportedTargets()};
  if (const auto cap = wanted_cap()) {
    out = common(out, {*cap, ~level(*cap).beyond});
  }
  return out;
}

void keep_to(const Instructions& instructions) {
  std::call_once(choice().once, [&] { choose(instructions); });
  if (choice().made != instructions) {
    throw InternalError("kernels were made before it was settled which instructions they may use");
  }
}

void cap_instruction_set() {
  std::call_once(choice().once, [] { choose(available_instructions()); });
}

Isa instruction_set() {
  cap_instruction_set();
  static const Isa isa = effective();
  return isa;
}

std::string product_library() {
  const dnnl_version_t* const version = dnnl_version();
  std::string out = "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                    std::to_string(version->patch);
  dnnl_fpmath_mode_t mode = dnnl_fpmath_mode_strict;
  if (dnnl_get_default_fpmath_mode(&mode) == dnnl_success && mode != dnnl_fpmath_mode_strict) {
    out += ", DNNL_DEFAULT_FPMATH_MODE " + std::to_string(mode);
  }
  if (const auto hints = dnnl_get_cpu_isa_hints(); hints != dnnl_cpu_isa_no_hints) {
    out += ", DNNL_CPU_ISA_HINTS " + std::to_string(hints);
  }
  return out;
}

}  // namespace toroid::cpu
