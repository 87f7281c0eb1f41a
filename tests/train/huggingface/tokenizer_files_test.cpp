// What an export says of a tokenizer is what the tokenizer is.
#include "train/huggingface/tokenizer_files.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/model/model.pb.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/data/tokenizer/small_tokenizer.h"
#include "tests/train/huggingface/small_model.h"
#include "train/huggingface/token_ids.h"

namespace toroid::huggingface {
namespace {

using Json = nlohmann::json;
using Settings = std::map<std::string, std::string>;

Tokenizer trained(const Settings& settings) {
  return Tokenizer::from_bytes(small_model("identity", settings), "m");
}

Json added_token(const Json& file, const std::string& content) {
  for (const Json& token : file["added_tokens"]) {
    if (token["content"] == content) return token;
  }
  return nullptr;
}

TEST(TokenizerFiles, NameThePiecesThatThereAre) {
  // SentencePiece's own defaults.
  const Tokenizer plain = trained({});
  Json config = Json::parse(tokenizer_config_json(plain, 64));
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["eos_token"], "</s>");
  EXPECT_EQ(config["unk_token"], "<unk>");
  EXPECT_TRUE(config.contains("pad_token") && config["pad_token"].is_null());
  EXPECT_EQ(config["add_bos_token"], true);
  // The class of Gemma would add <mask> and <pad> behind the vocabulary.
  EXPECT_EQ(config["tokenizer_class"], "PreTrainedTokenizerFast");
  Json file = Json::parse(tokenizer_json(plain));
  EXPECT_EQ(file["post_processor"]["special_tokens"]["<s>"]["ids"], Json::array({1}));
  EXPECT_EQ(file["model"]["unk_token"], "<unk>");
  EXPECT_EQ(file["added_tokens"].size(), 3u);
  EXPECT_EQ(added_token(file, "</s>")["id"], 2);

  const Tokenizer other = trained({{"bos_id", "2"},
                                   {"eos_id", "1"},
                                   {"unk_id", "3"},
                                   {"pad_id", "0"},
                                   {"bos_piece", "[B]"},
                                   {"unk_piece", "[U]"}});
  config = Json::parse(tokenizer_config_json(other, 64));
  EXPECT_EQ(config["bos_token"], "[B]");
  EXPECT_EQ(config["eos_token"], "</s>");
  EXPECT_EQ(config["unk_token"], "[U]");
  EXPECT_EQ(config["pad_token"], "<pad>");
  file = Json::parse(tokenizer_json(other));
  EXPECT_EQ(file["post_processor"]["special_tokens"]["[B]"]["ids"], Json::array({2}));
  EXPECT_EQ(file["model"]["unk_token"], "[U]");

  config = Json::parse(tokenizer_config_json(small_tokenizer(), 64));
  EXPECT_EQ(config["tokenizer_class"], "GemmaTokenizer");
  EXPECT_EQ(config["bos_token"], "<bos>");
}

TEST(TokenizerFiles, SayNothingOfWhatIsMissing) {
  const Tokenizer bare = trained({{"bos_id", "-1"}, {"eos_id", "-1"}});
  const Json config = Json::parse(tokenizer_config_json(bare, 64)), file = Json::parse(tokenizer_json(bare));
  EXPECT_TRUE(config["bos_token"].is_null());
  EXPECT_TRUE(config["eos_token"].is_null());
  EXPECT_EQ(config["add_bos_token"], false);
  EXPECT_TRUE(file["post_processor"].is_null());
}

TEST(TokenizerFiles, LookForUserDefinedPiecesAsSentencePieceDoes) {
  const Tokenizer tokenizer = trained({{"user_defined_symbols", "<x>,\xe2\x96\x81ring,a b"}});
  const Json file = Json::parse(tokenizer_json(tokenizer));
  EXPECT_EQ(added_token(file, "<x>")["normalized"], false);
  EXPECT_EQ(added_token(file, "<x>")["special"], false);
  EXPECT_EQ(added_token(file, "\xe2\x96\x81ring")["normalized"], true);  // spaces are signs by then
  EXPECT_TRUE(added_token(file, "a b").is_null());                       // never in such text
  EXPECT_TRUE(file["model"]["vocab"].contains("a b"));
}

TEST(TokenizerFiles, RefuseWhatTheFormatCannotCarry) {
  const auto refusal = [](const std::string& model) -> std::string {
    try {
      tokenizer_json(Tokenizer::from_bytes(model, "m"));
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal(small_model()), "accepted");
  EXPECT_NE(refusal(small_model("identity", {{"model_type", "unigram"}})).find("BPE"), std::string::npos);
  // One more piece at the end, of type unused.
  const std::string piece = std::string("\x0a\x05torus", 7) + std::string("\x15\0\0\0\0\x18\x05", 7);
  const std::string unused = small_model() + "\x0a" + static_cast<char>(piece.size()) + piece;
  EXPECT_NE(refusal(unused).find("unused"), std::string::npos) << refusal(unused);
}

TEST(TokenIds, AreTheTokenizersWhereNoneWereImported) {
  const Tokenizer tokenizer = trained({});
  config::ModelConfig model;
  TokenIds ids = token_ids(model, &tokenizer);
  EXPECT_EQ(ids.bos, 1);
  EXPECT_EQ(ids.eos, std::vector<int64_t>{2});
  EXPECT_EQ(ids.pad, std::nullopt);
  ids = token_ids(model, nullptr);
  EXPECT_EQ(ids.bos, std::nullopt);
  EXPECT_TRUE(ids.eos.empty());
  model.mutable_token_ids()->set_bos(-1);
  model.mutable_token_ids()->add_eos(1);
  model.mutable_token_ids()->add_eos(107);
  ids = token_ids(model, &tokenizer);
  EXPECT_EQ(ids.bos, std::nullopt);
  EXPECT_EQ(ids.eos, (std::vector<int64_t>{1, 107}));
  EXPECT_EQ(ids.pad, std::nullopt);
}

}  // namespace
}  // namespace toroid::huggingface
