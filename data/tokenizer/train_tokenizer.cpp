#include "data/tokenizer/train_tokenizer.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "data/tokenizer/gemma_pieces.h"
#include "data/tokenizer/sentencepiece.h"

namespace toroid {
namespace {

constexpr size_t kLineBytes = 4096;  // SentencePiece drops lines longer than 4192 bytes
constexpr int kLongestRun = 31;

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// Ids 4 to 216, in Gemma's order.
std::vector<std::string> leading_pieces() {
  std::vector<std::string> pieces{"<mask>", "<2mass>", "[@BOS@]"};
  for (int i = 0; i <= 98; ++i) pieces.push_back("<unused" + std::to_string(i) + ">");
  pieces.emplace_back("<start_of_turn>");
  pieces.emplace_back("<end_of_turn>");
  for (int n = 1; n <= kLongestRun; ++n) pieces.push_back(repeat("\n", n));
  for (int n = 2; n <= kLongestRun; ++n) pieces.push_back(repeat(kSpace, n));
  for (const std::vector<std::string>& group : html_elements()) {
    for (const char* bracket : {"<", "</"}) {
      for (const std::string& element : group) pieces.push_back(bracket + element + ">");
    }
  }
  return pieces;
}

// The ids after everything that was learnt.
std::vector<std::string> trailing_pieces() {
  std::vector<std::string> pieces;
  for (int n = 2; n <= kLongestRun + 1; ++n) pieces.push_back(repeat("\t", n));
  pieces.emplace_back("<unused99>");
  return pieces;
}

std::string comma_separated(const std::vector<std::string>& values) {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : ",") + value;
  return out;
}

// One more user-defined piece at the end of a serialized model: protobuf lets a repeated field go on
// anywhere.
void append_piece(std::string_view text, std::string& model) {
  std::string piece;
  piece += '\x0a';  // field 1, bytes
  piece += static_cast<char>(text.size());
  piece += text;
  piece += std::string("\x15\0\0\0\0", 5);  // field 2, float 0
  piece += "\x18\x04";                      // field 3, user-defined
  require(text.size() < 100, "a tail piece's length is one byte of varint");
  model += '\x0a';
  model += static_cast<char>(piece.size());
  model += piece;
}

// Hands on the text in lines that SentencePiece accepts.
class LineCutter {
 public:
  explicit LineCutter(const TextStream& text) : text_(text) {}

  bool next(std::string& line) {
    for (;;) {
      while (!rest_.empty()) {
        size_t length = std::min(rest_.find('\n'), rest_.size());
        const bool at_newline = length < rest_.size();
        size_t skip = at_newline ? 1 : 0;
        if (length > kLineBytes) {
          length = cut(rest_);
          skip = 0;
        }
        const std::string_view found = rest_.substr(0, length);
        rest_.remove_prefix(length + skip);
        if (found.empty() || found.find('\0') != std::string_view::npos) continue;
        line.assign(found);
        return true;
      }
      if (!text_(rest_)) return false;
    }
  }

 private:
  // Before the last space of the first 4 KiB, or between characters where there is none.
  static size_t cut(std::string_view text) {
    const size_t space = text.rfind(' ', kLineBytes);
    if (space != std::string_view::npos && space > 0) return space;
    size_t end = kLineBytes;
    while (end > kLineBytes - 4 && continues_character(text[end])) --end;
    return end;
  }

  const TextStream& text_;
  std::string_view rest_;
};

// Why SentencePiece did not train, in the words of the config. It counts what it needs at least: "Vocabulary
// size is smaller than required_chars. 290 vs 291. ...".
[[noreturn]] void refuse_training(const std::string& refusal, int32_t vocab, int32_t tail) {
  const std::string field = "data.tokenizer.train.vocab is " + with_commas(vocab);
  constexpr std::string_view kBefore = " vs ";
  const size_t at = refusal.find("required_chars. ");
  const size_t number = at == std::string::npos ? at : refusal.find(kBefore, at);
  if (number != std::string::npos) {
    int32_t needed = 0;
    const char* const begin = refusal.data() + number + kBefore.size();
    if (std::from_chars(begin, refusal.data() + refusal.size(), needed).ec == std::errc()) {
      needed += tail;
      throw UserError(field + ", but this text needs at least " + with_commas(needed) +
                      " pieces: " + with_commas(fixed_pieces()) +
                      " are fixed (control pieces, tags, runs of white space, " + "bytes) and " +
                      with_commas(needed - fixed_pieces()) +
                      " are its characters; raise it, the more the better for the text's words");
    }
  }
  // What the library says first is a place in its source, in brackets, and its advice names its own options.
  const size_t place = refusal.rfind("] ");
  std::string reason = place == std::string::npos ? refusal : refusal.substr(place + 2);
  reason.erase(std::min(reason.find("--"), reason.size()));
  throw UserError("the tokenizer cannot be trained: " + field +
                  ", and SentencePiece refuses it with this text (" + printable(reason, 200) +
                  "); try another number or other text");
}

}  // namespace

int32_t fixed_pieces() {
  return static_cast<int32_t>(4 + leading_pieces().size() + 256 + trailing_pieces().size());
}

void check_trained_vocab(int32_t vocab) {
  if (vocab > fixed_pieces()) return;
  throw UserError("data.tokenizer.train.vocab is " + with_commas(vocab) + ", but " +
                  with_commas(fixed_pieces()) +
                  " pieces are fixed (control pieces, tags, runs of white space, bytes), and the text's "
                  "characters need some; raise it");
}

Tokenizer train_tokenizer(const TextStream& text, const TokenizerTraining& training) {
  check_trained_vocab(training.vocab);
  const std::vector<std::string> tail = trailing_pieces();
  LineCutter lines(text);
  bool any = false;
  const auto next_line = [&](std::string& line) {
    if (!lines.next(line)) return false;
    any = any || line.find_first_not_of(" \t\r\f\v") != std::string::npos;
    return true;
  };
  TrainedModel trained =
      train_sentencepiece({{"model_type", "bpe"},
                           {"vocab_size", std::to_string(training.vocab - static_cast<int32_t>(tail.size()))},
                           {"hard_vocab_limit", "false"},
                           {"character_coverage", "0.9999"},
                           {"byte_fallback", "true"},
                           {"split_digits", "true"},
                           {"split_by_unicode_script", "true"},
                           {"split_by_number", "true"},
                           {"split_by_whitespace", "true"},
                           {"allow_whitespace_only_pieces", "true"},
                           {"remove_extra_whitespaces", "false"},
                           {"add_dummy_prefix", "false"},
                           {"normalization_rule_name", "identity"},
                           {"pad_id", "0"},
                           {"eos_id", "1"},
                           {"bos_id", "2"},
                           {"unk_id", "3"},
                           {"pad_piece", "<pad>"},
                           {"eos_piece", "<eos>"},
                           {"bos_piece", "<bos>"},
                           {"unk_piece", "<unk>"},
                           {"user_defined_symbols", comma_separated(leading_pieces())},
                           {"num_threads", std::to_string(std::clamp(training.threads, 1, 128))},
                           {"max_sentence_length", "4192"},
                           {"minloglevel", "2"}},
                          next_line);
  if (!any) {
    throw UserError(
        "there is no text to train the tokenizer on, white space apart; give the sources more of it, or "
        "raise "
        "data.tokenizer.train.input_megabytes");
  }
  if (!trained.refusal.empty()) {
    refuse_training(trained.refusal, training.vocab, static_cast<int32_t>(tail.size()));
  }
  for (const std::string& piece : tail) append_piece(piece, trained.bytes);
  return Tokenizer::from_bytes(std::move(trained.bytes), "the model just trained");
}

}  // namespace toroid
