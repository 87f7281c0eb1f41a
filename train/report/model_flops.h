// What a step of a model costs in principle: the convention of ../bench and of MFU figures.
#pragma once

#include "core/model/decoder_config.h"

namespace toroid::train {

// 6 FLOPs a parameter and token (forward and backward, the head's table once), plus attention: two products
// forward and four backward over the keys that a query sees (half the square where causal, the window where
// it slides).
double model_flops_per_step(const DecoderConfig& config, int64_t sequences, int64_t tokens);
// The same with attention counted in full, as if every query saw every key of its sequence or window.
double model_flops_full_attention(const DecoderConfig& config, int64_t sequences, int64_t tokens);

}  // namespace toroid::train
