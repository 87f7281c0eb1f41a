// What happens to a step after its gradients are known: the verdict (clip, skip) and the update rule, all on
// the device.
#pragma once

#include "core/op/op.h"
#include "core/op/stochastic.h"

namespace toroid::op {

extern const OpKind decide_kind, adamw_kind, ema_kind;

// Persistent state f32[kStateSize], checkpointed.
enum State : int64_t {
  update_count,      // t of Adam: updates applied so far
  skipped_total,     // steps skipped since the start
  skipped_in_a_row,  // reset by an applied step
  loss_mean,
  loss_square,
  norm_mean,
  norm_square,  // running means of the applied steps' loss and gradient norm and of their squares: plain
                // means of the first 1 / (1 - z_decay) steps, then with weight 1 - z_decay
  seen,         // applied steps that entered those means
  kStateSize,
};
// Written anew each step f32[kControlSize]: read by the update rules and, one step late, by the metrics.
enum Control : int64_t {
  apply,          // 1: update; 0: skip
  clip,           // factor on the gradients
  rate,           // learning rate of this step
  gradient_norm,  // before clipping
  mean_loss,      // sum of token losses / target count
  targets,        // target count of the step
  reason,  // 0 applied, 1 loss not finite, 2 norm not finite, 3 loss outlier, 4 norm outlier, 5 no valid
           // target, 6 withdrawn: go was 0
  kControlSize,
};
inline constexpr int kWithdrawn = 6;  // the reason of a step that is as if it had not been issued

struct DecideSpec {
  double clip_norm =
      0;  // 0: no clipping. factor = min(1, clip_norm / (norm + 1e-6)), as torch's clip_grad_norm_
  double z_threshold = 0;  // 0: outliers are not looked for
  double z_decay = 0.98;   // of the running means
  int64_t z_warmup = 100;  // applied steps before an outlier is called
};
// partials f32[P] (sums of squares of all gradient blocks), loss_sum f32[1], target_count f32[1], rate
// f32[1], go f32[1]; state f32[kStateSize] inout; control f32[kControlSize] out. Where go is 0 the step is as
// if it had not been issued: the state stays as it is and apply is 0. A skipped step changes only the skip
// counters. update_count already counts this step's update when apply is 1. Reasons are looked for in the
// order 6, 5, 1, 2, 3, 4. An outlier lies more than z_threshold standard deviations above its running mean,
// the deviation taken as at least a thousandth of the mean (less is the rounding of the state). Where pods
// train apart, partials f32[pods] are the squared norms of their gradients and `own` f32[1] that of this
// pod's: the norm that is judged and reported is the root of their mean, the clipping this pod's.
Call decide(const Tensor& partials, const Tensor& loss_sum, const Tensor& target_count, const Tensor& rate,
            const Tensor& go, const Tensor& state, const Tensor& control, DecideSpec spec,
            const Tensor& own = {});

// AdamW (Loshchilov and Hutter 2019, algorithm 2), t = state[update_count], g = clip * gradient, r =
// rate_scale * control[rate]:
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   w = w - r * weight_decay * w - r * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// Nothing changes where control[apply] is 0. All f32[n], but for both moments, which may be bf16: the sums
// are of fp32 then, the step is made with them, and they are rounded stochastically (core/op/stochastic.h)
// where they are kept, m by the lower halves of the words and v by the upper ones. copy [n], of any float
// type: the master as it then is, rounded, for products to read; written in any case.
struct AdamWSpec {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
  double rate_scale = 1;
  Rounding rounding = {};  // of bf16 moments
};
Call adamw(const Tensor& gradient, const Tensor& state, const Tensor& control, const Tensor& master,
           const Tensor& exp_avg, const Tensor& exp_avg_sq, AdamWSpec spec, const Tensor& copy = {});

// average = decay * average + (1 - decay) * master, where control[apply] is 1. All f32[n], but for the
// average, which may be bf16: it is rounded stochastically then, by the lower halves of the words, and
// `state` is asked for the count of updates.
struct EmaSpec {
  double decay = 0.999;
  Rounding rounding = {};
};
Call ema(const Tensor& master, const Tensor& control, const Tensor& average, EmaSpec spec,
         const Tensor& state = {});

}  // namespace toroid::op
