// A process of its own: instructions are chosen once.
#include "core/device/cpu/instruction_set.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"

namespace toroid::cpu {
namespace {

TEST(InstructionSet, CommonIsWhatBothHave) {
  const Instructions a{Isa::amx, 0b1100}, b{Isa::avx512, 0b0110};
  EXPECT_EQ(common(a, b), (Instructions{Isa::avx512, 0b0100}));
  EXPECT_EQ(common(a, b), common(b, a));
  EXPECT_EQ(common(a, a), a);
  EXPECT_EQ(text(Isa::avx512_bf16), "AVX-512 bf16");
}

TEST(InstructionSet, IsCappedByTheEnvironmentAndChosenOnce) {
  ::unsetenv("TOROID_MAX_ISA");
  const Instructions here = available_instructions();
  ::setenv("TOROID_MAX_ISA", "amx", 1);
  EXPECT_EQ(available_instructions(), here);
  ::setenv("TOROID_MAX_ISA", "baseline", 1);
  const Instructions least = available_instructions();
  EXPECT_EQ(least.products, Isa::baseline);
  EXPECT_EQ(common(least, here), least);
  ::setenv("TOROID_MAX_ISA", "sse9", 1);
  EXPECT_THROW((void)available_instructions(), UserError);
  ::unsetenv("TOROID_MAX_ISA");

  keep_to(least);
  EXPECT_EQ(instruction_set(), Isa::baseline);
  keep_to(least);
  cap_instruction_set();
  EXPECT_EQ(available_instructions().vectors, least.vectors);
  if (here != least) {
    EXPECT_THROW(keep_to(here), InternalError);
  }
}

}  // namespace
}  // namespace toroid::cpu
