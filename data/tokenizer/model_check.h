// SentencePiece trusts its model file: one piece of 200 KB ends the process inside Load. This walk over the
// serialized protobuf comes first and refuses whatever a real model never has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

struct ModelPiece {
  std::string_view text;  // within the model's bytes
  float score = 0;
  uint8_t type = 1;  // PieceType
};

// What the walk read, borrowed from the model's bytes.
struct ModelOutline {
  std::vector<ModelPiece> pieces;
  int model_type = 1;  // 1 unigram, 2 BPE, 3 word, 4 char
  bool byte_fallback = false;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  bool has_charsmap = false, has_reverse_charsmap = false;  // rewrites text before encoding, after decoding
  // As the trainer's settings say.
  int pad_id = -1, eos_id = 2, bos_id = 1, unk_id = 0;
  std::string_view pad_piece = "<pad>", eos_piece = "</s>", bos_piece = "<s>", unk_piece = "<unk>";
};

// UserError, one sentence that names `name`, unless `model` is a SentencePiece model within these bounds: at
// most 256 MiB and 2^21 pieces, each of 1 to 512 bytes of UTF-8 with a finite score and a known type; one
// unknown piece; no text twice; byte pieces <0x00>..<0xFF> each once, all or none, and all with byte
// fallback; no control piece of one character. A table of replacements is not looked into: Tokenizer refuses
// models that have one, and SentencePiece never sees them.
ModelOutline check_model(std::string_view model, const std::string& name);

}  // namespace toroid
