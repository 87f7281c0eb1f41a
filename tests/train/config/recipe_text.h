// The smallest valid config, for tests that spoil one part of it.
#pragma once

#include <string>

#include "core/base/error.h"

namespace toroid::test {

inline std::string recipe_text() {
  return "model { d_model: 32 layers: 2 heads: 4 kv_heads: 2 head_dim: 8 ffn: 40 vocab: 96 }\n"
         "batch { tokens_per_sequence: 16 global_sequences: 4 }\n"
         "optim { schedule { cosine { peak: 1e-3 warmup: 2 } } }\n"
         "train { steps: 8 }\n";
}

// The message of the UserError that `call` throws, or "" where it throws nothing.
template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

}  // namespace toroid::test
