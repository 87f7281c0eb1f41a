// SentencePiece BPE in the Gemma manner: text to ids and back, exactly.
//
// encode() never yields a control id, nor the id of a turn tag or of any other tag, whatever the text says: a
// tag that stands in the text is cut after its first character and the parts are encoded. decode() gives the
// text back byte for byte. Three things SentencePiece alone would lose become byte pieces: bytes that are not
// UTF-8, the character U+2581 (its own sign for a space), and nothing else. These and the cut tags are the
// escapes; between two escapes the ids are SentencePiece's own. (So that time and memory stay in proportion
// to the text, a part without a place to cut is cut after 64 KiB all the same; only there may the ids
// differ.)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

enum class PieceType : uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

// Ids with a meaning; -1 where the model has no such piece.
struct SpecialIds {
  int32_t pad = -1, eos = -1, bos = -1, unk = -1, start_of_turn = -1, end_of_turn = -1;
};

class TokenizerModel;  // what is shared and constant; defined in the one source that sees SentencePiece

// A borrowed view of nothing: copies share one immutable model, and every method may be called from any
// thread.
class Tokenizer {
 public:
  // UserError with one sentence where the file is not a model that can be trusted
  // (data/tokenizer/model_check.h).
  static Tokenizer load(const Path& file);
  // `name` is what messages call the model.
  static Tokenizer from_bytes(std::string model, const std::string& name);

  int32_t vocab_size() const;
  const SpecialIds& special() const;
  // Text of the piece as stored (U+2581 for a space), and its type.
  std::string_view piece(int32_t id) const;
  PieceType type(int32_t id) const;
  // The id of a piece of any type by its stored text; -1 where there is none.
  int32_t id_of(std::string_view piece) const;
  // Bytes of text that the id stands for: 1 for a byte piece, 0 for control pieces.
  int32_t text_bytes(int32_t id) const;

  // Text of the ids, control pieces left out; UserError where an id is not of this vocabulary.
  std::string decode(std::span<const int32_t> ids) const;
  // Appends the text of one id: for text that is shown as it comes (a character may arrive in several byte
  // pieces).
  void append_text(int32_t id, std::string& text) const;

  // The serialized model, to be stored beside what was made with it, and its xxHash (64 bits).
  const std::string& model_bytes() const;
  uint64_t hash() const;

 private:
  friend class Encoder;
  explicit Tokenizer(std::shared_ptr<const TokenizerModel> model) : model_(std::move(model)) {}
  std::shared_ptr<const TokenizerModel> model_;
};

// What becomes of tags (<start_of_turn>, <mask>, ...) that stand in the text.
enum class Tags : uint8_t {
  split,  // they are text: corpora, and whatever a user typed
  match,  // they are tags: templates that the program itself filled in
};

// Encodes with a cache from words to ids. One for each thread; keep it, since the cache is what makes it
// fast.
class Encoder {
 public:
  explicit Encoder(Tokenizer tokenizer);
  ~Encoder();
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;

  // Appends the ids of `text`, without bos and eos.
  void encode(std::string_view text, std::vector<int32_t>& ids, Tags tags = Tags::split);
  std::vector<int32_t> encode(std::string_view text, Tags tags = Tags::split);
  // Appends bos, the ids of `text`, eos: a document as it is stored in a shard.
  void encode_document(std::string_view text, std::vector<int32_t>& ids);

  const Tokenizer& tokenizer() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace toroid
