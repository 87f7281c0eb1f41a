// This machine, as far as kernels and the doctor want to know it. Read from the system, nothing measured.
#pragma once

#include <cstdint>
#include <string>

namespace toroid {

struct HostInfo {
  std::string cpu;  // "AMD EPYC ..."
  int cores = 1;    // that this process may use
  bool avx2 = false, avx512 = false, avx512_bf16 = false, amx_bf16 = false;
  int64_t l1_bytes = 0, l2_bytes = 0, l3_bytes = 0;  // 0 where the system does not say
  int64_t memory_total = 0, memory_available = 0;    // bytes; a container's limit counts
};

HostInfo host_info();

// The widest of "AMX", "AVX-512 bf16", "AVX-512", "AVX2", "baseline".
std::string best_isa(const HostInfo& host);

// Bytes that can be had now without swapping: HostInfo::memory_available alone, for a caller that asks often.
int64_t available_memory();

}  // namespace toroid
