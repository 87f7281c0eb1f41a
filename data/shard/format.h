// The bytes of P.idx. Private to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

// Megatron stores ids below this in 16 bits.
constexpr int32_t kSmallVocab = 65500;
constexpr int64_t token_width(int32_t vocab) {
  return vocab < kSmallVocab ? 2 : 4;
}

// `lengths`: tokens of each document.
std::string encode_index(std::span<const int32_t> lengths, int32_t vocab);

// First token of each document and, last, the number of tokens. UserError that names `name` unless `bytes` is
// an index of one sequence a document, with ids of the width that `vocab` asks for and without holes.
std::vector<int64_t> decode_index(std::string_view bytes, int32_t vocab, const std::string& name);

}  // namespace toroid
