#include "core/base/io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <numeric>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"

namespace toroid {
namespace {

std::string written(std::vector<TensorSource> tensors, const std::map<std::string, std::string>& metadata) {
  std::string out;
  write_safetensors(
      [&out](std::span<const std::byte> bytes) {
        out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      },
      std::move(tensors), metadata);
  return out;
}

std::string file_of(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(header.size() >> (8 * i));
  return out + header + data;
}

void write_bytes(const Path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

const std::vector<float> kSix = {0, 1, 2, 3, 4, 5};

// The byte goldens of the reference implementation's own tests (safetensors/src/tensor.rs,
// test_serialization*).
TEST(SafetensorsWriter, MatchesTheReferenceForNoTensors) {
  const std::string expected = std::string("\x08\0\0\0\0\0\0\0{}      ", 16);
  EXPECT_EQ(written({}, {}), expected);
}

TEST(SafetensorsWriter, MatchesTheReferenceForOneTensor) {
  const std::string data(reinterpret_cast<const char*>(kSix.data()), 24);
  const std::string header = R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})";
  ASSERT_EQ(header.size(), 64u);
  EXPECT_EQ(
      written({{.name = "attn.0", .shape = {1, 2, 3}, .bytes = std::as_bytes(std::span(kSix)), .fill = {}}},
              {}),
      file_of(header, data));
}

TEST(SafetensorsWriter, PadsTheHeaderAsTheReferenceDoes) {
  const std::string data(reinterpret_cast<const char*>(kSix.data()), 24);
  const std::string header =
      R"({"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}})" + std::string(7, ' ');
  ASSERT_EQ(header.size(), 72u);
  EXPECT_EQ(
      written({{.name = "attn0", .shape = {1, 1, 2, 3}, .bytes = std::as_bytes(std::span(kSix)), .fill = {}}},
              {}),
      file_of(header, data));
}

TEST(SafetensorsWriter, OrdersByTypeThenName) {
  const std::vector<std::byte> raw(16);
  const auto tensor = [&raw](const char* name, ElementType type) {
    return TensorSource{name, type, {1}, std::span(raw).first(static_cast<size_t>(element_bytes(type))), {}};
  };
  TemporaryDirectory directory;
  write_safetensors(
      directory / "order.safetensors",
      {tensor("b", ElementType::bf16), tensor("a", ElementType::bf16), tensor("z", ElementType::i64),
       tensor("f", ElementType::f32), tensor("u", ElementType::u8), tensor("d", ElementType::f64)});
  const SafetensorsFile file(directory / "order.safetensors");
  std::string order;
  for (const TensorInfo& tensor_info : file.tensors()) order += tensor_info.name;
  EXPECT_EQ(order, "zdfabu");
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST(Safetensors, ReadsBackWhatWasStreamed) {
  std::vector<float> large(600'000);
  std::iota(large.begin(), large.end(), 0.0F);
  TemporaryDirectory directory;
  const Path path = directory / "m.safetensors";
  int64_t asked = 0;
  TensorSource streamed{.name = "large", .shape = {600, 1000}, .bytes = {}, .fill = {}};
  streamed.fill = [&](int64_t first, std::span<std::byte> out) {
    EXPECT_EQ(first, asked);
    std::memcpy(out.data(), reinterpret_cast<const std::byte*>(large.data()) + first, out.size());
    asked += static_cast<int64_t>(out.size());
  };
  TensorSource scalar{
      .name = "scalar", .shape = {}, .bytes = std::as_bytes(std::span(kSix).first(1)), .fill = {}};
  TensorSource empty{.name = "empty", .shape = {3, 0}, .bytes = {}, .fill = {}};
  const int64_t length = write_safetensors(path, {streamed, scalar, empty});
  EXPECT_EQ(length, static_cast<int64_t>(std::filesystem::file_size(path)));
  const SafetensorsFile file(path);
  std::vector<float> back(large.size());
  file.read("large", std::as_writable_bytes(std::span(back)));
  EXPECT_EQ(back, large);
  float one = -1;
  file.read(file.at("large"), std::as_writable_bytes(std::span(&one, 1)), 4 * 12345);
  EXPECT_EQ(one, 12345.0F);
  EXPECT_EQ(file.at("scalar").elements(), 1);
  EXPECT_EQ(file.at("empty").elements(), 0);
  EXPECT_THROW(file.at("lage"), UserError);
}

TEST(Safetensors, RefusesWhatTheFormatForbids) {
  const std::string t = R"("t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[" + t + "]", "does not start with '{'"},
      {" {" + t + "}", "does not start with '{'"},
      {"{" + t + "} x", "not valid JSON"},
      {"{" + t + "}" + std::string(1, '\0'), "zero byte"},
      {"{" + t + R"(,"t":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})", "twice"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "begins at byte 4"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "ends before it begins"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "needs 8 bytes"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "cut off"},
      {R"({"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "belong to nothing"},
      {R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "negative"},
      {R"({"t":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "not a 64-bit integer"},
      {R"({"t":{"dtype":"F32","shape":null,"data_offsets":[0,4]}})", "null"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,1e400]}})", "not valid JSON"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", "more than two"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "two data_offsets"},
      {R"({"t":{"dtype":"F32","shape":[1]}})", "all of dtype"},
      {R"({"t":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}})", "dtype 'F4'"},
      {R"({"t":{"dtype":"F32","shape":[4194305,4194305,211106198978564],"data_offsets":[0,4]}})",
       "product passes"},
      {R"({"__metadata__":{"a":1},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "only strings"},
      {R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"u":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       "neither overlap nor leave a gap"},
      {"{" + std::string(100'000, '[') + "}", "nests deeper"},
      {"{\"\xff\":1}", "not valid JSON"},
  };
  TemporaryDirectory directory;
  const Path path = directory / "bad.safetensors";
  for (const auto& [header, expected] : cases) {
    write_bytes(path, file_of(header, "1234"));
    try {
      // The file is opened, not only the header parsed: duplicates are found there.
      const SafetensorsFile file(path);
      ADD_FAILURE() << "accepted " << header.substr(0, 200);
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << header.substr(0, 200) << "\n"
                                                                             << error.what();
      EXPECT_NE(std::string(error.what()).find("bad.safetensors"), std::string::npos) << error.what();
    }
  }
}

TEST(Safetensors, RefusesShortFilesAndLongHeaders) {
  TemporaryDirectory directory;
  const Path path = directory / "bad.safetensors";
  for (const std::string& bytes :
       {std::string(), std::string(7, '\0'), std::string(8, '\0'), std::string(8, '\xff'),
        std::string("\x09\0\0\0\0\0\0\0{}", 10), std::string("\0\0\0\0\0\0\0\x80{}", 10),
        std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)}) {
    write_bytes(path, bytes);
    EXPECT_THROW(SafetensorsFile{path}, UserError);
  }
}

class SafetensorsIndex : public ::testing::Test {
 protected:
  void SetUp() override {
    shard("a.safetensors", "x");
    shard("b.safetensors", "y");
  }
  void shard(const std::string& file, const std::string& tensor) {
    write_safetensors(directory_ / file,
                      {{.name = tensor, .shape = {6}, .bytes = std::as_bytes(std::span(kSix)), .fill = {}}});
  }
  void index(const std::string& map) {
    write_bytes(directory_ / "model.safetensors.index.json",
                R"({"metadata":{"total_size":48},"weight_map":)" + map + "}");
  }
  std::string refusal() {
    try {
      SafetensorsModel model(directory_.path());
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
  TemporaryDirectory directory_;
};

TEST_F(SafetensorsIndex, ReadsTensorsFromTheirShards) {
  index(R"({"x":"a.safetensors","y":"b.safetensors"})");
  const SafetensorsModel model(directory_.path());
  EXPECT_EQ(model.tensors().size(), 2u);
  EXPECT_EQ(model.at("y").file->path().filename(), "b.safetensors");
}

TEST_F(SafetensorsIndex, RefusesNamesThatLeadElsewhere) {
  for (const char* name :
       {"../a.safetensors", "/etc/passwd", "sub/a.safetensors", "", "..", "a\\\\b.safetensors"}) {
    index(std::string(R"({"x":")") + name + R"(","y":"b.safetensors"})");
    EXPECT_NE(refusal().find("bare name"), std::string::npos) << name << ": " << refusal();
  }
}

TEST_F(SafetensorsIndex, RefusesWhatIsNotARegularFile) {
  index(R"({"x":"c.safetensors","y":"b.safetensors"})");
  EXPECT_NE(refusal().find("does not exist"), std::string::npos) << refusal();
  std::filesystem::create_symlink("c.safetensors", directory_ / "c.safetensors");
  EXPECT_NE(refusal().find("leads back to itself"), std::string::npos) << refusal();
  std::filesystem::remove(directory_ / "c.safetensors");
  std::filesystem::create_symlink("nowhere", directory_ / "c.safetensors");
  EXPECT_NE(refusal().find("does not exist"), std::string::npos) << refusal();
  std::filesystem::remove(directory_ / "c.safetensors");
  ASSERT_EQ(::mkfifo((directory_ / "c.safetensors").c_str(), 0600), 0);
  EXPECT_NE(refusal().find("not a regular file"), std::string::npos) << refusal();
  std::filesystem::remove(directory_ / "c.safetensors");
  std::filesystem::create_directory(directory_ / "c.safetensors");
  EXPECT_NE(refusal().find("not a regular file"), std::string::npos) << refusal();
}

// The directory is the user's, and Hugging Face's cache is made of links; a single file is another matter.
TEST_F(SafetensorsIndex, FollowsLinksOfTheDirectory) {
  std::filesystem::create_directory(directory_ / "blobs");
  std::filesystem::rename(directory_ / "a.safetensors", directory_ / "blobs/1");
  std::filesystem::create_symlink("blobs/1", directory_ / "a.safetensors");
  index(R"({"x":"a.safetensors","y":"b.safetensors"})");
  std::filesystem::rename(directory_ / "model.safetensors.index.json", directory_ / "blobs/2");
  std::filesystem::create_symlink("blobs/2", directory_ / "model.safetensors.index.json");
  EXPECT_EQ(refusal(), "accepted");
  EXPECT_THROW(SafetensorsFile(directory_ / "a.safetensors"), UserError);
  std::filesystem::create_symlink("blobs/1", directory_ / "model.safetensors");
  EXPECT_EQ(SafetensorsModel(directory_.path()).tensors().size(), 1u);
}

TEST_F(SafetensorsIndex, RefusesTensorsThatAreMissingOrTwice) {
  index(R"({"x":"a.safetensors","y":"a.safetensors"})");
  EXPECT_NE(refusal().find("does not have it"), std::string::npos) << refusal();
  index(R"({"x":"a.safetensors"})");
  EXPECT_EQ(refusal(), "accepted");  // b is simply not part of the model
  shard("b.safetensors", "x");
  index(R"({"x":"a.safetensors","y":"b.safetensors"})");
  EXPECT_NE(refusal().find("two files"), std::string::npos) << refusal();
  index(R"({"x":"a.safetensors","x":"b.safetensors"})");
  EXPECT_NE(refusal().find("twice"), std::string::npos) << refusal();
  index("{}");
  EXPECT_NE(refusal().find("no tensor"), std::string::npos) << refusal();
  index("[]");
  EXPECT_NE(refusal().find("object is needed"), std::string::npos) << refusal();
}

TEST_F(SafetensorsIndex, RefusesPicklesWithAHint) {
  write_bytes(directory_ / "pytorch_model.bin", "PK");
  EXPECT_NE(refusal().find("safe_serialization"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace toroid
