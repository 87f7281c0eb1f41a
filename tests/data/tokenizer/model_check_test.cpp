// Models that SentencePiece would crash on are refused before it sees them, and real ones pass.
#include "data/tokenizer/model_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <tuple>

#include "core/base/error.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/data/tokenizer/small_tokenizer.h"

namespace toroid {
namespace {

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string bytes_field(uint32_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string number_field(uint32_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}

std::string piece(const std::string& text, int type = 1, float score = 0) {
  std::string out = bytes_field(1, text);
  out += "\x15" + std::string(reinterpret_cast<const char*>(&score), 4);
  return bytes_field(1, out + number_field(3, static_cast<uint64_t>(type)));
}

std::string byte_pieces() {
  std::string out;
  for (int i = 0; i < 256; ++i) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", i);
    out += piece(text, 6);
  }
  return out;
}

std::string settings(const std::string& trainer = "", const std::string& normaliser = "") {
  return bytes_field(2, number_field(3, 2) + number_field(35, 1) + trainer) +
         bytes_field(3, number_field(3, 0) + number_field(4, 0) + normaliser);
}

std::string base() {
  return piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + byte_pieces();
}

// What the whole way to a Tokenizer says, "" where it is content and can encode.
std::string failure(const std::string& model) {
  try {
    const Tokenizer tokenizer = Tokenizer::from_bytes(model, "m");
    Encoder encoder(tokenizer);
    (void)encoder.encode("Hi  there\n\tx=12 \xc3\xa9\xff\xe2\x96\x81 \xef\xbd\xb1\xef\xbe\x9e \xe3\x8e\x91");
    return "";
  } catch (const UserError& error) {
    return error.what();
  }
}

void expect_refused(const std::string& model, const std::string& word) {
  const std::string why = failure(model);
  EXPECT_NE(why.find(word), std::string::npos) << "'" << why << "' should speak of " << word;
  EXPECT_EQ(why.find('\n'), std::string::npos) << why;
  EXPECT_LT(why.size(), 400u);
}

TEST(ModelCheck, ASmallModelPasses) {
  EXPECT_EQ(failure(base() + piece("a") + piece("\xe2\x96\x81") + settings()), "");
}

TEST(ModelCheck, Pieces) {
  expect_refused(base() + piece("a\xff") + settings(), "UTF-8");
  expect_refused(base() + piece("") + settings(), "empty");
  expect_refused(base() + piece(std::string(200'000, 'a')) + settings(), "at most 512");
  expect_refused(base() + piece("a", 1, std::numeric_limits<float>::quiet_NaN()) + settings(), "finite");
  expect_refused(base() + piece("a", 1, std::numeric_limits<float>::infinity()) + settings(), "finite");
  expect_refused(base() + piece("a", 7) + settings(), "type 7");
  expect_refused(base() + piece("a", 0) + settings(), "type 0");
  expect_refused(base() + piece("a") + piece("a") + settings(), "twice");
  expect_refused(base() + piece("<unk2>", 2) + settings(), "needs one");
  expect_refused(byte_pieces() + piece("a") + settings(), "needs one");
  expect_refused(base() + piece(std::string("a\0b", 3), 4) + settings(), "NUL");
  expect_refused(base() + piece("x", 3) + settings(), "control");
  std::string chain;
  for (size_t i = 2; i < 70; ++i) chain += piece(std::string(i, '-'), 4);
  expect_refused(base() + chain + settings(), "begin one another");
}

TEST(ModelCheck, BytePieces) {
  expect_refused(piece("<unk>", 2) + piece("<0xZZ>", 6) + settings(), "byte piece");
  expect_refused(piece("<unk>", 2) + piece("<0x-1>", 6) + settings(), "byte piece");
  expect_refused(piece("<unk>", 2) + piece("<0x41>", 6) + settings(), "256");
  expect_refused(piece("<unk>", 2) + piece("a") + settings(), "byte fallback");
  expect_refused(base() + bytes_field(2, number_field(3, 2)), "byte fallback");
}

TEST(ModelCheck, Protobuf) {
  expect_refused("", "empty");
  expect_refused("\xff\xff\xff", "middle of a number");
  expect_refused(std::string("\x0a\xff\xff\xff\xff\x0f", 6), "truncated");
  expect_refused(std::string(20, '\xff'), "ten bytes");
  expect_refused("\x0b", "wire type 3");
  expect_refused(std::string("\x00\x00", 2), "field number");
  const std::string model = base() + piece("a") + settings();
  for (size_t length = 0; length < model.size(); length += 7) {
    EXPECT_NE(failure(model.substr(0, length)), "") << length;
  }
  expect_refused("{\"model\": {\"type\": \"BPE\"}}", "refused");
}

TEST(ModelCheck, WhatCannotGiveTextBackIsRefused) {
  expect_refused(base() + bytes_field(2, number_field(3, 2) + number_field(35, 1)), "add_dummy_prefix");
  expect_refused(base() + settings("", number_field(4, 1)), "remove_extra_whitespaces");
  expect_refused(base() + settings("", number_field(5, 0)), "escape");
  expect_refused(base() + settings(number_field(3, 3)), "BPE");
}

TEST(ModelCheck, SelfTestsAreBounded) {
  expect_refused(base() + settings() + bytes_field(4, std::string(2 << 20, 'x')), "self-test");
}

std::string with_normaliser(const std::string& rule) {
  uint64_t lines = 0;
  return train_sentencepiece({{"model_type", "bpe"},
                              {"vocab_size", "500"},
                              {"byte_fallback", "true"},
                              {"hard_vocab_limit", "false"},
                              {"add_dummy_prefix", "false"},
                              {"remove_extra_whitespaces", "false"},
                              {"minloglevel", "2"},
                              {"normalization_rule_name", rule}},
                             [&](std::string& line) {
                               line = sample_text(lines, 20);
                               return lines++ < 50;
                             })
      .bytes;
}

TEST(ModelCheck, NormalisersAreRefused) {
  for (const char* rule : {"nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf"}) {
    const std::string model = with_normaliser(rule);
    EXPECT_TRUE(check_model(model, rule).has_charsmap) << rule;
    expect_refused(model, "normaliser");
  }
  EXPECT_EQ(failure(with_normaliser("identity")), "");
  expect_refused(base() + settings("", bytes_field(2, std::string(8, '\0'))), "normaliser");
  expect_refused(base() + settings() + bytes_field(5, bytes_field(2, std::string(8, '\0'))), "denormaliser");
  EXPECT_EQ(failure(base() + settings() + bytes_field(5, number_field(3, 0))), "");
}

TEST(ModelCheck, SpecialIdsAreThoseOfSentencePiece) {
  const auto special = [](const std::string& model) { return Tokenizer::from_bytes(model, "m").special(); };
  // Without settings SentencePiece's own: unk 0, bos 1, eos 2, no pad.
  SpecialIds ids = special(base() + settings());
  EXPECT_EQ(std::tie(ids.unk, ids.bos, ids.eos, ids.pad), std::make_tuple(0, 1, 2, -1));
  // Names decide, wherever the pieces stand.
  const std::string swapped = piece("</s>", 3) + piece("<s>", 3) + piece("<pad>", 3) + piece("<unk>", 2);
  ids = special(swapped + byte_pieces() + settings());
  EXPECT_EQ(std::tie(ids.unk, ids.bos, ids.eos, ids.pad), std::make_tuple(3, 1, 0, 2));
  const std::string named = bytes_field(46, "[B]") + bytes_field(47, "[E]");
  ids = special(piece("<unk>", 2) + piece("[E]", 3) + piece("[B]", 3) + byte_pieces() + settings(named));
  EXPECT_EQ(std::tie(ids.unk, ids.bos, ids.eos, ids.pad), std::make_tuple(0, 2, 1, -1));
  // A piece that is text is none of them, whatever it is called.
  ids = special(base() + piece("<pad>", 4) + piece("<eos>", 4) + settings(number_field(42, -1)));
  EXPECT_EQ(std::tie(ids.eos, ids.pad), std::make_tuple(2, -1));
  ids = special(piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 4) + byte_pieces() +
                settings(number_field(42, -1)));
  EXPECT_EQ(std::tie(ids.bos, ids.eos), std::make_tuple(1, -1));
  // Names that are not there: the ids as stated.
  ids = special(piece("<unk>", 2) + piece("[E]", 3) + piece("[B]", 3) + byte_pieces() +
                settings(number_field(41, 2) + number_field(42, 1)));
  EXPECT_EQ(std::tie(ids.bos, ids.eos), std::make_tuple(2, 1));
}

}  // namespace
}  // namespace toroid
