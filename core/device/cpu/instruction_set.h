// The instructions that kernels use, Highway's and oneDNN's: one choice for the process, made before the
// first kernel.
#pragma once

#include <cstdint>
#include <string>

namespace toroid::cpu {

enum class Isa : uint8_t { baseline, avx2, avx512, avx512_bf16, amx };

// What a processor may be asked to do.
struct Instructions {
  Isa products = Isa::baseline;  // oneDNN's
  int64_t vectors = 0;           // Highway's targets, a bit each
  bool operator==(const Instructions&) const = default;
};

// What both can do.
Instructions common(const Instructions& a, const Instructions& b);
// "AVX-512 bf16"
std::string text(Isa isa);

// What this process may use: what the machine has, up to TOROID_MAX_ISA (baseline, avx2, avx512, avx512_bf16
// or amx) where that is set. UserError for another value. Chooses nothing yet.
Instructions available_instructions();
// Kernels use these and no others. InternalError where other ones have been chosen before.
void keep_to(const Instructions& instructions);
// Keeps to what is available, unless a choice has been made.
void cap_instruction_set();
Isa instruction_set();

// By which products are made: the library, its version and what its environment changes in them.
std::string product_library();

}  // namespace toroid::cpu
