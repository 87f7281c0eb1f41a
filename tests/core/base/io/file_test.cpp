// Files read from the disk; questions about their names, answered or refused with a sentence of ours.
#include "core/base/io/file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "core/base/error.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/deadline.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

TEST(Files, links_are_followed_and_one_that_leads_nowhere_is_not_there) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "file") << "x";
  fs::create_symlink("file", directory / "link");
  fs::create_symlink("nothing", directory / "dangling");
  for (const auto& [name, there] : {std::pair("file", true),
                                    {"link", true},
                                    {"dangling", false},
                                    {"none", false},
                                    {"file/below", false}}) {
    EXPECT_EQ(is_present(directory / name), there) << name;
    EXPECT_EQ(is_reachable(directory / name), there) << name;
    EXPECT_FALSE(is_present_directory(directory / name)) << name;
  }
  EXPECT_TRUE(is_present_directory(directory.path()));
}

TEST(Files, what_is_read_from_the_disk_is_what_was_written) {
  TemporaryDirectory directory;
  for (const size_t size : {size_t{0}, size_t{1}, InputFile::kPage, size_t{3} * InputFile::kPage + 5}) {
    std::string text(size, ' ');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * i % 26);
    write_file(directory / "file", text);
    // In pieces of whole pages but for the last, and in pieces that are none.
    for (const size_t most : {InputFile::kPage, size_t{1000}}) {
      const InputFile file(directory / "file");
      file.read_from_disk();
      PageBuffer buffer(most);
      std::string read;
      while (read.size() < size) {
        const auto piece = buffer.bytes().first(std::min(most, size - read.size()));
        file.read_at(static_cast<int64_t>(read.size()), piece);
        read.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      }
      EXPECT_EQ(read, text);
      EXPECT_THROW(file.read_at(static_cast<int64_t>(size), buffer.bytes().first(1)), UserError);
      EXPECT_THROW(
          file.read_at(static_cast<int64_t>((size + InputFile::kPage) / InputFile::kPage * InputFile::kPage),
                       buffer.bytes()),
          UserError);
    }
  }
}

TEST(Files, a_directory_is_listed_by_name) {
  const TemporaryDirectory directory;
  for (const char* name : {"b", "a", "c"}) std::ofstream(directory / name) << "x";
  EXPECT_EQ(list_directory(directory.path()),
            std::vector<Path>({directory / "a", directory / "b", directory / "c"}));
  EXPECT_THROW(list_directory(directory / "a"), SystemError);
  EXPECT_THROW(list_directory(directory / "none"), SystemError);
}

// Runs in a process of a user who is not root, to whom no directory is closed.
bool holds_for_another_user(const std::function<bool()>& what) {
  const pid_t child = ::fork();
  if (child == 0) {
    testing::end_by_the_deadline();
    ::_exit(::setuid(65534) == 0 && what() ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  return status == 0;
}

bool says(const std::function<void()>& what, const std::string& text) {
  try {
    what();
  } catch (const SystemError& error) {
    const std::string message = error.what();
    return message.find(text) != std::string::npos && message.find("filesystem error") == std::string::npos;
  }
  return false;
}

TEST(Files, behind_a_closed_directory_what_is_optional_is_not_there_and_else_it_is_said) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become a user to whom a directory is closed";
  const TemporaryDirectory directory;
  fs::permissions(directory.path(), fs::perms::owner_all);
  const Path file = directory / "file";
  std::ofstream(file) << "x";
  EXPECT_TRUE(holds_for_another_user([&] { return !is_reachable(file); }));
  EXPECT_TRUE(
      holds_for_another_user([&] { return says([&] { (void)is_present(file); }, "cannot look for '"); }));
  EXPECT_TRUE(
      holds_for_another_user([&] { return says([&] { (void)is_present_directory(file); }, "denied"); }));
  EXPECT_TRUE(holds_for_another_user(
      [&] { return says([&] { (void)list_directory(directory.path()); }, "cannot list directory '"); }));
  EXPECT_TRUE(
      holds_for_another_user([&] { return says([&] { (void)read_file(file, 10); }, "cannot open '"); }));
  EXPECT_TRUE(holds_for_another_user(
      [&] { return says([&] { make_directories(file); }, "cannot create directory '"); }));
}

}  // namespace
}  // namespace toroid
