#include "train/huggingface/transfer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/base/io/fresh_directory.h"
#include "core/model/decoder_config.h"
#include "core/model/model.pb.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/huggingface/golden_models.h"
#include "tests/train/huggingface/small_model.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/load.h"
#include "train/huggingface/half.h"
#include "train/huggingface/model_config.h"

namespace toroid::huggingface {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const Path& path) {
  return read_file(path, int64_t{1} << 30);
}

// Names and contents of all files of a directory.
std::map<std::string, std::string> contents(const Path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory))
    files[entry.path().filename().string()] = bytes_of(entry.path());
  return files;
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

// A copy of one case that a test may damage.
class ImportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(model_);
    for (const char* name : {"config.json", "model.safetensors"}) {
      fs::copy_file(golden_models().at(0) / name, model_ / name);
      fs::permissions(model_ / name, fs::perms::owner_all);
    }
  }
  // Writes the weights again after `change` saw each tensor.
  void rewrite(const std::function<void(TensorSource&, std::vector<std::byte>&)>& change) {
    const SafetensorsFile file(model_ / "model.safetensors");
    std::vector<std::vector<std::byte>> storage;
    std::vector<TensorSource> sources;
    for (const TensorInfo& info : file.tensors()) {
      std::vector<std::byte>& data = storage.emplace_back(static_cast<size_t>(info.bytes));
      file.read(info, data);
      TensorSource source;
      source.name = info.name;
      source.type = info.type;
      source.shape = info.shape;
      change(source, data);
      source.bytes = data;
      if (!source.name.empty()) sources.push_back(source);
    }
    write_safetensors(model_ / "model.safetensors", sources);
  }
  std::string refused() {
    const std::string why = refusal([this] { import_model({.model = model_, .out = directory_ / "run"}); });
    EXPECT_FALSE(fs::exists(directory_ / "run/config.textproto"));
    return why;
  }
  TemporaryDirectory directory_;
  const Path model_ = directory_ / "model";
};

TEST(Transfer, ExportImportExportIsByteEqual) {
  for (const Path& model : golden_models()) {
    for (const ElementType type : {ElementType::f32, ElementType::bf16}) {
      TemporaryDirectory directory;
      const int64_t parameters = import_model({.model = model, .out = directory / "run"});
      EXPECT_EQ(export_model({.checkpoint = directory / "run", .out = directory / "first", .type = type}),
                parameters);
      import_model({.model = directory / "first", .out = directory / "run2"});
      export_model(
          {.checkpoint = directory / "run2/checkpoints/step-0", .out = directory / "second", .type = type});
      EXPECT_EQ(contents(directory / "first"), contents(directory / "second")) << model;
      // What transformers itself wrote comes out again, to the byte.
      if (type == ElementType::f32) {
        EXPECT_TRUE(bytes_of(model / "model.safetensors") == bytes_of(directory / "first/model.safetensors"))
            << model;
      }
    }
  }
}

TEST(Transfer, ShardsHoldTheSameModel) {
  TemporaryDirectory directory;
  import_model({.model = golden_models().at(0), .out = directory / "run"});
  export_model({.checkpoint = directory / "run", .out = directory / "whole"});
  export_model({.checkpoint = directory / "run", .out = directory / "shards", .shard_bytes = 20'000});
  EXPECT_TRUE(fs::exists(directory / "shards/model.safetensors.index.json"));
  EXPECT_GT(std::distance(fs::directory_iterator(directory / "shards"), fs::directory_iterator()), 3);
  import_model({.model = directory / "shards", .out = directory / "run2"});
  export_model({.checkpoint = directory / "run2", .out = directory / "again"});
  EXPECT_EQ(contents(directory / "whole"), contents(directory / "again"));
}

TEST(Transfer, AnImportedRunIsOneLikeAnyOther) {
  TemporaryDirectory directory;
  import_model({.model = golden_models().at(0), .out = directory / "run"});
  const CheckpointReader reader(directory / "run");
  EXPECT_EQ(reader.state().step, 0);
  EXPECT_EQ(config::load(directory / "run/config.textproto").run.model().vocab(),
            reader.at("model.embed_tokens.weight", "master").shape.at(0));
  EXPECT_NE(refusal([&] {
              import_model({.model = golden_models().at(0), .out = directory / "run"});
            }).find("not empty"),
            std::string::npos);
}

// Two imports or exports to one directory.
TEST(Transfer, ADirectoryIsFilledByOneAtATime) {
  const TemporaryDirectory directory;
  const Path out = directory / "out";
  {
    FreshDirectory first(out);
    EXPECT_NE(refusal([&] { FreshDirectory second(out); }).find("is in use by process"), std::string::npos);
    write_file(out / "weights", "half");
  }
  EXPECT_FALSE(fs::exists(out)) << "what was not kept is gone";
  {
    FreshDirectory first(out);
    write_file(out / "weights", "whole");
    first.keep();
  }
  EXPECT_EQ(contents(out).size(), 1U);
  EXPECT_NE(refusal([&] { FreshDirectory second(out); }).find("not empty"), std::string::npos);
}

TEST_F(ImportTest, NamesTheTensorThatIsMissing) {
  rewrite([](TensorSource& t, auto&) {
    if (t.name == "model.layers.1.mlp.up_proj.weight") t.name = "";
  });
  EXPECT_NE(refused().find("no tensor 'model.layers.1.mlp.up_proj.weight'"), std::string::npos);
}

TEST_F(ImportTest, NamesTheTensorThatIsTooMany) {
  rewrite([](TensorSource& t, auto&) {
    if (t.name == "model.norm.weight") t.name = "model.norms.weight";
  });
  EXPECT_NE(refused().find("did you mean 'model.norms.weight'"), std::string::npos);
}

TEST_F(ImportTest, RefusesATransposedTensor) {
  rewrite([](TensorSource& t, auto&) {
    if (t.name == "model.embed_tokens.weight") std::swap(t.shape[0], t.shape[1]);
  });
  const std::string why = refused();
  EXPECT_NE(why.find("has shape"), std::string::npos) << why;
}

TEST_F(ImportTest, RefusesIntegersAndWhatIsNotFinite) {
  rewrite([](TensorSource& t, auto& data) {
    if (t.name == "model.norm.weight") {
      const float bad = std::numeric_limits<float>::quiet_NaN();
      std::memcpy(data.data() + 12, &bad, 4);
    }
  });
  EXPECT_NE(refused().find("NaN at element 3"), std::string::npos);
  rewrite([](TensorSource& t, auto&) {
    if (t.name == "model.norm.weight") t.type = ElementType::i32;
  });
  EXPECT_NE(refused().find("dtype I32"), std::string::npos);
}

// Bytes of fp32 values in another type; `nudge` makes the first value another one.
std::vector<std::byte> converted(const std::vector<std::byte>& f32, ElementType type, bool nudge) {
  std::vector<std::byte> out(f32.size() / 4 * static_cast<size_t>(element_bytes(type)));
  const auto put = [&](size_t i, auto value) {
    std::memcpy(out.data() + i * sizeof value, &value, sizeof value);
  };
  for (size_t i = 0; i < f32.size() / 4; ++i) {
    float value = 0;
    std::memcpy(&value, f32.data() + 4 * i, 4);
    if (nudge && i == 0) value += 1;
    if (type == ElementType::f64) put(i, static_cast<double>(value));
    if (type == ElementType::f32) put(i, value);
    if (type == ElementType::bf16) put(i, to_bf16(value));
    if (type == ElementType::f16) put(i, to_f16(value));
  }
  return out;
}

// Values that every type holds.
std::vector<std::byte> coarse(size_t elements) {
  std::vector<std::byte> out(elements * 4);
  for (size_t i = 0; i < elements; ++i) {
    const float value = static_cast<float>(i % 97) / 64 - 0.5F;
    std::memcpy(out.data() + 4 * i, &value, 4);
  }
  return out;
}

class TiedHeadTest : public ImportTest {
 protected:
  // Rewrites the model with an embedding of type `embedding` (none: left out) and a head of type `head`.
  void write(std::optional<ElementType> embedding, ElementType head, bool nudge) {
    const SafetensorsFile file(model_ / "model.safetensors");
    std::vector<std::vector<std::byte>> storage;
    std::vector<TensorSource> sources;
    const auto add = [&](const TensorInfo& info, const std::string& name, ElementType type,
                         std::vector<std::byte> data) {
      TensorSource source;
      source.name = name;
      source.type = type;
      source.shape = info.shape;
      storage.push_back(std::move(data));
      sources.push_back(source);
    };
    for (const TensorInfo& info : file.tensors()) {
      if (info.name == "lm_head.weight") continue;
      if (info.name != "model.embed_tokens.weight") {
        std::vector<std::byte> data(static_cast<size_t>(info.bytes));
        file.read(info, data);
        add(info, info.name, info.type, std::move(data));
        continue;
      }
      const std::vector<std::byte> values = coarse(static_cast<size_t>(info.elements()));
      if (embedding) add(info, info.name, *embedding, converted(values, *embedding, false));
      add(info, "lm_head.weight", head, converted(values, head, nudge));
    }
    for (size_t i = 0; i < sources.size(); ++i) sources[i].bytes = storage[i];
    write_safetensors(model_ / "model.safetensors", sources);
  }
  std::string outcome() {
    fs::remove_all(directory_ / "run");
    return refusal([this] { import_model({.model = model_, .out = directory_ / "run"}); });
  }
};

TEST_F(TiedHeadTest, IsTheEmbeddingWhereItsValuesAre) {
  const auto types = {ElementType::f32, ElementType::bf16, ElementType::f16};
  for (const ElementType embedding : types) {
    for (const ElementType head : {ElementType::f32, ElementType::bf16, ElementType::f16, ElementType::f64}) {
      write(embedding, head, false);
      EXPECT_EQ(outcome(), "accepted") << element_type_name(embedding) << element_type_name(head);
      write(embedding, head, true);
      EXPECT_NE(outcome().find("differs from the embedding"), std::string::npos) << element_type_name(head);
    }
  }
}

TEST_F(TiedHeadTest, StandsForAnEmbeddingThatIsLeftOut) {
  write(std::nullopt, ElementType::bf16, false);
  EXPECT_EQ(outcome(), "accepted");
  CheckpointReader reader(directory_ / "run");
  const CheckpointTensor& embedding = reader.at("model.embed_tokens.weight", "master");
  std::vector<std::byte> read(static_cast<size_t>(embedding.elements) * 4);
  reader.read(embedding.name, "master", 0, read);
  EXPECT_EQ(read, coarse(static_cast<size_t>(embedding.elements)));
}

TEST_F(ImportTest, PassesOverBuffersUnderAnyName) {
  const std::vector<std::string> buffers = {"model.rotary_emb.inv_freq",
                                            "model.rotary_emb_local.inv_freq",
                                            "model.rotary_emb.original_inv_freq",
                                            "model.rotary_emb.sliding_attention_inv_freq",
                                            "model.rotary_emb.full_attention_original_inv_freq",
                                            "model.layers.0.self_attn.rotary_emb.inv_freq",
                                            "model.layers.1.self_attn.rotary_emb.cos_cached",
                                            "model.embed_tokens.embed_scale"};
  const std::vector<std::byte> four(4);
  const auto write_with = [&](const std::vector<std::string>& names) {
    const SafetensorsFile file(model_ / "model.safetensors");
    std::vector<std::vector<std::byte>> storage;
    std::vector<TensorSource> sources;
    for (const TensorInfo& info : file.tensors()) {
      storage.emplace_back(static_cast<size_t>(info.bytes));
      file.read(info, storage.back());
      sources.push_back({info.name, info.type, info.shape, {}, {}});
    }
    for (size_t i = 0; i < sources.size(); ++i) sources[i].bytes = storage[i];
    for (const std::string& name : names) sources.push_back({name, ElementType::f32, {1}, four, {}});
    fs::create_directories(directory_ / "more");
    write_safetensors(directory_ / "more/model.safetensors", sources);
    fs::copy_file(model_ / "config.json", directory_ / "more/config.json",
                  fs::copy_options::overwrite_existing);
    fs::remove_all(directory_ / "run");
    return refusal([this] { import_model({.model = directory_ / "more", .out = directory_ / "run"}); });
  };
  EXPECT_EQ(write_with(buffers), "accepted");
  for (const char* name :
       {"model.layers.0.self_attn.inv_freqs", "model.inv_freq.weight", "model.norm.bias"}) {
    EXPECT_NE(write_with({name}).find("not part of the model"), std::string::npos) << name;
  }
}

// A model with room for the pieces of a tokenizer; all weights are 0.5.
void write_wide_model(const Path& folder) {
  const std::string config =
      R"({"model_type":"gemma","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":1,)"
      R"("num_key_value_heads":1,"head_dim":4,"intermediate_size":8,"vocab_size":512})";
  fs::create_directories(folder);
  write_file(folder / "config.json", config);
  std::vector<TensorSource> sources;
  const DecoderConfig decoder = decoder_config(parse_model_config(config, "wide"));
  for (const UnitSpec& unit : decoder_units(decoder)) {
    for (const TensorSpec& spec : unit.tensors) {
      TensorSource source;
      source.name = spec.name;
      for (int i = 0; i < spec.shape.rank(); ++i) source.shape.push_back(spec.shape[i]);
      source.fill = [](int64_t, std::span<std::byte> out) {
        for (size_t i = 0; i < out.size(); i += 4) {
          const float half = 0.5F;
          std::memcpy(out.data() + i, &half, 4);
        }
      };
      sources.push_back(source);
    }
  }
  write_safetensors(folder / "model.safetensors", sources);
}

// Hugging Face's cache: snapshots/REVISION holds links to ../../blobs/HASH.
TEST_F(ImportTest, ReadsASnapshotOfLinks) {
  const Path blobs = directory_ / "blobs", snapshot = directory_ / "snapshots/main";
  fs::create_directories(blobs);
  fs::create_directories(snapshot);
  write_wide_model(directory_ / "wide");
  import_model({.model = directory_ / "wide", .out = directory_ / "run"});
  export_model({.checkpoint = directory_ / "run", .out = directory_ / "shards", .shard_bytes = 5'000});
  write_file(directory_ / "shards/generation_config.json", R"({"eos_token_id":[1,107]})");
  write_file(directory_ / "shards/tokenizer.model", small_model());
  int blob = 0;
  for (const auto& entry : fs::directory_iterator(directory_ / "shards")) {
    const std::string name = std::to_string(++blob);
    fs::rename(entry.path(), blobs / name);
    fs::create_symlink(Path("../../blobs") / name, snapshot / entry.path().filename());
  }
  import_model({.model = snapshot, .out = directory_ / "again"});
  export_model({.checkpoint = directory_ / "again", .out = directory_ / "whole"});
  EXPECT_EQ(bytes_of(directory_ / "whole/model.safetensors"),
            bytes_of(directory_ / "wide/model.safetensors"));
  EXPECT_EQ(bytes_of(directory_ / "whole/generation_config.json"), R"({"eos_token_id":[1,107]})");
  EXPECT_EQ(bytes_of(directory_ / "whole/tokenizer.model"), small_model());
  // A link to nothing is not the same as no file.
  fs::remove(snapshot / "tokenizer.model");
  fs::create_symlink("../../blobs/gone", snapshot / "tokenizer.model");
  EXPECT_NE(
      refusal([&] { import_model({.model = snapshot, .out = directory_ / "third"}); }).find("does not exist"),
      std::string::npos);
}

TEST_F(ImportTest, WhatWasImportedIsExported) {
  auto config = nlohmann::json::parse(bytes_of(model_ / "config.json"));
  config["eos_token_id"] = {1, 95};
  config["bos_token_id"] = 5;
  config["pad_token_id"] = nullptr;
  write_file(model_ / "config.json", config.dump());
  const std::map<std::string, std::string> files = {
      {"generation_config.json", R"({"eos_token_id":[1,95],"temperature":0.7})"},
      {"tokenizer.json", R"({"version":"1.0","added_tokens":[]})"},
      {"tokenizer_config.json", R"({"tokenizer_class":"GemmaTokenizer","add_eos_token":true})"},
      {"special_tokens_map.json", R"({"eos_token":"<end_of_turn>"})"},
      {"added_tokens.json", R"({"<tool>":95})"},
      {"chat_template.jinja", "{{ bos_token }}"}};
  for (const auto& [name, text] : files) write_file(model_ / name, text);
  import_model({.model = model_, .out = directory_ / "run"});
  export_model({.checkpoint = directory_ / "run", .out = directory_ / "out"});
  for (const auto& [name, text] : files) EXPECT_EQ(bytes_of(directory_ / "out" / name), text) << name;
  const auto out = nlohmann::json::parse(bytes_of(directory_ / "out/config.json"));
  EXPECT_EQ(out["eos_token_id"].dump(), "[1,95]");
  EXPECT_EQ(out["bos_token_id"], 5);
  EXPECT_TRUE(out["pad_token_id"].is_null());
  write_file(model_ / "special_tokens_map.json", "{");
  EXPECT_NE(
      refusal([&] { import_model({.model = model_, .out = directory_ / "other"}); }).find("not valid JSON"),
      std::string::npos);
}

// config.json leaves the ids to the class, and the tokenizer has others.
TEST_F(ImportTest, AnIdThatIsNotSaidIsTheTokenizers) {
  const auto ids = [this](const std::string& name) {
    import_model({.model = directory_ / "wide", .out = directory_ / name});
    export_model({.checkpoint = directory_ / name, .out = directory_ / (name + "-out")});
    const auto json = nlohmann::json::parse(bytes_of(directory_ / (name + "-out") / "config.json"));
    return nlohmann::json{json["bos_token_id"], json["eos_token_id"], json["pad_token_id"]}.dump();
  };
  write_wide_model(directory_ / "wide");
  EXPECT_EQ(ids("none"), "[2,1,0]");
  write_file(directory_ / "wide/tokenizer.model", small_model());
  EXPECT_EQ(ids("tokenizer"), "[1,2,null]");
  auto config = nlohmann::json::parse(bytes_of(directory_ / "wide/config.json"));
  config["eos_token_id"] = {2, 300};
  write_file(directory_ / "wide/config.json", config.dump());
  EXPECT_EQ(ids("said"), "[1,[2,300],null]");
}

TEST_F(ImportTest, RefusesATokenizerThatRewritesText) {
  write_file(model_ / "tokenizer.model", small_model("nfkc"));
  EXPECT_NE(refused().find("normaliser"), std::string::npos);
}

}  // namespace
}  // namespace toroid::huggingface
