// A SentencePiece model of about 300 pieces, trained in a moment: unk 0, bos 1, eos 2, no pad, unless
// `settings` say otherwise.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer/sentencepiece.h"

namespace toroid::huggingface {

inline std::string small_model(const std::string& rule, std::map<std::string, std::string> settings = {}) {
  settings.insert({{"model_type", "bpe"},
                   {"vocab_size", "300"},
                   {"hard_vocab_limit", "false"},
                   {"byte_fallback", "true"},
                   {"add_dummy_prefix", "false"},
                   {"remove_extra_whitespaces", "false"},
                   {"normalization_rule_name", rule},
                   {"minloglevel", "2"}});
  int lines = 0;
  return train_sentencepiece({settings.begin(), settings.end()},
                             [&](std::string& line) {
                               static const std::vector<std::string> kWords = {"the torus", "a ring",
                                                                               "shards the model", "reduces"};
                               line = kWords[static_cast<size_t>(lines) % kWords.size()] + " " +
                                      kWords[static_cast<size_t>(lines / 3) % 4];
                               return lines++ < 60;
                             })
      .bytes;
}

inline const std::string& small_model() {
  static const std::string model = small_model("identity");
  return model;
}

}  // namespace toroid::huggingface
