#include "train/huggingface/tokenizer_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/tokenizer/model_check.h"
#include "data/tokenizer/tokenizer.h"

namespace toroid::huggingface {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581, a space in SentencePiece's pieces

PieceType type_of(const ModelPiece& piece) {
  return static_cast<PieceType>(piece.type);
}

// Pieces that merging can give or start from.
bool merges(const ModelPiece& piece) {
  const PieceType type = type_of(piece);
  return type == PieceType::normal || type == PieceType::user_defined || type == PieceType::unused;
}

// Where characters start in UTF-8 text.
std::vector<size_t> character_starts(std::string_view text) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) starts.push_back(i);
  }
  return starts;
}

struct Merge {
  std::string_view left, right;
  float score;
  size_t left_length, right_length;  // characters
};

// Every split of a piece into two pieces, best first: by the piece's score, then the longer halves.
// SentencePiece keeps no list of merges; it joins the neighbours whose joint piece scores highest, which this
// order reproduces.
std::vector<Merge> all_merges(const ModelOutline& model) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (merges(model.pieces[id])) ids.emplace(model.pieces[id].text, id);
  }
  std::vector<Merge> all;
  std::vector<std::tuple<size_t, size_t, Merge>> of_piece;
  for (const ModelPiece& piece : model.pieces) {
    if (!merges(piece)) continue;
    of_piece.clear();
    const std::vector<size_t> starts = character_starts(piece.text);
    for (size_t i = 1; i < starts.size(); ++i) {
      const std::string_view left = piece.text.substr(0, starts[i]), right = piece.text.substr(starts[i]);
      const auto l = ids.find(left), r = ids.find(right);
      if (l == ids.end() || r == ids.end()) continue;
      of_piece.emplace_back(l->second, r->second, Merge{left, right, piece.score, i, starts.size() - i});
    }
    std::sort(of_piece.begin(), of_piece.end(), [](const auto& a, const auto& b) {
      return std::tie(std::get<0>(a), std::get<1>(a)) < std::tie(std::get<0>(b), std::get<1>(b));
    });
    for (const auto& [l, r, merge] : of_piece) all.push_back(merge);
  }
  std::stable_sort(all.begin(), all.end(), [](const Merge& a, const Merge& b) {
    return std::tie(b.score, b.left_length, b.right_length) <
           std::tie(a.score, a.left_length, a.right_length);
  });
  return all;
}

// What tokenizer.json cannot say of the model that made the training data.
void check_carried(const ModelOutline& model) {
  const auto refuse = [](const std::string& why) {
    throw UserError("the tokenizer cannot be exported: " + why);
  };
  constexpr int kBpe = 2;
  if (model.model_type != kBpe || !model.byte_fallback)
    refuse("tokenizer.json is written for BPE models with byte fallback only");
  for (const ModelPiece& piece : model.pieces) {
    if (type_of(piece) == PieceType::unused) {
      refuse("its piece " + in_quotes(piece.text) +
             " is of type unused, which SentencePiece takes apart again and tokenizer.json has no word for");
    }
  }
}

Json name_of(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? Json() : Json(std::string(tokenizer.piece(id)));
}

}  // namespace

std::string tokenizer_json(const Tokenizer& tokenizer) {
  const ModelOutline model = check_model(tokenizer.model_bytes(), "the tokenizer");
  check_carried(model);
  const SpecialIds& special = tokenizer.special();
  Json added = Json::array(), vocab = Json::object(), merge_list = Json::array();
  const bool has_tab = tokenizer.id_of("\t") >= 0;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const ModelPiece& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    const bool control = type_of(piece) == PieceType::control || type_of(piece) == PieceType::unknown;
    const bool turn = id == special.start_of_turn || id == special.end_of_turn;
    // SentencePiece matches these in text whose spaces are signs already: a piece with the sign is looked for
    // after the normaliser has put it there, and one with a space of its own is never found.
    const bool sign = piece.text.find(kSpace) != std::string_view::npos;
    const bool found =
        type_of(piece) == PieceType::user_defined && piece.text.find(' ') == std::string_view::npos;
    if (control || found) {
      added.push_back({{"id", id},
                       {"content", piece.text},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", !control && sign},
                       {"special", control || turn}});
    }
    // The library looks a character up before it falls back to bytes, and a tab has no piece of its own.
    const bool tab = !has_tab && type_of(piece) == PieceType::byte && piece.text == "<0x09>";
    vocab[tab ? "\t" : std::string(piece.text)] = id;
  }
  for (const Merge& merge : all_merges(model)) merge_list.push_back({merge.left, merge.right});

  const auto replace = [](std::string_view from, std::string_view to) {
    return Json{{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
  };
  const auto token = [](const std::string& name, int type) {
    return Json{{"SpecialToken", {{"id", name}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* name, int type) {
    return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = std::move(added);
  json["normalizer"] = replace(" ", kSpace);
  json["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"String", " "}}},
                           {"behavior", "MergedWithPrevious"},
                           {"invert", false}};
  json["post_processor"] = nullptr;
  if (special.bos >= 0) {
    const std::string bos(tokenizer.piece(special.bos));
    json["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single", Json::array({token(bos, 0), sequence("A", 0)})},
        {"pair", Json::array({token(bos, 0), sequence("A", 0), token(bos, 1), sequence("B", 1)})},
        {"special_tokens",
         {{bos, {{"id", bos}, {"ids", Json::array({special.bos})}, {"tokens", Json::array({bos})}}}}}};
  }
  json["decoder"] = {{"type", "Sequence"},
                     {"decoders", Json::array({replace(kSpace, " "), Json{{"type", "ByteFallback"}},
                                               Json{{"type", "Fuse"}}})}};
  json["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", name_of(tokenizer, special.unk)},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", true},
                   {"byte_fallback", true},
                   {"ignore_merges", false}};
  json["model"]["vocab"] = std::move(vocab);
  json["model"]["merges"] = std::move(merge_list);
  return json.dump(1) + "\n";
}

std::string tokenizer_config_json(const Tokenizer& tokenizer, int64_t max_tokens) {
  const SpecialIds& special = tokenizer.special();
  // Whatever of these names a vocabulary lacks, transformers' class for Gemma adds at its end.
  const bool gemma = special.pad >= 0 && special.pad == tokenizer.id_of("<pad>") && special.eos >= 0 &&
                     special.eos == tokenizer.id_of("<eos>") && special.bos >= 0 &&
                     special.bos == tokenizer.id_of("<bos>") && special.unk == tokenizer.id_of("<unk>") &&
                     tokenizer.id_of("<mask>") >= 0;
  Json json = {{"tokenizer_class", gemma ? "GemmaTokenizer" : "PreTrainedTokenizerFast"},
               {"add_bos_token", special.bos >= 0},
               {"add_eos_token", false},
               {"bos_token", name_of(tokenizer, special.bos)},
               {"eos_token", name_of(tokenizer, special.eos)},
               {"pad_token", name_of(tokenizer, special.pad)},
               {"unk_token", name_of(tokenizer, special.unk)},
               {"padding_side", "left"},
               {"clean_up_tokenization_spaces", false},
               {"spaces_between_special_tokens", false},
               {"model_max_length", max_tokens}};
  return json.dump(2) + "\n";
}

}  // namespace toroid::huggingface
