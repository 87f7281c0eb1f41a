// The three decoders of transformers that are read and written, and what their config classes fill in for a
// key that config.json does not have (transformers 5.24: GemmaConfig, Gemma2Config, Gemma3TextConfig).
#pragma once

#include <cstdint>

namespace toroid::huggingface {

enum class Family : uint8_t { gemma, gemma2, gemma3 };

struct ClassDefaults {
  int64_t hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
  int64_t intermediate_size, vocab_size, max_position_embeddings;
  double attention_softcap, logit_softcap;  // 0: none
  int64_t sliding_window_pattern;           // every so many layers one is global; 0: all are
  double rope_theta, rope_local_base_freq;
};

inline constexpr ClassDefaults kGemma{3072, 28, 16, 16, 256, 24576, 256000, 8192, 0, 0, 0, 1e4, 1e4};
inline constexpr ClassDefaults kGemma2{2304, 26, 8, 4, 256, 9216, 256000, 8192, 50, 30, 2, 1e4, 1e4};
inline constexpr ClassDefaults kGemma3Text{2304, 26, 8, 4, 256, 9216, 262208, 131072, 0, 0, 6, 1e6, 1e4};

// The same in all three.
inline constexpr int64_t kDefaultBos = 2, kDefaultEos = 1, kDefaultPad = 0;
inline constexpr int64_t kDefaultWindow = 4096;
inline constexpr double kDefaultQueryScalar = 256, kDefaultNormEps = 1e-6;

inline const ClassDefaults& defaults_of(Family family) {
  return family == Family::gemma ? kGemma : family == Family::gemma2 ? kGemma2 : kGemma3Text;
}

}  // namespace toroid::huggingface
