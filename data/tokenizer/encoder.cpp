#include <algorithm>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "data/tokenizer/cuts.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/word_cache.h"

namespace toroid {
namespace {

constexpr char32_t kSpaceSign = 0x2581;
// SentencePiece takes about 100 bytes of memory a byte of what it is given at once.
constexpr size_t kLongestPart = size_t{64} << 10;

}  // namespace

class Encoder::State {
 public:
  explicit State(Tokenizer given) : tokenizer(std::move(given)), model_(*tokenizer.model_) {
    for (const std::string& tag : model_.tags) {
      const auto first = static_cast<uint8_t>(tag.front());
      tags_of_[first].push_back(tag);
      look_[first] = true;
    }
    if (model_.cuts == nullptr) return;
    for (const char c : {' ', '\n', '\t'}) {
      const auto byte = static_cast<uint8_t>(c);
      if (model_.cuts->run(byte) != nullptr) look_[byte] = true;
    }
    for (int c = 0; c < 128; ++c) {
      const char text = static_cast<char>(c);
      model_.sentencepiece->encode({&text, 1}, scratch_);
      single_[static_cast<size_t>(c)] = scratch_.size() == 1 ? scratch_.front() : -1;
    }
  }

  void encode(std::string_view text, std::vector<int32_t>& ids, Tags tags) {
    if (model_.cuts != nullptr && tags == Tags::split) {
      scan<true>(text, ids, tags);
    } else {
      scan<false>(text, ids, tags);
    }
  }

  Tokenizer tokenizer;

 private:
  // One pass over the characters. `start` is where the part that is not encoded yet begins.
  template <bool kCut>
  void scan(std::string_view text, std::vector<int32_t>& ids, Tags tags) {
    size_t start = 0, forced = 0;  // forced: cut before this place, inside a tag
    char32_t before = 0;
    const Cuts* const cuts = model_.cuts.get();
    for (size_t i = 0; i < text.size();) {
      const auto byte = static_cast<uint8_t>(text[i]);
      if (byte < 0x80 && !look_[byte]) {
        if (i > start) {
          bool cut = i == forced || i - start >= kLongestPart;
          if constexpr (kCut) {
            cut = cut || !(before < 128 ? cuts->joins_ascii(static_cast<uint8_t>(before), byte)
                                        : cuts->joins(before, byte));
          }
          if (cut) {
            part<kCut>(text.substr(start, i - start), ids);
            start = i;
          }
        }
        before = byte;
        ++i;
        continue;
      }
      const Character now = decode_character(text.substr(i));
      if (now.length == 0 || now.code == kSpaceSign) {
        part<kCut>(text.substr(start, i - start), ids);
        const size_t length = std::max<size_t>(now.length, 1);
        for (size_t k = 0; k < length; ++k) {
          ids.push_back(model_.byte_id[static_cast<uint8_t>(text[i + k])]);
        }
        i += length;
        start = i;
        continue;
      }
      if constexpr (kCut) {
        if (const Cuts::Run* run = cuts->run(byte)) {
          size_t count = 1;
          while (i + count < text.size() && text[i + count] == text[i]) ++count;
          if (count > 1 || run->id[1] >= 0) {
            part<kCut>(text.substr(start, i - start), ids);
            const size_t end = i + count;
            while (count > 1 || (count == 1 && run->id[1] >= 0)) {
              const size_t taken = std::min(count, run->longest());
              ids.push_back(run->id[taken]);
              count -= taken;
            }
            start = end - count;  // a last one that is no piece of its own begins what follows
            before = now.code;
            i = end;
            continue;
          }
        }
      }
      if (i > start) {
        bool cut = i == forced || i - start >= kLongestPart;
        if constexpr (kCut) cut = cut || !joins(*cuts, before, now.code);
        if (cut) {
          part<kCut>(text.substr(start, i - start), ids);
          start = i;
        }
      }
      if (tags == Tags::split && tag_at(text.substr(i))) forced = i + now.length;
      before = now.code;
      i += now.length;
    }
    part<kCut>(text.substr(start), ids);
  }

  static bool joins(const Cuts& cuts, char32_t x, char32_t y) {
    return x < 128 && y < 128 ? cuts.joins_ascii(static_cast<uint8_t>(x), static_cast<uint8_t>(y))
                              : cuts.joins(x, y);
  }

  bool tag_at(std::string_view text) const {
    const auto& tags = tags_of_[static_cast<uint8_t>(text.front())];
    return std::any_of(tags.begin(), tags.end(), [&](std::string_view tag) { return text.starts_with(tag); });
  }

  template <bool kCache>
  void part(std::string_view text, std::vector<int32_t>& ids) {
    if (text.empty()) return;
    if constexpr (kCache) {
      if (text.size() == 1) {
        const int32_t id = single_[static_cast<uint8_t>(text.front())];
        if (id >= 0) {
          ids.push_back(id);
          return;
        }
      }
      if (text.size() <= WordCache::kLongestWord) {
        const uint64_t hash = WordCache::hash(text);
        std::span<const int32_t> known;
        if (!cache_.find(text, hash, known)) {
          model_.sentencepiece->encode(text, scratch_);
          require(!scratch_.empty(), "a word has ids");
          cache_.add(text, hash, scratch_);
          known = scratch_;
        }
        ids.insert(ids.end(), known.begin(), known.end());
        return;
      }
    }
    model_.sentencepiece->encode(text, scratch_);
    ids.insert(ids.end(), scratch_.begin(), scratch_.end());
  }

  const TokenizerModel& model_;
  std::array<bool, 256> look_{};  // bytes that may begin a run or a tag
  std::array<std::vector<std::string>, 256> tags_of_;
  std::array<int32_t, 128> single_{};
  WordCache cache_;
  std::vector<int> scratch_;
};

Encoder::Encoder(Tokenizer tokenizer) : state_(std::make_unique<State>(std::move(tokenizer))) {}
Encoder::~Encoder() = default;
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;

void Encoder::encode(std::string_view text, std::vector<int32_t>& ids, Tags tags) {
  state_->encode(text, ids, tags);
}

std::vector<int32_t> Encoder::encode(std::string_view text, Tags tags) {
  std::vector<int32_t> ids;
  encode(text, ids, tags);
  return ids;
}

void Encoder::encode_document(std::string_view text, std::vector<int32_t>& ids) {
  const SpecialIds& special = tokenizer().special();
  if (special.bos < 0 || special.eos < 0) {
    throw UserError(
        "the tokenizer has no <bos> or no <eos> piece, and documents are stored as bos, text, eos");
  }
  ids.push_back(special.bos);
  encode(text, ids);
  ids.push_back(special.eos);
}

const Tokenizer& Encoder::tokenizer() const {
  return state_->tokenizer;
}

}  // namespace toroid
