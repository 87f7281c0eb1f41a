// How well counting predicts the validation tokens: the bars a trained model has to clear.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

// Entropies in nats a token over the validation targets: every token of a document after its bos, eos
// included.
struct NgramEntropy {
  double unigram = 0;  // (count + 1) / (N + V): add-one over the vocabulary V
  double bigram = 0;   // interpolated Kneser-Ney, one discount n1 / (n1 + 2 n2)
  int64_t training_tokens = 0, validation_tokens = 0;
};

// Gives documents (`bos text eos`) one after another; returns false at the end.
using DocumentStream = std::function<bool(std::vector<int32_t>& ids)>;

NgramEntropy ngram_entropy(const DocumentStream& training, const DocumentStream& validation, int32_t vocab);

// The entropy of the token shards of a prepared directory. Every training document of the sources counts
// once, whatever the weights.
NgramEntropy prepared_entropy(const Path& directory, const std::vector<std::string>& sources);

}  // namespace toroid
