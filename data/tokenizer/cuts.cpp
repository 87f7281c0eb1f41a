#include "data/tokenizer/cuts.h"

#include <algorithm>

#include "core/base/utf8.h"

namespace toroid {

Cuts::Cuts(const TokenizerModel& model) : joins_(128 * 128), filter_(size_t{1} << 22) {
  for (size_t id = 0; id < model.outline.pieces.size(); ++id) {
    const auto type = static_cast<PieceType>(model.outline.pieces[id].type);
    if (type != PieceType::normal && type != PieceType::user_defined && type != PieceType::unused) continue;
    const size_t first = model.text_offset[id];
    const std::string_view text =
        std::string_view(model.text).substr(first, model.text_offset[id + 1] - first);
    // Tags never stand whole between two escapes, so they join nothing.
    if (type == PieceType::user_defined &&
        std::find(model.tags.begin(), model.tags.end(), text) != model.tags.end()) {
      continue;
    }
    add_pairs(text);
  }
  constexpr std::string_view kRunCharacters = " \n\t";
  for (size_t i = 0; i < kRunCharacters.size(); ++i) {
    add_runs(model, kRunCharacters[i]);
    const auto c = static_cast<uint8_t>(kRunCharacters[i]);
    if (runs_[i].usable()) run_of_[c] = &runs_[i];
  }
}

void Cuts::add_pairs(std::string_view text) {
  char32_t before = 0;
  for (size_t i = 0; i < text.size();) {
    const Character now = decode_character(text.substr(i));
    if (i > 0) {
      if (before < 128 && now.code < 128) joins_[before * 128 + now.code] = 1;
      filter_[slot(before, now.code)] = 1;
    }
    before = now.code;
    i += now.length;
  }
}

void Cuts::add_runs(const TokenizerModel& model, char c) {
  Run& run = runs_[std::string_view(" \n\t").find(c)];
  run.id.assign(2, -1);
  for (size_t id = 0; id < model.outline.pieces.size(); ++id) {
    if (static_cast<PieceType>(model.outline.pieces[id].type) != PieceType::user_defined) continue;
    const size_t first = model.text_offset[id];
    const std::string_view text =
        std::string_view(model.text).substr(first, model.text_offset[id + 1] - first);
    if (text.find(c) == std::string_view::npos) continue;
    if (text.find_first_not_of(c) != std::string_view::npos) {
      run.id.clear();  // a piece that has c among others could start before a run and end inside it
      return;
    }
    if (text.size() >= run.id.size()) run.id.resize(text.size() + 1, -1);
    run.id[text.size()] = static_cast<int32_t>(id);
  }
  const bool gap = std::find(run.id.begin() + 2, run.id.end(), -1) != run.id.end();
  if (gap) run.id.clear();
}

}  // namespace toroid
