// Models that SentencePiece would crash on are refused before it sees them, and real ones pass.
#include "data/tokenizer/model_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

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

TEST(ModelCheck, SentencePiecesOwnNormalisersPass) {
  for (const char* rule : {"nmt_nfkc", "nfkc_cf"}) {
    const std::string model = with_normaliser(rule);
    EXPECT_TRUE(check_model(model, rule).has_charsmap) << rule;
    EXPECT_EQ(failure(model), "") << rule;
  }
}

// Any change of the table is refused or harmless: nothing is read outside it (run under asan).
TEST(ModelCheck, ChangedNormalisersDoNoHarm) {
  const std::string model = with_normaliser("nfkc");
  // The table is the longest stretch of the model; its first units are the root and its children.
  const size_t size_of_trie = model.find(std::string("\0\0", 2), model.size() / 4);
  ASSERT_NE(size_of_trie, std::string::npos);
  Dice dice(11);
  int refused = 0;
  for (int i = 0; i < 40; ++i) {
    std::string changed = model;
    const int flips = 1 + static_cast<int>(dice(64));
    for (int k = 0; k < flips; ++k) {
      const size_t at = model.size() / 8 + dice(static_cast<uint32_t>(model.size() - model.size() / 4));
      changed[at] = static_cast<char>(changed[at] ^ (1 << dice(8)));
    }
    refused += failure(changed).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 0);
}

TEST(ModelCheck, NormaliserTablesThatPointOutside) {
  const auto with_table = [](const std::string& table) {
    return base() + settings("", bytes_field(2, table));
  };
  const auto word = [](uint32_t value) { return std::string(reinterpret_cast<const char*>(&value), 4); };
  expect_refused(with_table("abc"), "too short");
  expect_refused(with_table(word(0xffffffff) + "abcd"), "whole blocks");
  expect_refused(with_table(word(8) + std::string(12, '\0')), "whole blocks");
  const std::string empty(1020, '\0');
  expect_refused(with_table(word(1024) + word(0xfffffe00) + empty + std::string(4, '\0')), "outside");
  expect_refused(with_table(word(1024) + word(1U << 10 | 1U << 8) + word(0x7fffffff) + empty.substr(4) +
                            std::string(1, '\0')),
                 "not there");
  expect_refused(with_table(word(1024) + std::string(1024, '\0') + "x"), "does not end");
  // A unit whose child of label 0 is itself: a text of NULs would match for ever.
  expect_refused(with_table(word(1024) + std::string(1024, '\0') + std::string(1, '\0')), "back to itself");
}

TEST(ModelCheck, TheCommittedCorpusIsRefused) {
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/data/tokenizer/refused")) {
    std::string why;
    try {
      Tokenizer::load(entry.path());
    } catch (const UserError& error) {
      why = error.what();
    }
    EXPECT_NE(why.find(entry.path().filename().string()), std::string::npos) << entry.path() << ": " << why;
    EXPECT_EQ(why.find('\n'), std::string::npos) << why;
    ++cases;
  }
  EXPECT_GE(cases, 15);
}

}  // namespace
}  // namespace toroid
