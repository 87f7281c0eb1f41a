// A build that has no cuDNN says so, and leaves attention to Toroid's own kernels.
#include <gtest/gtest.h>

#include "core/device/cuda/sdpa.h"

namespace toroid::cuda {
namespace {

TEST(WithoutCudnn, attention_is_toroids_own) {
  const AttentionLibrary library = attention_library();
  EXPECT_FALSE(library.fused);
  EXPECT_EQ(library.text, "Toroid's own kernels: this build has no cuDNN");
  EXPECT_FALSE(Sdpa(0).run({}, {}));
}

}  // namespace
}  // namespace toroid::cuda
