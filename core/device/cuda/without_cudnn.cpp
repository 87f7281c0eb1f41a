// In place of what calls cuDNN where the build has none.
#include "core/device/cuda/sdpa.h"

namespace toroid::cuda {

struct Sdpa::Plans {};

AttentionLibrary attention_library() {
  return {false, "Toroid's own kernels: this build has no cuDNN"};
}

Sdpa::Sdpa(int) {}
Sdpa::~Sdpa() = default;
std::vector<std::string> Sdpa::remarks() const {
  return {};
}
bool Sdpa::run(const Call&, const LaunchContext&) {
  return false;
}

}  // namespace toroid::cuda
