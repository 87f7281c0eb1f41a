// Token shards: what is written is what is read, in Megatron's layout, and whatever was damaged is refused.
#include "data/shard/shard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "core/base/error.h"
#include "data/shard/format.h"
#include "tests/core/base/io/temporary_directory.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

std::string slurp(const Path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void spill(const Path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

const std::vector<std::vector<int32_t>>& documents() {
  static const std::vector<std::vector<int32_t>> all = {{2, 5, 6, 1}, {2, 1}, {2, 7, 8, 9, 10, 1}};
  return all;
}

ShardManifest write_shard(const Path& prefix, int32_t vocab) {
  ShardWriter writer(prefix, vocab, 77);
  int i = 0;
  for (const auto& ids : documents()) {
    writer.add(ids, {"doc " + std::to_string(i), 0xffffffff00000000ULL + static_cast<uint64_t>(i), 10 * i});
    ++i;
  }
  return writer.finish({{"source", "a test\nwith \xff"}});
}

std::string failure(const std::function<void()>& act) {
  try {
    act();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

void expect_refused(const std::function<void()>& act, const std::string& word) {
  const std::string why = failure(act);
  EXPECT_NE(why.find(word), std::string::npos) << "'" << why << "' should speak of " << word;
  EXPECT_EQ(why.find('\n'), std::string::npos) << why;
}

class Shard : public testing::TestWithParam<int32_t> {};

TEST_P(Shard, ComesBack) {
  const TemporaryDirectory directory;
  const Path prefix = directory / "deep/source/train";
  const ShardManifest written = write_shard(prefix, GetParam());
  EXPECT_EQ(written.documents, 3);
  EXPECT_EQ(written.tokens, 12);
  EXPECT_EQ(written.text_bytes, 30);

  const ShardReader reader(prefix, GetParam(), 77);
  EXPECT_EQ(reader.tokens(), 12);
  EXPECT_EQ(reader.documents(), 3);
  EXPECT_EQ(reader.document_start(2), 6);
  EXPECT_EQ(reader.document_of(0), 0);
  EXPECT_EQ(reader.document_of(3), 0);
  EXPECT_EQ(reader.document_of(4), 1);
  EXPECT_EQ(reader.document_of(11), 2);
  std::vector<int32_t> ids(5);
  reader.read(3, ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 2, 1, 2, 7}));
  const ShardDocument document = reader.document(2);
  EXPECT_EQ(document.name, "doc 2");
  EXPECT_EQ(document.hash, 0xffffffff00000002ULL);
  EXPECT_EQ(document.text_bytes, 20);
  EXPECT_EQ(reader.manifest().bin.hash, written.bin.hash);
  EXPECT_EQ(reader.manifest().provenance.at(0).first, "source");
}

TEST_P(Shard, HasMegatronsLayout) {
  const TemporaryDirectory directory;
  write_shard(directory / "s", GetParam());
  const std::string index = slurp(directory / "s.idx"), bin = slurp(directory / "s.bin");
  const size_t width = GetParam() < 65500 ? 2 : 4;
  EXPECT_EQ(index.substr(0, 9), std::string("MMIDIDX\0\0", 9));
  EXPECT_EQ(index[17], width == 2 ? 8 : 4);
  EXPECT_EQ(index.size(), 34u + 3 * 4 + 3 * 8 + 4 * 8);
  int64_t pointer = 0;
  std::memcpy(&pointer, index.data() + 34 + 3 * 4 + 2 * 8, 8);
  EXPECT_EQ(pointer, static_cast<int64_t>(6 * width));
  EXPECT_EQ(bin.size(), 12 * width);
  EXPECT_EQ(bin[width], 5);
}

INSTANTIATE_TEST_SUITE_P(Widths, Shard, testing::Values(100, 65499, 65500, 256000));

TEST(ShardReader, AnUnfinishedShardIsNoShard) {
  const TemporaryDirectory directory;
  {
    ShardWriter writer(directory / "s", 100, 0);
    writer.add(documents()[0], {"a", 1, 1});
  }
  EXPECT_TRUE(fs::is_empty(directory.path()));
  expect_refused([&] { ShardReader(directory / "s", 100); }, "s.json");
}

TEST(ShardReader, RefusesAnotherVocabularyOrTokenizer) {
  const TemporaryDirectory directory;
  write_shard(directory / "s", 100);
  EXPECT_EQ(failure([&] { ShardReader(directory / "s", 256000); }), "");  // a larger one holds all its ids
  expect_refused([&] { ShardReader(directory / "s", 99); }, "vocabulary of 100");
  expect_refused([&] { ShardReader(directory / "s", 100, 78); }, "another tokenizer");
}

TEST(ShardReader, RefusesDamage) {
  const TemporaryDirectory directory;
  const Path prefix = directory / "s";
  write_shard(prefix, 100);
  const auto damaged = [&](const std::string& suffix, const std::function<void(std::string&)>& damage,
                           ShardCheck verify) {
    const Path path = prefix.string() + suffix;
    const std::string whole = slurp(path);
    std::string bytes = whole;
    damage(bytes);
    spill(path, bytes);
    const std::string why = failure([&] {
      const ShardReader reader(prefix, 100, 77, verify);
      std::vector<int32_t> all(static_cast<size_t>(reader.tokens()));
      reader.read(0, all);
      (void)reader.document(reader.documents() - 1);
    });
    spill(path, whole);
    return why;
  };
  for (const char* suffix : {".bin", ".idx", ".documents", ".json"}) {
    const auto size = static_cast<size_t>(fs::file_size(prefix.string() + suffix));
    for (const size_t length : {size_t{0}, size_t{1}, size / 2, size - 1}) {
      const std::string why = damaged(
          suffix, [&](std::string& b) { b.resize(length); }, ShardCheck::sizes);
      // The manifest ends in a newline that nobody needs.
      if (std::string(suffix) != ".json" || length != size - 1) {
        EXPECT_NE(why, "") << suffix << length;
      }
    }
    for (size_t at = 0; at < size; at += 3) {
      // A changed name or provenance in the manifest may read well.
      const std::string why = damaged(
          suffix, [&](std::string& b) { b[at] = static_cast<char>(b[at] ^ 0x10); }, ShardCheck::hashes);
      if (std::string(suffix) != ".json") {
        EXPECT_NE(why, "") << suffix << at;
      }
    }
  }
  const std::string large = damaged(
      ".bin", [](std::string& b) { b[2] = 100; }, ShardCheck::sizes);
  EXPECT_NE(large.find("token 1 of"), std::string::npos) << large;
  EXPECT_NE(large.find("is 100"), std::string::npos) << large;
}

TEST(ShardReader, AFileThatShrinksWhileItIsReadIsAnError) {
  const TemporaryDirectory directory;
  write_shard(directory / "s", 100);
  const ShardReader reader(directory / "s", 100);
  fs::resize_file(directory / "s.bin", 3);
  std::vector<int32_t> ids(12);
  expect_refused([&] { reader.read(0, ids); }, "s.bin");
}

TEST(ShardReader, RefusesWhatTheManifestCannotSay) {
  const TemporaryDirectory directory;
  write_shard(directory / "s", 100);
  const std::string good = slurp(directory / "s.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = good;
    const size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    changed.replace(at, from.size(), to);
    spill(directory / "s.json", changed);
    return failure([&] { ShardReader(directory / "s", 100); });
  };
  EXPECT_NE(with("\"vocab\": 100", "\"vocab\": 2147483648"), "");
  EXPECT_NE(with("\"vocab\": 100", "\"vocab\": 0"), "");
  EXPECT_NE(with("\"vocab\": 100", "\"vocab\": \"100\""), "");
  EXPECT_NE(with("\"version\": 1", "\"version\": 2"), "");
  EXPECT_NE(with("\"tokens\": 12", "\"tokens\": 13"), "");
  EXPECT_NE(with("\"tokens\": 12", "\"tokens\": -12"), "");
  EXPECT_NE(with("\"documents\": 3", "\"documents\": 1e400"), "");
  EXPECT_NE(with("toroid token shard", "another thing"), "");
  EXPECT_NE(with("\"bin\"", "\"idx\""), "");
}

TEST(ShardIndex, TheCommittedCorpusIsRefused) {
  int cases = 0;
  for (const auto& entry : fs::directory_iterator("tests/data/shard/refused")) {
    const std::string name = entry.path().filename().string();
    expect_refused([&] { (void)decode_index(slurp(entry.path()), 1000, name); }, name);
    ++cases;
  }
  EXPECT_GE(cases, 20);
}

TEST(ShardSplit, IsAShareOfTheHashesAndOfNothingElse) {
  int64_t held_out = 0;
  for (uint64_t i = 0; i < 100'000; ++i) held_out += split_of(i, 0.01) == Split::validation ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(held_out), 1000, 150);
  EXPECT_EQ(split_of(12345, 0), Split::train);
  EXPECT_EQ(split_of(12345, 1), Split::validation);
  // A document held out at 1 % is held out at 2 %.
  for (uint64_t i = 0; i < 10'000; ++i) {
    if (split_of(i, 0.01) == Split::validation) {
      EXPECT_EQ(split_of(i, 0.02), Split::validation);
    }
  }
}

}  // namespace
}  // namespace toroid
