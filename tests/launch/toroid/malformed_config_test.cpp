// Every file of tests/malformed/config is refused: one sentence, exit code 2, at once, in little memory. A
// first line
// "# refused: TEXT" says what the sentence must hold.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/launch/toroid/process.h"

namespace toroid::test {
namespace {

namespace fs = std::filesystem;

// Sanitizers make the program slow and large; a hang or an unbounded allocation shows all the same.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSeconds = 20, kMegabytes = 4000;
#else
constexpr double kSeconds = 1, kMegabytes = 256;
#endif

void expect_refused(const std::string& file, const std::string& part) {
  // The machine may be busy with other tests; a hang is not over at the third attempt either.
  Ended ended;
  for (int attempt = 0; attempt < 3; ++attempt) {
    ended = run_program(TOROID_PROGRAM, {"train", "--check", "--config", file}, 60);
    if (ended.seconds < kSeconds) break;
  }
  EXPECT_EQ(ended.signal, 0);
  EXPECT_EQ(ended.code, 2) << ended.out << ended.err;
  EXPECT_LT(ended.seconds, kSeconds);
  EXPECT_LT(ended.peak_megabytes, kMegabytes);
  EXPECT_NE(ended.err.find(part), std::string::npos) << ended.err;
  EXPECT_EQ(std::count(ended.err.begin(), ended.err.end(), '\n'), 1) << ended.err;
  EXPECT_LT(ended.err.size(), 1000u) << ended.err;
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n'; };
  EXPECT_TRUE(std::none_of(ended.err.begin(), ended.err.end(), is_control))
      << "an escape reached the terminal";
}

TEST(MalformedConfig, every_file_of_the_corpus_is_refused) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator("tests/malformed/config")) {
    SCOPED_TRACE(entry.path());
    std::string first, marker = "# refused: ";
    std::ifstream stream(entry.path());
    std::getline(stream, first);
    while (!first.empty() && (first.back() == '\r' || first.back() == ' ')) first.pop_back();
    expect_refused(entry.path(), first.rfind(marker, 0) == 0 ? first.substr(marker.size()) : "toroid: ");
    ++files;
  }
  EXPECT_GT(files, 60);
}

TEST(MalformedConfig, files_that_cannot_be_committed_are_refused) {
  const fs::path directory = fs::temp_directory_path() / ("toroid-config-" + std::to_string(getpid()));
  fs::create_directories(directory);
  std::ofstream(directory / "gigabyte.textproto") << "chip: \"";
  fs::resize_file(directory / "gigabyte.textproto", 1'000'000'000);  // sparse
  expect_refused(directory / "gigabyte.textproto", "gigabyte.textproto");
  ASSERT_EQ(mkfifo((directory / "fifo.textproto").c_str(), 0600), 0);
  expect_refused(directory / "fifo.textproto", "fifo.textproto");
  expect_refused(directory, "toroid-config-");
  expect_refused("/dev/zero", "/dev/zero");
  expect_refused(directory / "missing\x1b[2J", "missing\\x1b");
  fs::remove_all(directory);
}

}  // namespace
}  // namespace toroid::test
