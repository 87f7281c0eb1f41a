// Attention by cuDNN's fused kernels, for the calls that sdpa_rule.h lets it have.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/op/op.h"

namespace toroid::cuda {

// Whether attention goes by cuDNN, and why. It does on GPUs of compute capability 9.0 (H100, H200) with cuDNN
// 9.19 or newer: what was tried, and what programs that see no GPU take for granted.
struct AttentionLibrary {
  bool fused = false;
  std::string text = {};  // "cuDNN 9.19.0", or "Toroid's own kernels: libcudnn.so.9 is not found"
};
// By the first of the GPUs that are here, which a host has of one kind.
AttentionLibrary attention_library();

class Sdpa {
 public:
  // For the GPU in use. SystemError where cuDNN does not start.
  explicit Sdpa(int gpu);
  ~Sdpa();
  Sdpa(const Sdpa&) = delete;  // it owns a handle
  Sdpa& operator=(const Sdpa&) = delete;

  // Issues a call that sdpa_takes(), with its workspace. false, and nothing issued, where this cuDNN has no
  // kernel for the shape, none that gives the same bits on every run, or one that wants more memory than
  // sdpa_workspace() says: the same answer each time. SystemError where it fails.
  bool run(const Call& call, const LaunchContext& context);
  // What it has declined, and why: "attention of 8 heads ... goes by Toroid's own kernel: cuDNN ...".
  std::vector<std::string> remarks() const;

 private:
  struct Plans;
  std::unique_ptr<Plans> plans_;
};

}  // namespace toroid::cuda
