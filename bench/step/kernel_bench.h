// Times each operator of a training step alone, in its device's own time: `toroid bench kernels`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "configs/run.pb.h"
#include "core/base/clock.h"
#include "train/engine/plugins.h"

namespace toroid::train {

// What bounds an operator: memory, or the products in it. `fused` ones take products to memory and back.
enum class KernelClass : uint8_t { memory, product, attention, fused };
std::string_view name_of(KernelClass kind);

struct KernelTime {
  KernelClass kind = KernelClass::memory;
  std::string op, text;  // "rms_norm", and with its shapes
  int64_t calls = 0;     // a step
  double seconds = 0;    // of one call, median
  double flops = 0;      // of its products, where causal of those alone that count
  double bytes = 0;      // that have to move: its operands, once
  // Of a product, in the fastest of the library's ways; 0 where its device knows one way.
  double best_s = 0;
  int ways = 0;
  double flops_per_s() const { return flops / seconds; }
  double bytes_per_s() const { return bytes / seconds; }
};

struct KernelBench {
  double copy_bytes_per_s = 0;  // read and written by a copy within the device's memory
  bool finite = true;           // whether the step that was timed had finite numbers to the end
  double beyond_caches = 0;     // bytes, as the options say
  std::vector<KernelTime> kernels;
  std::vector<std::string> remarks;  // Device::remarks()

  // Of what is possible: of the copy rate, or of the fastest way. 0: not known, as for attention.
  double share(const KernelTime& kernel) const;
  // Whether its share says how good it is: bytes beyond the caches, or several ways.
  bool judged(const KernelTime& kernel) const;
  // The judged one of that class with the least share; nullptr: there is none.
  const KernelTime* worst(KernelClass kind) const;
  // Seconds in one layer of "attention" or "attention_grad"; 0: there is none.
  double attention_s(std::string_view op) const;
};

struct KernelBenchOptions {
  int rounds = 5;      // whose median counts
  Seconds each{0.02};  // that launches of one kernel take in a round, one behind the other
  // Bytes that a kernel moves at least for its time to be memory's and not a cache's: more than twice the 50
  // MB that an H200 has of one.
  double beyond_caches = 120e6;
};

// One step on synthetic tokens, in which each operator is launched again and again where it is issued for the
// first time: on the step's own numbers, in the memory that a step takes. Then the products of the loss, and
// copies, alone. UserError where there is more than one rank.
KernelBench bench_kernels(const config::RunConfig& run, const KernelBenchOptions& options,
                          const Plugins& plugins);

}  // namespace toroid::train
