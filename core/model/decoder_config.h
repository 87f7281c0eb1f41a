// The decoder family (Gemma 1, 2, 3 and their plainer relatives) as one set of values.
// D d_model, L layers, N heads, K kv_heads, H head_dim, F ffn per branch, V vocab.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/op/activation.h"
#include "core/tensor/tensor.h"

namespace toroid {

namespace config {
class ModelConfig;
}

struct DecoderConfig {
  int64_t d_model = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  bool gated_mlp = true;
  op::Activation activation = op::activation_of<op::activation::GeluTanh>;
  bool tied_head = true;
  double norm_eps = 1e-6;
  bool post_norms = false, qk_norm = false;
  bool parallel_layers = false;  // attention and MLP read one norm's output side by side; no post-norms
  double attention_softcap = 0, logit_softcap = 0;  // 0: none
  double attention_scale = 0;                       // query_pre_attn_scalar^-0.5
  int64_t window = 0;
  std::vector<bool> local;  // [L]: the layer slides a window
  double rope_base = 10000, rope_local_base = 10000, rope_scale = 1;
  bool attend_across_documents = false;
  double embedding_stddev = 0, linear_stddev = 0.02;  // before step 1; 0: D^-0.5

  int64_t qkv_columns() const { return (heads + 2 * kv_heads) * head_dim; }
  int64_t pre_columns() const { return gated_mlp ? 2 * ffn : ffn; }
  // M of docs/design.md section 4: the largest power of two <= 16 that divides N and F.
  int64_t canonical_slices() const;
};

// What `wanted`, a value of config::ModelConfig::Activation, computes. UserError where nothing does.
op::Activation activation_of_config(int wanted);

// `model` has been validated.
DecoderConfig decoder_config(const config::ModelConfig& model);

// A tensor of the model. Names are Hugging Face's; matrices are [out, in].
struct TensorSpec {
  std::string name;
  Shape shape;
  int model_dim = -1;  // the dim that the model axis splits; -1: whole on every model rank
  double init_stddev =
      0;  // of the normal distribution that it is drawn from before step 1; 0: it begins at 0
  bool decay = false;
  int64_t pieces = 0;   // canonical slices of the split dim, which is padded to equal ones (share.h)
  bool hidden = false;  // a matrix of a layer: neither embedding nor head
};

// Row-stacked matrices that a layer multiplies with in one product.
struct PackSpec {
  std::vector<int> tensors;  // indices in the unit
  bool backward = true;      // whether dx = dy W is ever taken
};

// What is gathered, used and reduced together (ZeRO-3): the embedding, one layer, the head.
struct UnitSpec {
  std::string name;
  std::vector<TensorSpec> tensors;
  std::vector<PackSpec> packs;
  bool read_by_rows = false;  // its matrix is looked up by token, beside or instead of being packed
};

// The units in the order of the forward pass: embedding, L layers, head. A model axis of several ranks may
// leave keys and values whole.
std::vector<UnitSpec> decoder_units(const DecoderConfig& config, int model_ranks = 1,
                                    bool deterministic = false);

struct ParameterCount {
  int64_t embedding = 0, other = 0;  // the head counts as embedding only where it is tied
};
ParameterCount count_parameters(const DecoderConfig& config);

}  // namespace toroid
