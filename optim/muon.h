// Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scale and decay of
// Liu et al., "Muon is scalable for LLM training", 2025), as torch.optim.Muon computes it with adjust_lr_fn
// "match_rms_adamw". For every matrix W [out, in] of a layer, g its clipped gradient:
//   b = mu b + (1 - mu) g;  u = nesterov ? (1 - mu) g + mu b : b
//   X = u / max(|u|, eps), |u| the Frobenius norm;  then `iterations` times, with A = X X^T:
//   X = 3.4445 X + (-4.7750 A + 2.0315 A^2) X        (from the other side where out > in)
//   W = W - r decay W - r 0.2 sqrt(max(out, in)) X
// AdamW moves everything else.
#pragma once

#include "optim/optimizer.h"

namespace toroid::optim {

std::unique_ptr<Optimizer> make_muon(const config::OptimConfig& config);

}  // namespace toroid::optim
