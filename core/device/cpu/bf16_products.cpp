#include "core/device/cpu/bf16_products.h"

#include <immintrin.h>

#include <algorithm>
#include <ctime>

namespace toroid {

std::string_view name_of(Bf16Products products) {
  return products == Bf16Products::native ? "NATIVE" : "WIDENED";
}

namespace cpu {
namespace {

constexpr int kRounds = 15;
constexpr int64_t kTimes = 20'000;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Sums in registers, each its own chain: as many as hide an instruction's latency. The empty statements
// keep the compiler from joining or dropping them, and from knowing what it multiplies.
constexpr int kSums = 12;

__attribute__((target("avx512f,avx512bf16"))) void dot_products() {
  __m512 ones = _mm512_set1_ps(1.0f);
  asm volatile("" : "+v"(ones));
  const __m512bh a = _mm512_cvtne2ps_pbh(ones, ones);
  __m512 sums[kSums] = {};
  for (int64_t t = 0; t < kTimes; ++t) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) {
      sums[i] = _mm512_dpbf16_ps(sums[i], a, a);
      asm volatile("" : "+v"(sums[i]));
    }
  }
}

__attribute__((target("avx512f"))) void multiply_adds_512() {
  __m512 a = _mm512_set1_ps(1.0f);
  asm volatile("" : "+v"(a));
  __m512 sums[kSums] = {};
  for (int64_t t = 0; t < kTimes; ++t) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) {
      sums[i] = _mm512_fmadd_ps(a, a, sums[i]);
      asm volatile("" : "+v"(sums[i]));
    }
  }
}

__attribute__((target("avx2,fma"))) void multiply_adds_256() {
  __m256 a = _mm256_set1_ps(1.0f);
  asm volatile("" : "+x"(a));
  __m256 sums[kSums] = {};
  for (int64_t t = 0; t < kTimes; ++t) {
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) {
      sums[i] = _mm256_fmadd_ps(a, a, sums[i]);
      asm volatile("" : "+x"(sums[i]));
    }
  }
}

}  // namespace

RegisterRates measure_register_rates() {
  struct Loop {
    void (*run)();
    double flops_per_instruction;
    double* rate;
  };
  RegisterRates out;
  const Isa isa = instruction_set();
  const bool wide = isa >= Isa::avx512;
  const Loop fp32 = wide ? Loop{multiply_adds_512, 32, &out.fp32} : Loop{multiply_adds_256, 16, &out.fp32};
  const Loop bf16{isa >= Isa::avx512_bf16 ? dot_products : nullptr, 64, &out.bf16};
  if (isa == Isa::baseline) return out;
  for (int round = 0; round < kRounds; ++round) {
    for (const Loop& loop : {fp32, bf16}) {
      if (loop.run == nullptr) continue;
      const double before = thread_seconds();
      loop.run();
      const double took = thread_seconds() - before;
      if (took > 0)
        *loop.rate =
            std::max(*loop.rate, kSums * static_cast<double>(kTimes) * loop.flops_per_instruction / took);
    }
  }
  return out;
}

Bf16Products faster_products(Isa isa, const RegisterRates& rates) {
  if (isa == Isa::amx) return Bf16Products::native;
  if (isa < Isa::avx512_bf16) return Bf16Products::widened;
  return rates.bf16 >= rates.fp32 ? Bf16Products::native : Bf16Products::widened;
}

Bf16Products fastest_products() {
  static const Bf16Products fastest = [] {
    const Isa isa = instruction_set();
    return faster_products(isa, isa == Isa::avx512_bf16 ? measure_register_rates() : RegisterRates{});
  }();
  return fastest;
}

bool has_native_products() {
  return instruction_set() >= Isa::avx512_bf16;
}

}  // namespace cpu
}  // namespace toroid
