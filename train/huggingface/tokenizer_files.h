// The tokenizer files that transformers reads beside a model.
#pragma once

#include <string>

namespace toroid {

class Tokenizer;

namespace huggingface {

// tokenizer.json: the model as Hugging Face's tokenizers library wants it, by the rules of transformers' own
// converter. Of a SentencePiece BPE model with byte fallback; UserError for others.
std::string tokenizer_json(const Tokenizer& tokenizer);

std::string tokenizer_config_json(const Tokenizer& tokenizer, int64_t max_tokens);

}  // namespace huggingface
}  // namespace toroid
