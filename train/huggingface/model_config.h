// Hugging Face's config.json of the Gemma family <-> toroid.config.ModelConfig. docs/formats.md has the table
// of keys.
#pragma once

#include <string>

#include "core/base/io/file.h"
#include "core/base/io/safetensors.h"
#include "core/op/activation/all.h"
#include "train/huggingface/token_ids.h"

namespace toroid {

namespace config {
class ModelConfig;
}

namespace huggingface {

// Reads config.json of model_type gemma, gemma2 or gemma3_text, as transformers 4 and 5 write it (rope_theta
// and rope_parameters, sliding_window_pattern and layer_types), and one key of our own, "mlp": "plain". A key
// that is missing is what the class of transformers fills in. UserError, naming file and key, for what the
// decoder family does not have, for null where transformers fails, and for keys that contradict what it
// takes. `max_tokens`, where given, receives max_position_embeddings.
config::ModelConfig read_model_config(const Path& config_json, int64_t* max_tokens = nullptr);
config::ModelConfig parse_model_config(const std::string& json, const std::string& origin,
                                       int64_t* max_tokens = nullptr);

// What config.json calls it; UserError where transformers has no name for it.
std::string exported_name(const op::activation::Description& activation);

// The text of a config.json that transformers 4 and 5 both read. UserError where no model of transformers is
// of the kind that `model` describes. `weights` is the type of the exported tensors.
std::string model_config_json(const config::ModelConfig& model, int64_t max_tokens, ElementType weights,
                              const TokenIds& ids);

}  // namespace huggingface
}  // namespace toroid
