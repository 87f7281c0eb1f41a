// What stands at the head of the decoder: it gives each token a loss, from the last layer's output, and the
// loss's gradient. M = B T tokens, o = M / m of them a rank's own where a model axis of m ranks cuts the
// vocabulary, D d_model, V vocab.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/model/context.h"

namespace toroid {

// What an objective is handed of a microbatch and of the model.
struct HeadInputs {
  const DecoderConfig& config;
  const Weights& head;        // the final norm's weight and, untied, the table
  const PackedMatrix& table;  // [V, D], or this rank's rows of it
  const Microbatch& batch;  // targets i32[M], -1 where a token has none; ids, positions, starts; scale f32[1]
  int64_t block_tokens = 0;               // tokens whose logits exist at a time
  std::span<const Tensor> operands = {};  // f32[M] each, in the order of Objective::operands(); 0 in padding
};

// Where an objective's gradient goes: added to.
struct HeadGradients {
  Gradient &norm, &table;
};

class Objective {
 public:
  virtual ~Objective() = default;
  // Numbers of each token that it reads beside the target, by the names that the batches have them under
  // (data/batch/batch.h).
  virtual std::vector<std::string> operands() const { return {}; }
  // What a validation says beside the loss, by the names under which metrics.jsonl has it: the mean, over
  // the targets, of what loss() writes.
  virtual std::vector<std::string> metrics() const { return {}; }
  // Whether the loss is minus the log of a token's probability: what perplexity and bits a byte ask for.
  virtual bool is_likelihood() const = 0;
  // x[o, D] -> token_loss f32[M] and metrics, f32[M] each, in the order of metrics(): alike on all ranks, 0
  // where a token has no target. A step's loss is the sum over the number of its targets.
  virtual void loss(Context& c, const HeadInputs& in, const Tensor& x, const Tensor& token_loss,
                    std::span<const Tensor> metrics) const = 0;
  // The loss with gradients, scaled by batch.scale: returns d_x[o, D].
  virtual Array gradient(Context& c, const HeadInputs& in, Array x, const Tensor& token_loss,
                         const HeadGradients& to) const = 0;
};

}  // namespace toroid
