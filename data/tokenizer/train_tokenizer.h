// Trains a SentencePiece BPE in the Gemma manner: byte fallback, digits split, whitespace kept, no dummy
// prefix, identity normaliser. Ids as Gemma has them: pad 0, eos 1, bos 2, unk 3, mask 4, <2mass> 5, [@BOS@]
// 6, <unused0..98>, <start_of_turn> 106, <end_of_turn> 107, newline runs from 108, space runs from 139, HTML
// elements from 169, bytes 217 to 472, then what was learnt, and at the end runs of tabs and <unused99>.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "data/tokenizer/tokenizer.h"

namespace toroid {

struct TokenizerTraining {
  int32_t vocab = 8192;
  int threads = 1;  // the pieces do not depend on it, but the model's bytes record the number
};

// The pieces that are there whatever the text is.
int32_t fixed_pieces();
// UserError unless a vocabulary of this size has room for more than the fixed pieces.
void check_trained_vocab(int32_t vocab);

// Gives the training text bit by bit: sets `text` (valid until the next call) and returns true, or false at
// the end. Bits are cut at line ends and at 4 KiB, so a bit may be a whole document.
using TextStream = std::function<bool(std::string_view& text)>;

// UserError, in the config's words, where there is no text but white space or the vocabulary is too small for
// the text's characters. The tokenizer has fewer pieces than `vocab` where the text gives no more.
Tokenizer train_tokenizer(const TextStream& text, const TokenizerTraining& training);

}  // namespace toroid
