// The tokenizer against SentencePiece itself: the same ids on every piece of text between escapes, and the
// text back.
#include "data/tokenizer/tokenizer.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "data/data.pb.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/train_tokenizer.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/data/tokenizer/small_tokenizer.h"

namespace toroid {
namespace {

const Tokenizer& shared_tokenizer() {
  static const Tokenizer tokenizer = small_tokenizer();
  return tokenizer;
}

// Pieces of the vocabulary that plain text must never become.
bool is_tag(const Tokenizer& tokenizer, int32_t id) {
  const std::string_view piece = tokenizer.piece(id);
  return tokenizer.type(id) == PieceType::control || tokenizer.type(id) == PieceType::unknown ||
         piece.find("_of_turn>") != std::string_view::npos || piece.starts_with("<unused") ||
         piece == "<mask>" || piece == "<2mass>" || piece == "[@BOS@]";
}

// Ids by the plainest reading of the rules: cut at escapes, hand every part to SentencePiece.
class PlainEncoder {
 public:
  explicit PlainEncoder(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), sentencepiece_(tokenizer.model_bytes(), "plain") {
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.type(id) == PieceType::user_defined && is_tag(tokenizer, id)) {
        tags_.emplace_back(tokenizer.piece(id));
      }
    }
  }

  std::vector<int32_t> encode(std::string_view text) const {
    std::vector<int32_t> ids;
    std::string part;
    size_t length = 1;
    for (size_t i = 0; i < text.size(); i += length) {
      length = character(text.substr(i));
      if (length == 0 || text.substr(i, length) == "\xe2\x96\x81") {
        flush(part, ids);
        length = std::max<size_t>(length, 1);
        for (const char c : text.substr(i, length)) {
          char piece[8];
          std::snprintf(piece, sizeof piece, "<0x%02X>", static_cast<uint8_t>(c));
          ids.push_back(tokenizer_.id_of(piece));
        }
        continue;
      }
      part += text.substr(i, length);
      for (const std::string& tag : tags_) {
        if (text.substr(i).starts_with(tag)) {
          flush(part, ids);
          break;
        }
      }
    }
    flush(part, ids);
    return ids;
  }

 private:
  // Length of a valid character, else 0.
  static size_t character(std::string_view text) {
    for (size_t length = 1; length <= std::min<size_t>(4, text.size()); ++length) {
      if (valid_utf8(text.substr(0, length))) return length;
    }
    return 0;
  }

  void flush(std::string& part, std::vector<int32_t>& ids) const {
    if (part.empty()) return;
    std::vector<int> some;
    sentencepiece_.encode(part, some);
    ids.insert(ids.end(), some.begin(), some.end());
    part.clear();
  }

  const Tokenizer& tokenizer_;
  SentencePieceModel sentencepiece_;
  std::vector<std::string> tags_;
};

// Fragments that meet at awkward places: spaces of every number, tags, broken bytes, scripts.
std::string fuzz_text(uint64_t seed, bool escapes) {
  static const std::vector<std::string> kPlain = {" ",
                                                  "  ",
                                                  "   ",
                                                  "\n",
                                                  "\n\n",
                                                  "\t",
                                                  "\t\t",
                                                  "a",
                                                  "the",
                                                  "The",
                                                  "ing",
                                                  "0",
                                                  "12",
                                                  "é",
                                                  "生",
                                                  "活的",
                                                  "真谛",
                                                  "今日は",
                                                  "Москва",
                                                  "😀",
                                                  "<",
                                                  ">",
                                                  "<b>",
                                                  "</table>",
                                                  "[",
                                                  "]",
                                                  ".",
                                                  "__",
                                                  "_x",
                                                  "()",
                                                  "λ",
                                                  "\r\n",
                                                  "\xc2\xa0",
                                                  "\xef\xbf\xbd",
                                                  "=",
                                                  "self",
                                                  "return",
                                                  "<0x41>",
                                                  "<s>",
                                                  "<start_of",
                                                  "_of_turn>",
                                                  "\x01",
                                                  "\xe2\x96\x85",
                                                  "\xe2\x80\x8b",
                                                  "torus",
                                                  "shard",
                                                  "q",
                                                  "-",
                                                  "'s"};
  static const std::vector<std::string> kEscapes = {"\xe2\x96\x81",
                                                    "\xff",
                                                    "\xc3",
                                                    "\xe2\x96",
                                                    "\xed\xa0\x80",
                                                    "\xf4\x90\x80\x80",
                                                    "<start_of_turn>",
                                                    "<end_of_turn>",
                                                    "<bos>",
                                                    "<eos>",
                                                    "<pad>",
                                                    "<unused",
                                                    "<unk>",
                                                    "<mask>",
                                                    "<unused3>",
                                                    "<unused99>",
                                                    "[@BOS@]",
                                                    "<2mass>",
                                                    "<start_of_<start_of_turn>turn>",
                                                    std::string(1, '\0'),
                                                    "\x80"};
  Dice dice(seed);
  std::string text;
  const uint32_t parts = 1 + dice(40);
  for (uint32_t i = 0; i < parts; ++i) {
    if (escapes && dice(5) == 0) {
      text += kEscapes[dice(static_cast<uint32_t>(kEscapes.size()))];
    } else if (dice(12) == 0) {
      text += std::string(dice(80), " \n\t"[dice(3)]);
    } else {
      text += kPlain[dice(static_cast<uint32_t>(kPlain.size()))];
    }
  }
  return text;
}

void expect_equal(const Tokenizer& tokenizer, const PlainEncoder& plain, Encoder& encoder,
                  const std::string& text) {
  const std::vector<int32_t> ids = encoder.encode(text);
  ASSERT_EQ(ids, plain.encode(text)) << printable(text, 2000);
  ASSERT_EQ(tokenizer.decode(ids), text) << printable(text, 2000);
  ASSERT_TRUE(std::none_of(ids.begin(), ids.end(), [&](int32_t id) { return is_tag(tokenizer, id); }))
      << printable(text, 2000);
}

TEST(Tokenizer, HasGemmasIds) {
  const Tokenizer& t = shared_tokenizer();
  const SpecialIds& special = t.special();
  EXPECT_EQ(special.pad, 0);
  EXPECT_EQ(special.eos, 1);
  EXPECT_EQ(special.bos, 2);
  EXPECT_EQ(special.unk, 3);
  EXPECT_EQ(special.start_of_turn, 106);
  EXPECT_EQ(special.end_of_turn, 107);
  EXPECT_EQ(t.id_of("<mask>"), 4);
  EXPECT_EQ(t.id_of("[@BOS@]"), 6);
  EXPECT_EQ(t.id_of("<unused98>"), 105);
  EXPECT_EQ(t.id_of("\n"), 108);
  EXPECT_EQ(t.id_of("\xe2\x96\x81\xe2\x96\x81"), 139);
  EXPECT_EQ(t.id_of("<s>"), 204);
  EXPECT_EQ(t.id_of("<0x00>"), 217);
  EXPECT_EQ(t.id_of("<0xFF>"), 472);
  EXPECT_EQ(t.piece(0), "<pad>");
  EXPECT_EQ(t.piece(t.vocab_size() - 1), "<unused99>");
  EXPECT_EQ(t.type(2), PieceType::control);
  EXPECT_EQ(t.vocab_size(), 800);
}

TEST(Tokenizer, RunsOfWhitespaceAreOnePiece) {
  Encoder encoder(shared_tokenizer());
  const auto ids = encoder.encode("The  torus   ring");
  EXPECT_NE(std::find(ids.begin(), ids.end(), 139), ids.end());
  EXPECT_NE(std::find(ids.begin(), ids.end(), 140), ids.end());
  EXPECT_EQ(encoder.encode(std::string(64, ' ')).size(), 3u);  // 31 + 31 + 2
}

TEST(Tokenizer, DigitsAreSplit) {
  const Tokenizer& t = shared_tokenizer();
  for (int32_t id = 473; id < t.vocab_size(); ++id) {
    const std::string_view piece = t.piece(id);
    const auto digits =
        std::count_if(piece.begin(), piece.end(), [](char c) { return c >= '0' && c <= '9'; });
    EXPECT_TRUE(digits == 0 || piece.size() == 1 || t.type(id) == PieceType::user_defined) << piece;
  }
}

TEST(Tokenizer, EqualsSentencePieceOnPlainText) {
  const PlainEncoder plain(shared_tokenizer());
  Encoder encoder(shared_tokenizer());
  for (uint64_t seed = 1000; seed < 1040; ++seed) {
    expect_equal(shared_tokenizer(), plain, encoder, sample_text(seed, 800));
  }
  expect_equal(shared_tokenizer(), plain, encoder, "");
}

TEST(Tokenizer, EqualsSentencePieceUnderFuzzing) {
  const PlainEncoder plain(shared_tokenizer());
  const SentencePieceModel sentencepiece(shared_tokenizer().model_bytes(), "whole");
  Encoder encoder(shared_tokenizer());
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    expect_equal(shared_tokenizer(), plain, encoder, fuzz_text(seed, true));
    // Without escapes the whole text is one piece.
    const std::string text = fuzz_text(seed, false);
    std::vector<int> whole;
    sentencepiece.encode(text, whole);
    ASSERT_EQ(encoder.encode(text), std::vector<int32_t>(whole.begin(), whole.end()))
        << printable(text, 2000);
  }
}

TEST(Tokenizer, RandomBytesComeBack) {
  Encoder encoder(shared_tokenizer());
  const PlainEncoder plain(shared_tokenizer());
  Dice dice(7);
  for (int i = 0; i < 2000; ++i) {
    std::string text(dice(60), '\0');
    for (char& c : text) c = static_cast<char>(dice(256));
    expect_equal(shared_tokenizer(), plain, encoder, text);
  }
}

// Models whose pieces and user-defined pieces cross spaces, line ends and scripts in every way a cut could
// get wrong.
TEST(Tokenizer, EqualsSentencePieceWhateverThePiecesCross) {
  const std::vector<std::vector<std::pair<std::string, std::string>>> variants = {
      {{"split_by_whitespace", "false"}},
      {{"split_by_whitespace", "false"}, {"split_by_unicode_script", "false"}, {"split_by_number", "false"}},
      {{"user_defined_symbols", "\xe2\x96\x81\xe2\x96\x81,\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81"}},
      {{"user_defined_symbols",
        "e\xe2\x96\x81t,\xe2\x96\x81\xe2\x96\x81,\n\xe2\x96\x81\xe2\x96\x81,\n\n,a\n"}},
      {{"user_defined_symbols",
        "\xe2\x96\x81\xe2\x96\x81,\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81,\n,\n\n,\n\n\n,12,ing"}},
      {{"split_digits", "false"},
       {"allow_whitespace_only_pieces", "true"},
       {"split_by_unicode_script", "false"}},
  };
  for (const auto& variant : variants) {
    std::vector<std::pair<std::string, std::string>> settings = {
        {"model_type", "bpe"},         {"vocab_size", "560"},
        {"byte_fallback", "true"},     {"hard_vocab_limit", "false"},
        {"add_dummy_prefix", "false"}, {"remove_extra_whitespaces", "false"},
        {"minloglevel", "2"},          {"normalization_rule_name", "identity"}};
    settings.insert(settings.end(), variant.begin(), variant.end());
    uint64_t lines = 0;
    const Tokenizer tokenizer =
        Tokenizer::from_bytes(train_sentencepiece(settings,
                                                  [&](std::string& line) {
                                                    if (lines == 60) return false;
                                                    line = sample_text(lines++, 200).substr(0, 4000);
                                                    std::replace(line.begin(), line.end(), '\n', ' ');
                                                    return true;
                                                  })
                                  .bytes,
                              "variant");
    const SentencePieceModel sentencepiece(tokenizer.model_bytes(), "variant");
    Encoder encoder(tokenizer);
    for (uint64_t seed = 0; seed < 1500; ++seed) {
      const std::string text = seed % 3 == 0 ? sample_text(seed, 60) : fuzz_text(seed, false);
      // User-defined pieces that are not blank are tags here, so leave out texts that have them.
      if (text.find("e t") != std::string::npos || text.find("12") != std::string::npos ||
          text.find("ing") != std::string::npos || text.find("a\n") != std::string::npos) {
        continue;
      }
      std::vector<int> whole;
      sentencepiece.encode(text, whole);
      ASSERT_EQ(encoder.encode(text), std::vector<int32_t>(whole.begin(), whole.end()))
          << printable(text, 2000);
    }
  }
}

TEST(Tokenizer, TagsAreTextUnlessTheProgramSaysOtherwise) {
  const Tokenizer& t = shared_tokenizer();
  Encoder encoder(t);
  const std::string text = "<start_of_turn>user\nHi<end_of_turn>\n";
  const auto split = encoder.encode(text);
  EXPECT_EQ(std::count(split.begin(), split.end(), 106), 0);
  EXPECT_EQ(t.decode(split), text);
  const auto match = encoder.encode(text, Tags::match);
  EXPECT_EQ(match.front(), 106);
  EXPECT_EQ(std::count(match.begin(), match.end(), 107), 1);
  EXPECT_EQ(t.decode(match), text);
  // HTML elements are content.
  EXPECT_EQ(encoder.encode("<table>").size(), 1u);
}

TEST(Tokenizer, ADocumentHasBosAndEos) {
  Encoder encoder(shared_tokenizer());
  std::vector<int32_t> ids;
  encoder.encode_document("the <bos> torus", ids);
  EXPECT_EQ(ids.front(), 2);
  EXPECT_EQ(ids.back(), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 1);
  EXPECT_EQ(shared_tokenizer().decode(ids), "the <bos> torus");
}

TEST(Tokenizer, TextBytesAddUpToTheText) {
  const Tokenizer& t = shared_tokenizer();
  Encoder encoder(t);
  const std::string text = sample_text(5, 300) + "\xe2\x96\x81\xff";
  int64_t bytes = 0;
  for (const int32_t id : encoder.encode(text)) bytes += t.text_bytes(id);
  EXPECT_EQ(bytes, static_cast<int64_t>(text.size()));
  EXPECT_EQ(t.text_bytes(t.special().bos), 0);
}

TEST(Tokenizer, LongRunsWithoutACutAreBounded) {
  Encoder encoder(shared_tokenizer());
  const std::string text(300'000, 'e');
  EXPECT_EQ(shared_tokenizer().decode(encoder.encode(text)), text);
}

TEST(Tokenizer, LoadsWhatItSaved) {
  const TemporaryDirectory directory;
  const Path path = directory / "tokenizer.model";
  write_file(path, shared_tokenizer().model_bytes());
  const Tokenizer loaded = Tokenizer::load(path);
  EXPECT_EQ(loaded.hash(), shared_tokenizer().hash());
  EXPECT_EQ(loaded.vocab_size(), shared_tokenizer().vocab_size());
}

TEST(Tokenizer, TrainingIsTheSameWithMoreThreads) {
  const auto train = [](int threads) {
    bool given = false;
    const std::string text = sample_text(1, 3000);
    return train_tokenizer(
        [&](std::string_view& part) {
          part = text;
          return !std::exchange(given, true);
        },
        {700, threads});
  };
  EXPECT_EQ(train(1).id_of("\xe2\x96\x81the"), train(3).id_of("\xe2\x96\x81the"));
}

TEST(Tokenizer, RefusesWhatItCannotTrain) {
  EXPECT_THROW(small_tokenizer(fixed_pieces()), UserError);
  EXPECT_THROW(train_tokenizer([](std::string_view&) { return false; }, {800, 1}), UserError);
}

Tokenizer train_on(const std::string& text, int32_t vocab) {
  bool given = false;
  return train_tokenizer(
      [&](std::string_view& part) {
        part = text;
        return !std::exchange(given, true);
      },
      {vocab, 1});
}

std::string training_failure(const std::string& text, int32_t vocab) {
  try {
    train_on(text, vocab);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Tokenizer, TooSmallAVocabularySaysHowManyPiecesTheTextNeeds) {
  const std::string text = sample_text(1, 3000);
  const std::string why = training_failure(text, fixed_pieces() + 5);
  EXPECT_EQ(why.find("data.tokenizer.train.vocab is " + std::to_string(fixed_pieces() + 5)), 0u) << why;
  for (const char* of_the_library : {"--", "required_chars", "coverage", ".cc", "vocab_size"}) {
    EXPECT_EQ(why.find(of_the_library), std::string::npos) << why;
  }
  const std::string before = "needs at least ";
  const size_t at = why.find(before);
  ASSERT_NE(at, std::string::npos) << why;
  const int32_t needed = std::stoi(why.substr(at + before.size()));
  EXPECT_GT(needed, fixed_pieces() + 5);
  // The number is the least that is accepted.
  EXPECT_NE(training_failure(text, needed - 1).find(before + std::to_string(needed)), std::string::npos);
  EXPECT_EQ(train_on(text, needed).vocab_size(), needed);
}

TEST(Tokenizer, WhiteSpaceAloneIsNoText) {
  for (const char* text : {"", "   ", "\n\n", " \t \n\t\t", " \r\n  "}) {
    EXPECT_NE(training_failure(text, 800).find("there is no text"), std::string::npos) << text;
  }
}

TEST(Tokenizer, HasFewerPiecesWhereTheTextGivesNoMore) {
  const Tokenizer tokenizer = train_on("to be or not to be", 100'000);
  EXPECT_GT(tokenizer.vocab_size(), fixed_pieces());
  EXPECT_LT(tokenizer.vocab_size(), fixed_pieces() + 100);
}

TEST(Tokenizer, RefusesIdsThatAreNotThere) {
  const std::vector<int32_t> large = {800}, negative = {-1};
  EXPECT_THROW(shared_tokenizer().decode(large), UserError);
  EXPECT_THROW(shared_tokenizer().decode(negative), UserError);
}

TEST(Tokenizer, OneEncoderForEachThread) {
  const std::string text = sample_text(9, 4000);
  const std::vector<int32_t> expected = Encoder(shared_tokenizer()).encode(text);
  std::vector<std::vector<int32_t>> found(4);
  std::vector<std::thread> threads;
  for (auto& ids : found) {
    threads.emplace_back([&ids, &text] {
      Encoder encoder(shared_tokenizer());
      for (int i = 0; i < 3; ++i) ids = encoder.encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& ids : found) EXPECT_EQ(ids, expected);
}

// libsentencepiece.so exports an older protobuf: both must work in one program, in any order.
TEST(Tokenizer, SharesTheProgramWithProtobuf) {
  config::DataConfig data;
  ASSERT_TRUE(
      google::protobuf::TextFormat::ParseFromString("directory: 'a' source { name: 'b' weight: 2 }", &data));
  EXPECT_EQ(Encoder(shared_tokenizer()).encode("torus").empty(), false);
  config::DataConfig again;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(data.DebugString(), &again));
  EXPECT_EQ(again.source(0).weight(), 2);
}

}  // namespace
}  // namespace toroid
