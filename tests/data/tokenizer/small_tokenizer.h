// A tokenizer that is trained in a moment, and text like the text it was trained on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/train_tokenizer.h"

namespace toroid {

// Numbers that depend on the seed alone, on every machine.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
  uint32_t operator()(uint32_t below) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<uint32_t>((state_ >> 33) % below);
  }

 private:
  uint64_t state_;
};

// Prose, code with indentation, numbers, a little of other scripts.
inline std::string sample_text(uint64_t seed, int words) {
  static const std::vector<std::string> kWords = {
      "the",       "The",          "torus",      "ring",   "of",        "and",     "in",     "gradient",
      "sharding",  "shards",       "return",     "self.",  "def",       "import",  "(x,",    "y)",
      "==",        "!=",           "->",         "0",      "1234",      "3.14",    "x1",     "snake_case",
      "camelCase", "don't",        "(foo(bar))", "[i]",    "{}",        "//",      "größer", "naïve",
      "Москва",    "生活的真谛是", "今日は",     "λx.x",   "∀ε>0",      "😀",       "<b>",    "</b>",
      "reduces",   "reduced",      "model",      "models", "modelling", "theorem", "theory", "lemma.",
      "proof:",    "QED"};
  Dice dice(seed);
  std::string text;
  for (int i = 0; i < words; ++i) {
    text += kWords[dice(static_cast<uint32_t>(kWords.size()))];
    const uint32_t gap = dice(24);
    text += gap < 18    ? " "
            : gap < 20  ? "\n"
            : gap == 20 ? "\n\n"
            : gap == 21 ? "\n    "
            : gap == 22 ? "\n\t\t"
                        : "  ";
  }
  return text;
}

inline Tokenizer small_tokenizer(int32_t vocab = 800) {
  int documents = 0;
  std::string text;
  return train_tokenizer(
      [&](std::string_view& part) {
        if (documents == 40) return false;
        text = sample_text(static_cast<uint64_t>(documents++), 500);
        part = text;
        return true;
      },
      {vocab, 1});
}

}  // namespace toroid
