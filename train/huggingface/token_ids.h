// Which ids begin, end and pad texts: what was imported with the weights, or else what the tokenizer says.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace toroid {

class Tokenizer;

namespace config {
class ModelConfig;
}

namespace huggingface {

struct TokenIds {
  std::optional<int64_t> bos, pad;
  std::vector<int64_t> eos;  // each of them ends a text; empty: none does
};

// Sets what config.json did not say to what the classes of transformers fill in.
void fill_token_ids(config::ModelConfig& model);

// `tokenizer` is null where a run has none.
TokenIds token_ids(const config::ModelConfig& model, const Tokenizer* tokenizer);

}  // namespace huggingface
}  // namespace toroid
