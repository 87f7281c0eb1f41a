// Compressed files: whole ones are read whatever their windows, members and padding; others are refused with
// what is the matter, and only damage is called damage.
#include "data/source/byte_stream.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"

namespace toroid {
namespace {

using namespace std::string_literals;

std::string gzip(const std::string& text) {
  std::string out(compressBound(text.size()) + 100, '\0');
  z_stream state{};
  deflateInit2(&state, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  state.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  state.avail_in = static_cast<uInt>(text.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&state, Z_FINISH), Z_STREAM_END);
  out.resize(state.total_out);
  deflateEnd(&state);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// A frame of one raw block, with the window descriptor's byte (RFC 8878) and, where it is not 0, a
// dictionary's number.
std::string frame(const std::string& text, unsigned window, unsigned dictionary = 0) {
  std::string out = "\x28\xB5\x2F\xFD";
  out += dictionary == 0 ? '\0' : '\1';
  out += static_cast<char>(window);
  if (dictionary != 0) out += static_cast<char>(dictionary);
  const size_t header = text.size() << 3 | 1;  // the last block, raw
  for (unsigned shift = 0; shift < 24; shift += 8) out += static_cast<char>(header >> shift & 0xFF);
  return out + text;
}

constexpr unsigned k2GiB = (31 - 10) << 3;

const std::string kSkippable = "\x5A\x2A\x4D\x18\x04\0\0\0meta"s;

class ByteStreams : public testing::Test {
 protected:
  // What is read from a file of this name and content.
  std::string read(const std::string& name, const std::string& bytes) const {
    std::ofstream(root_ / name, std::ios::binary) << bytes;
    return read_all(root_ / name, 10'000'000);
  }
  std::string failure(const std::string& name, const std::string& bytes) const {
    try {
      const std::string text = read(name, bytes);
      return "was read: " + text.substr(0, 100);
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      return error.what();
    }
  }
  void expect(const std::string& why, const std::string& part) const {
    EXPECT_NE(why.find(part), std::string::npos) << why;
  }

  TemporaryDirectory root_;
};

TEST_F(ByteStreams, WholeFilesAreRead) {
  EXPECT_EQ(read("a.gz", gzip("one")), "one");
  EXPECT_EQ(read("a.gz", gzip("one") + gzip("") + gzip("two")), "onetwo");
  EXPECT_EQ(read("a.gz", gzip("")), "");
  EXPECT_EQ(read("a.zst", zstd("one")), "one");
  EXPECT_EQ(read("a.zst", zstd("one") + zstd("") + zstd("two")), "onetwo");
  EXPECT_EQ(read("a.zst", zstd("")), "");
  EXPECT_EQ(read("a.zst", kSkippable + zstd("one") + kSkippable + zstd("two") + kSkippable), "onetwo");
  EXPECT_EQ(read("a.txt", ""), "");
}

TEST_F(ByteStreams, ZerosAfterAGzipMemberArePadding) {
  EXPECT_EQ(read("a.gz", gzip("one") + std::string(10, '\0')), "one");
  EXPECT_EQ(read("a.gz", gzip("one") + gzip("two") + std::string(1'000'000, '\0')), "onetwo");
  expect(failure("a.gz", gzip("one") + std::string(10, '\0') + gzip("two")), "something else follows");
  expect(failure("a.gz", gzip("one") + std::string(1'000'000, '\0') + "x"), "something else follows");
}

TEST_F(ByteStreams, EmptyFilesAreRefusedWhateverTheFormat) {
  for (const char* name : {"a.gz", "a.zst", "b.jsonl.gz", "b.jsonl.zst"}) {
    expect(failure(name, ""), "it is empty");
    expect(failure(name, ""), "is not whole");
  }
  expect(failure("a.zst", kSkippable), "no frame of data");
  expect(failure("a.zst", kSkippable + kSkippable), "no frame of data");
}

TEST_F(ByteStreams, WhatIsCutIsDamaged) {
  const std::string text(5000, 'x');
  const std::vector<std::pair<std::string, std::string>> whole = {{"a.gz", gzip(text)},
                                                                  {"a.zst", zstd(text)}};
  for (const auto& [name, bytes] : whole) {
    for (size_t length = 1; length < bytes.size(); ++length) {
      expect(failure(name, bytes.substr(0, length)), "it ends too early");
      expect(failure(name, bytes + bytes.substr(0, length)), "it ends too early");
    }
  }
  expect(failure("a.zst", kSkippable.substr(0, 10)), "it ends too early");
  expect(failure("a.gz", gzip("one") + "junk"), "something else follows its last member");
  expect(failure("a.zst", zstd("one") + "junk"), "something else follows its last frame");
}

TEST_F(ByteStreams, ALargeWindowIsRead) {
  EXPECT_EQ(read("a.zst", frame("two gibibytes", k2GiB)), "two gibibytes");
  EXPECT_EQ(read("a.zst", frame("128 MiB", (27 - 10) << 3) + frame(" and more", (28 - 10) << 3)),
            "128 MiB and more");
}

TEST_F(ByteStreams, LimitsAndMissingPartsAreNotCalledDamage) {
  const std::string window = failure("a.zst", frame("text", k2GiB + 1));
  expect(window, "a window of more than 2 GiB");
  expect(window, "zstd --long=27");
  const std::string dictionary = failure("a.zst", frame("text", 0, 7));
  expect(dictionary, "compressed with a dictionary");
  for (const std::string& why : {window, dictionary}) {
    EXPECT_EQ(why.find("fetch it again"), std::string::npos) << why;
    EXPECT_EQ(why.find("whole"), std::string::npos) << why;
  }
}

TEST_F(ByteStreams, MisnamedFilesAreCalledWhatTheyAre) {
  expect(failure("a.gz", zstd("text")), "it is zstd data");
  expect(failure("a.zst", gzip("text")), "it is gzip data");
  expect(failure("a.zst", "\xFD\x37\x7A\x58\x5A\0\0more"s), "it is xz data");
  expect(failure("a.gz", "{\"text\": \"plain\"}\n"), "plain text");
  expect(failure("a.zst", "{\"text\": \"plain\"}\n"), "plain text");
  expect(failure("a.gz", "\1\2\3\4\5\6\7"), "fetch it again");
}

}  // namespace
}  // namespace toroid
