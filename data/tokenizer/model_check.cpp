#include "data/tokenizer/model_check.h"

#include <algorithm>
#include <bit>
#include <bitset>
#include <cmath>
#include <unordered_set>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace toroid {
namespace {

constexpr size_t kModelBytes = size_t{256} << 20;
constexpr size_t kPieces = size_t{1} << 21;
constexpr size_t kPieceBytes = 512;
constexpr size_t kSelfTestBytes = size_t{1} << 20;
// SentencePiece collects matches of user-defined pieces in an array of 64 and reads past its end where there
// are more.
constexpr int kUserDefinedMatches = 64;

class Refusal {
 public:
  explicit Refusal(const std::string& name) : name_(name) {}
  [[noreturn]] void operator()(const std::string& why) const {
    throw UserError("tokenizer model '" + printable(name_, 4096) + "' is refused: " + why);
  }

 private:
  const std::string& name_;
};

struct Field {
  uint32_t number = 0;
  unsigned wire = 0;       // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  uint64_t value = 0;      // of wire types 0, 1 and 5
  std::string_view bytes;  // of wire type 2
};

// The fields of one serialized message, one after another.
class WireWalk {
 public:
  WireWalk(std::string_view bytes, const Refusal& refuse) : rest_(bytes), refuse_(refuse) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wire = static_cast<unsigned>(tag & 7);
    if (tag >> 32 || field.number == 0) refuse_("it holds a field number that protobuf does not have");
    switch (field.wire) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2: {
        const uint64_t length = varint();
        if (length > rest_.size())
          refuse_("it ends in the middle of a field (it is truncated or not a model)");
        field.bytes = rest_.substr(0, length);
        rest_.remove_prefix(length);
        break;
      }
      case 5:
        field.value = fixed(4);
        break;
      default:
        refuse_("it holds a field of wire type " + std::to_string(field.wire) +
                ", which a model never has (it is not a SentencePiece model)");
    }
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) refuse_("it ends in the middle of a number (it is truncated or not a model)");
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    refuse_("it holds a number of more than ten bytes (it is not a SentencePiece model)");
  }

  uint64_t fixed(size_t bytes) {
    if (rest_.size() < bytes) refuse_("it ends in the middle of a number (it is truncated or not a model)");
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(rest_[i])) << 8 * i;
    rest_.remove_prefix(bytes);
    return value;
  }

  std::string_view rest_;
  const Refusal& refuse_;
};

void expect_wire(const Field& field, unsigned wire, const char* what, const Refusal& refuse) {
  if (field.wire != wire) refuse(std::string(what) + " has the wrong wire type");
}

ModelPiece read_piece(std::string_view bytes, size_t id, const Refusal& refuse) {
  const auto which = [id] { return "piece " + std::to_string(id); };
  ModelPiece piece;
  WireWalk walk(bytes, refuse);
  for (Field field; walk.next(field);) {
    if (field.number == 1) {
      expect_wire(field, 2, "a piece's text", refuse);
      piece.text = field.bytes;
    } else if (field.number == 2) {
      expect_wire(field, 5, "a piece's score", refuse);
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    } else if (field.number == 3) {
      expect_wire(field, 0, "a piece's type", refuse);
      if (field.value < 1 || field.value > 6) {
        refuse(which() + " has type " + std::to_string(field.value) + ", but types are 1 to 6");
      }
      piece.type = static_cast<uint8_t>(field.value);
    }
  }
  if (piece.text.empty()) refuse(which() + " is empty");
  if (piece.text.size() > kPieceBytes) {
    refuse(which() + " has " + with_commas(static_cast<int64_t>(piece.text.size())) + " bytes, but at most " +
           std::to_string(kPieceBytes) + " are allowed");
  }
  if (!valid_utf8(piece.text)) refuse(which() + " (" + printable(piece.text, 60) + ") is not UTF-8");
  if (piece.text.find('\0') != std::string_view::npos) refuse(which() + " holds a NUL character");
  if (!std::isfinite(piece.score)) refuse(which() + " has a score that is not finite");
  return piece;
}

void read_trainer(std::string_view bytes, ModelOutline& outline, const Refusal& refuse) {
  WireWalk walk(bytes, refuse);
  for (Field field; walk.next(field);) {
    const bool number = field.wire == 0;
    const int value = static_cast<int>(static_cast<int64_t>(field.value));
    if (field.number == 3 && number) outline.model_type = value;
    if (field.number == 24 && number && field.value)
      refuse("it keeps whitespace as a suffix, which is not supported");
    if (field.number == 35 && number) outline.byte_fallback = field.value != 0;
    if (field.number == 40 && number) outline.unk_id = value;
    if (field.number == 41 && number) outline.bos_id = value;
    if (field.number == 42 && number) outline.eos_id = value;
    if (field.number == 43 && number) outline.pad_id = value;
    if (field.wire != 2) continue;
    if (field.number == 45) outline.unk_piece = field.bytes;
    if (field.number == 46) outline.bos_piece = field.bytes;
    if (field.number == 47) outline.eos_piece = field.bytes;
    if (field.number == 48) outline.pad_piece = field.bytes;
  }
}

// Returns whether there is a table of replacements.
bool read_normaliser(std::string_view bytes, ModelOutline* outline, const Refusal& refuse) {
  bool has_charsmap = false;
  WireWalk walk(bytes, refuse);
  for (Field field; walk.next(field);) {
    if (field.number == 2) {
      expect_wire(field, 2, "the normaliser table", refuse);
      has_charsmap = has_charsmap || !field.bytes.empty();
    }
    if (outline == nullptr || field.wire != 0) continue;
    if (field.number == 3) outline->add_dummy_prefix = field.value != 0;
    if (field.number == 4) outline->remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) outline->escape_whitespaces = field.value != 0;
  }
  return has_charsmap;
}

// The byte of "<0x41>", or -1 where the text is none.
int byte_of(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

void check_user_defined(std::vector<std::string_view> texts, const Refusal& refuse) {
  std::sort(texts.begin(), texts.end());
  // In sorted order the prefixes of a text stand before it, each within the next.
  std::vector<std::string_view> prefixes;
  for (const std::string_view text : texts) {
    while (!prefixes.empty() && !text.starts_with(prefixes.back())) prefixes.pop_back();
    prefixes.push_back(text);
    if (prefixes.size() > kUserDefinedMatches) {
      refuse("more than " + std::to_string(kUserDefinedMatches) +
             " user-defined pieces begin one another, and SentencePiece has room for no more");
    }
  }
}

void check_pieces(const ModelOutline& outline, const Refusal& refuse) {
  std::unordered_set<std::string_view> seen;
  seen.reserve(outline.pieces.size());
  std::bitset<256> bytes;
  std::vector<std::string_view> user_defined;
  int unknown = 0;
  for (size_t id = 0; id < outline.pieces.size(); ++id) {
    const ModelPiece& piece = outline.pieces[id];
    const auto which = [&] { return "piece " + std::to_string(id) + " (" + printable(piece.text, 60) + ")"; };
    if (!seen.insert(piece.text).second) refuse(which() + " is there twice");
    if (piece.type == 2) ++unknown;
    if (piece.type == 3 && piece.text.size() < 2) {
      refuse(which() + " is a control piece of one character, so plain text would become a control id");
    }
    if (piece.type == 4) user_defined.push_back(piece.text);
    if (piece.type == 6) {
      const int byte = byte_of(piece.text);
      if (byte < 0) refuse(which() + " is a byte piece, but these are written <0x00> to <0xFF>");
      bytes.set(static_cast<size_t>(byte));
    }
  }
  if (unknown != 1) refuse("it has " + std::to_string(unknown) + " pieces of type unknown, but needs one");
  if (bytes.any() && !bytes.all()) {
    refuse("it has " + std::to_string(bytes.count()) + " byte pieces, but needs all 256 or none");
  }
  if (bytes.any() != outline.byte_fallback) {
    refuse(bytes.any() ? "it has byte pieces, but its byte fallback is off"
                       : "its byte fallback is on, but it has no byte pieces");
  }
  check_user_defined(std::move(user_defined), refuse);
}

}  // namespace

ModelOutline check_model(std::string_view model, const std::string& name) {
  const Refusal refuse(name);
  if (model.empty()) refuse("it is empty");
  if (model.size() > kModelBytes) {
    refuse("it has " + human_bytes(static_cast<int64_t>(model.size())) + ", but at most " +
           human_bytes(kModelBytes) + " are allowed");
  }
  ModelOutline outline;
  size_t self_test_bytes = 0;
  WireWalk walk(model, refuse);
  for (Field field; walk.next(field);) {
    if (field.number < 1 || field.number > 5) continue;
    expect_wire(field, 2, "a part of the model", refuse);
    if (field.number == 1) {
      if (outline.pieces.size() == kPieces) {
        refuse("it has more than " + with_commas(static_cast<int64_t>(kPieces)) + " pieces");
      }
      outline.pieces.push_back(read_piece(field.bytes, outline.pieces.size(), refuse));
    } else if (field.number == 2) {
      read_trainer(field.bytes, outline, refuse);
    } else if (field.number == 3) {
      outline.has_charsmap |= read_normaliser(field.bytes, &outline, refuse);
    } else if (field.number == 4) {
      self_test_bytes += field.bytes.size();
      if (self_test_bytes > kSelfTestBytes) refuse("its self-test data exceed 1 MiB");
    } else {
      outline.has_reverse_charsmap |= read_normaliser(field.bytes, nullptr, refuse);
    }
  }
  if (outline.pieces.empty()) refuse("it has no pieces (it is not a SentencePiece model)");
  check_pieces(outline, refuse);
  return outline;
}

}  // namespace toroid
