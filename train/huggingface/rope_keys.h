// RoPE in config.json. transformers has had three places for it (rope_theta and rope_local_base_freq;
// rope_scaling; rope_parameters, flat or nested by kind of layer), and which of them counts depends on the
// class.
#pragma once

#include "train/huggingface/family.h"

namespace toroid {

class JsonView;

namespace huggingface {

struct RopeKeys {
  double base = 0;        // of global layers
  double local_base = 0;  // of sliding layers
  double scale = 1;       // divides positions: of global layers in Gemma 3, of all layers elsewhere
};

// What transformers 5.24 takes from the top level `root` of a config.json. UserError where it fails, where it
// passes over a key that says something else (transformers 4 or another program may have read that one), and
// for RoPE that is not implemented here (types other than default and linear, heads turned in part, scaled
// positions in sliding layers).
RopeKeys read_rope(const JsonView& root, Family family);

}  // namespace huggingface
}  // namespace toroid
