#include "train/huggingface/transfer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/huggingface/golden_models.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/load.h"
#include "train/huggingface/fresh_directory.h"

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

TEST_F(ImportTest, AHeadStoredTwiceMustBeTheEmbedding) {
  const auto add_head = [this](bool same) {
    const SafetensorsFile file(model_ / "model.safetensors");
    if (!file.find("model.embed_tokens.weight") || file.find("lm_head.weight"))
      GTEST_SKIP() << "the case has a head of its own";
    std::vector<std::vector<std::byte>> storage;
    std::vector<TensorSource> sources;
    for (const TensorInfo& info : file.tensors()) {
      std::vector<std::byte>& data = storage.emplace_back(static_cast<size_t>(info.bytes));
      file.read(info, data);
      sources.push_back({info.name, info.type, info.shape, {}, {}});
      if (info.name == "model.embed_tokens.weight") {
        storage.push_back(data);
        if (!same) storage.back()[0] ^= std::byte{1};
        sources.push_back({"lm_head.weight", info.type, info.shape, {}, {}});
      }
    }
    for (size_t i = 0; i < sources.size(); ++i) sources[i].bytes = storage[i];
    fs::create_directory(model_ / "twice");
    write_safetensors(model_ / "twice/model.safetensors", sources);
    fs::copy_file(model_ / "config.json", model_ / "twice/config.json", fs::copy_options::overwrite_existing);
  };
  add_head(true);
  if (IsSkipped()) return;
  EXPECT_GT(import_model({.model = model_ / "twice", .out = directory_ / "same"}), 0);
  add_head(false);
  EXPECT_NE(refusal([this] {
              import_model({.model = model_ / "twice", .out = directory_ / "other"});
            }).find("differs from the embedding"),
            std::string::npos);
}

}  // namespace
}  // namespace toroid::huggingface
