// What all copies of a Tokenizer and all Encoders share. Private to this folder.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer/model_check.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tokenizer.h"

namespace toroid {

class Cuts;

class TokenizerModel {
 public:
  TokenizerModel(std::string model, const std::string& name);
  ~TokenizerModel();
  TokenizerModel(const TokenizerModel&) = delete;  // the outline borrows from bytes
  TokenizerModel& operator=(const TokenizerModel&) = delete;

  std::string bytes;
  ModelOutline outline;
  std::unique_ptr<SentencePieceModel> sentencepiece;
  uint64_t hash = 0;
  SpecialIds special;
  std::unordered_map<std::string_view, int32_t> id_of;
  std::string text;  // of all pieces end to end, spaces as spaces
  std::vector<size_t> text_offset;
  std::array<int32_t, 256> byte_id{};
  std::unique_ptr<const Cuts> cuts;  // empty where SentencePiece has to see the text uncut
  std::vector<std::string> tags;     // text of user-defined pieces that are neither blank nor HTML elements
};

}  // namespace toroid
