#include "data/tokenizer/tokenizer.h"

#include <xxhash.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/tokenizer/cuts.h"
#include "data/tokenizer/gemma_pieces.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/model_check.h"

namespace toroid {
namespace {

constexpr int64_t kMostFileBytes = int64_t{256} << 20;

// What decoding promises holds for some models only; the others are refused rather than decoded wrongly.
void check_faithful(const ModelOutline& outline, const std::string& name) {
  const auto refuse = [&](const std::string& why) {
    throw UserError("tokenizer model '" + printable(name, 4096) + "' cannot give text back exactly: " + why);
  };
  if (outline.model_type != 1 && outline.model_type != 2) {
    refuse("its type is " + std::to_string(outline.model_type) + ", but BPE (2) or unigram (1) is needed");
  }
  if (outline.has_charsmap) {
    refuse(
        "it rewrites text before it encodes it (its normaliser, such as NFKC); train it with "
        "normalization_rule_name=identity");
  }
  if (outline.has_reverse_charsmap) refuse("it rewrites text after it decodes it (its denormaliser)");
  if (!outline.byte_fallback) refuse("it has no byte fallback, so unknown characters would be lost");
  if (outline.add_dummy_prefix)
    refuse("it adds a space before the text; train it with add_dummy_prefix=false");
  if (outline.remove_extra_whitespaces) {
    refuse("it removes repeated spaces; train it with remove_extra_whitespaces=false");
  }
  if (!outline.escape_whitespaces)
    refuse("it does not escape whitespace; train it with escape_whitespaces=true");
}

std::string text_of(const ModelPiece& piece) {
  std::string text;
  if (piece.type == static_cast<uint8_t>(PieceType::control) ||
      piece.type == static_cast<uint8_t>(PieceType::unknown)) {
    return text;
  }
  if (piece.type == static_cast<uint8_t>(PieceType::byte)) {
    return {static_cast<char>(std::stoi(std::string(piece.text.substr(3, 2)), nullptr, 16))};
  }
  for (std::string_view rest = piece.text; !rest.empty();) {
    if (rest.starts_with(kSpace)) {
      text += ' ';
      rest.remove_prefix(kSpace.size());
    } else {
      text += rest.front();
      rest.remove_prefix(1);
    }
  }
  return text;
}

bool blank(std::string_view text) {
  return text.find_first_not_of(" \n\t\r") == std::string_view::npos;
}

// Elements that Gemma keeps as pieces because they stand in web text; they are content and not tags.
bool html_element(std::string_view text) {
  if (text.size() < 3 || text.front() != '<' || text.back() != '>') return false;
  text = text.substr(1, text.size() - 2);
  if (text.starts_with('/')) text.remove_prefix(1);
  for (const std::vector<std::string>& group : html_elements()) {
    if (std::find(group.begin(), group.end(), text) != group.end()) return true;
  }
  return false;
}

}  // namespace

TokenizerModel::TokenizerModel(std::string model, const std::string& name)
    : bytes(std::move(model)), outline(check_model(bytes, name)) {
  check_faithful(outline, name);
  sentencepiece = std::make_unique<SentencePieceModel>(bytes, name);
  hash = XXH3_64bits(bytes.data(), bytes.size());
  text_offset.push_back(0);
  byte_id.fill(-1);
  for (size_t i = 0; i < outline.pieces.size(); ++i) {
    const ModelPiece& piece = outline.pieces[i];
    const auto id = static_cast<int32_t>(i);
    id_of.emplace(piece.text, id);
    const std::string piece_text = text_of(piece);
    text += piece_text;
    text_offset.push_back(text.size());
    if (piece.type == static_cast<uint8_t>(PieceType::byte)) {
      byte_id[static_cast<uint8_t>(piece_text.front())] = id;
    }
    if (piece.type == static_cast<uint8_t>(PieceType::user_defined) && !blank(piece_text) &&
        !html_element(piece.text)) {
      tags.push_back(piece_text);
    }
  }
  // As SentencePiece does: the piece that the settings name, where it is no text. Where they name none that
  // is there, the id that they state.
  const auto find = [&](std::string_view wanted, int stated, PieceType type) {
    const auto is = [&](int id) {
      return id >= 0 && id < static_cast<int>(outline.pieces.size()) &&
             outline.pieces[static_cast<size_t>(id)].type == static_cast<uint8_t>(type);
    };
    const auto named = id_of.find(wanted);
    if (named != id_of.end() && is(named->second)) return named->second;
    return is(stated) ? stated : -1;
  };
  special.pad = find(outline.pad_piece, outline.pad_id, PieceType::control);
  special.eos = find(outline.eos_piece, outline.eos_id, PieceType::control);
  special.bos = find(outline.bos_piece, outline.bos_id, PieceType::control);
  special.unk = find(outline.unk_piece, outline.unk_id, PieceType::unknown);
  const auto id_or_none = [&](std::string_view wanted) {
    const auto found = id_of.find(wanted);
    return found == id_of.end() ? -1 : found->second;
  };
  special.start_of_turn = id_or_none("<start_of_turn>");
  special.end_of_turn = id_or_none("<end_of_turn>");
  // Only for BPE is there a proof (cuts.h). An unused piece is taken apart in the way that was remembered
  // last, wherever in the text that was.
  const bool has_unused = std::any_of(
      outline.pieces.begin(), outline.pieces.end(),
      [](const ModelPiece& piece) { return piece.type == static_cast<uint8_t>(PieceType::unused); });
  if (outline.model_type == 2 && !has_unused) cuts = std::make_unique<const Cuts>(*this);
}

TokenizerModel::~TokenizerModel() = default;

Tokenizer Tokenizer::load(const Path& file) {
  return from_bytes(read_file(file, kMostFileBytes), file.string());
}

Tokenizer Tokenizer::from_bytes(std::string model, const std::string& name) {
  return Tokenizer(std::make_shared<const TokenizerModel>(std::move(model), name));
}

int32_t Tokenizer::vocab_size() const {
  return static_cast<int32_t>(model_->outline.pieces.size());
}
const SpecialIds& Tokenizer::special() const {
  return model_->special;
}

namespace {

size_t checked(int32_t id, const TokenizerModel& model) {
  if (id < 0 || static_cast<size_t>(id) >= model.outline.pieces.size()) {
    throw UserError("token id " + std::to_string(id) + " is not in the tokenizer's vocabulary of " +
                    std::to_string(model.outline.pieces.size()));
  }
  return static_cast<size_t>(id);
}

std::string_view text_of(size_t id, const TokenizerModel& model) {
  const size_t first = model.text_offset[id];
  return std::string_view(model.text).substr(first, model.text_offset[id + 1] - first);
}

}  // namespace

std::string_view Tokenizer::piece(int32_t id) const {
  return model_->outline.pieces[checked(id, *model_)].text;
}

PieceType Tokenizer::type(int32_t id) const {
  return static_cast<PieceType>(model_->outline.pieces[checked(id, *model_)].type);
}

int32_t Tokenizer::id_of(std::string_view piece) const {
  const auto found = model_->id_of.find(piece);
  return found == model_->id_of.end() ? -1 : found->second;
}

int32_t Tokenizer::text_bytes(int32_t id) const {
  return static_cast<int32_t>(text_of(checked(id, *model_), *model_).size());
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) append_text(id, text);
  return text;
}

void Tokenizer::append_text(int32_t id, std::string& text) const {
  text += text_of(checked(id, *model_), *model_);
}

const std::string& Tokenizer::model_bytes() const {
  return model_->bytes;
}
uint64_t Tokenizer::hash() const {
  return model_->hash;
}

}  // namespace toroid
