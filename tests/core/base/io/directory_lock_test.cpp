// A directory has one owner: who is refused, what is stale, who of several takes it over, and what the owner
// notices when it was taken.
#include "core/base/io/directory_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "tests/core/base/io/file_calls.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/deadline.h"
#include "tests/failure.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::failure_of;

std::string refusal(const Path& directory) {
  return failure_of<UserError>([&] { const DirectoryLock lock(directory); });
}

// The lock that this process would make.
nlohmann::json own_lock() {
  const TemporaryDirectory directory;
  const DirectoryLock lock(directory.path());
  return nlohmann::json::parse(std::ifstream(directory / ".lock"));
}

void write_lock(const Path& directory, const std::string& text, int64_t seconds_ago) {
  std::ofstream(directory / ".lock", std::ios::trunc) << text;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  now.tv_sec -= seconds_ago;
  const std::array<timespec, 2> times{now, now};
  ASSERT_EQ(::utimensat(AT_FDCWD, (directory / ".lock").c_str(), times.data(), 0), 0);
}

size_t entries(const Path& directory) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

// A process that takes the directory and holds it until it is killed or the test ends.
class OtherProcess {
 public:
  explicit OtherProcess(const Path& directory) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) throw std::runtime_error("no pipe");
    child_ = ::fork();
    if (child_ == 0) {
      testing::end_by_the_deadline();
      char answer = 'n';
      try {
        const DirectoryLock lock(directory);
        answer = 'y';
        (void)!::write(ends[1], &answer, 1);
        for (;;) ::pause();
      } catch (const std::exception&) {
        (void)!::write(ends[1], &answer, 1);
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    read_ = ends[0];
  }
  ~OtherProcess() {
    kill();
    ::waitpid(child_, nullptr, 0);
    ::close(read_);
  }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;
  bool has_it() const {
    char answer = '?';
    return ::read(read_, &answer, 1) == 1 && answer == 'y';
  }
  pid_t id() const { return child_; }
  void kill() const { ::kill(child_, SIGKILL); }
  // Until it is dead, though nobody has asked how it ended.
  void wait_until_zombie() const {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOWAIT);
  }

 private:
  pid_t child_ = 0;
  int read_ = -1;
};

TEST(DirectoryLock, TheSecondIsToldWhoHasIt) {
  const TemporaryDirectory directory;
  const OtherProcess other(directory.path());
  ASSERT_TRUE(other.has_it());
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string why = refusal(directory.path());
  EXPECT_NE(why.find("'" + directory.path().string() + "' is in use by process " +
                     std::to_string(other.id()) + " on host " + host.data()),
            std::string::npos)
      << why;
  EXPECT_EQ(entries(directory.path()), 1U) << "what the second has made is gone";
}

TEST(DirectoryLock, TheSchedulersJobIsNamed) {
  const TemporaryDirectory directory;
  ::setenv("SLURM_JOB_ID", "4711", 1);
  const DirectoryLock lock(directory.path());
  ::unsetenv("SLURM_JOB_ID");
  const std::string why = refusal(directory.path());
  EXPECT_NE(why.find("(job slurm 4711)"), std::string::npos) << why;
}

TEST(DirectoryLock, IsGivenBackWithADirectoryThatStayedEmpty) {
  const TemporaryDirectory directory;
  const Path run = directory / "a/run";
  { const DirectoryLock lock(run); }
  EXPECT_FALSE(fs::exists(run));
  fs::create_directories(run);
  { const DirectoryLock lock(run); }
  EXPECT_TRUE(fs::exists(run)) << "it was there before";
  EXPECT_EQ(entries(run), 0U);
}

TEST(DirectoryLock, IsFreeAtOnceWhereItsProcessWasKilled) {
  const TemporaryDirectory directory;
  const OtherProcess other(directory.path());
  ASSERT_TRUE(other.has_it());
  EXPECT_NE(refusal(directory.path()), "accepted");
  other.kill();
  other.wait_until_zombie();
  DirectoryLock lock(directory.path());
  EXPECT_NO_THROW(lock.confirm());
  EXPECT_EQ(entries(directory.path()), 1U);
}

TEST(DirectoryLock, IsFreeWhereTheProcessNumberIsAnothersNow) {
  const TemporaryDirectory directory;
  nlohmann::json lock = own_lock();
  write_lock(directory.path(), lock.dump(), 0);
  EXPECT_NE(refusal(directory.path()), "accepted");
  lock["start"] = lock["start"].get<int64_t>() - 1;
  write_lock(directory.path(), lock.dump(), 0);
  EXPECT_EQ(refusal(directory.path()), "accepted");
}

TEST(DirectoryLock, OfAProcessThatCannotBeSeenIsFreeAfterAMinute) {
  for (const char* key : {"host", "boot", "processes"}) {
    const TemporaryDirectory directory;
    nlohmann::json lock = own_lock();
    lock["start"] = 1;  // on this boot of this host: gone
    lock[key] = "another";
    for (const int ago : {0, 50}) {
      write_lock(directory.path(), lock.dump(), ago);
      EXPECT_NE(refusal(directory.path()).find("in use"), std::string::npos) << key;
    }
    write_lock(directory.path(), lock.dump(), 61);
    EXPECT_EQ(refusal(directory.path()), "accepted") << key;
  }
}

TEST(DirectoryLock, OfALiveProcessThatWasStoppedIsFreeAfterAMinute) {
  const TemporaryDirectory directory;
  write_lock(directory.path(), own_lock().dump(), 61);
  EXPECT_EQ(refusal(directory.path()), "accepted");
}

TEST(DirectoryLock, OfTheFutureIsHeldAndSaysWhatToDo) {
  const TemporaryDirectory directory;
  write_lock(directory.path(), own_lock().dump(), -3600);
  EXPECT_NE(refusal(directory.path()).find("remove .lock"), std::string::npos) << refusal(directory.path());
}

TEST(DirectoryLock, OfAnUnknownKindIsFreeAfterAMinute) {
  std::string escape = own_lock().dump();
  escape.replace(escape.find("\"host\":\"") + 8, 0, "\\u001b[31m");
  for (const std::string& text : {std::string(), std::string("garbage\n"), std::string("[]"),
                                  std::string(1 << 20, '{'), std::string(100, '\0'), escape}) {
    const TemporaryDirectory directory;
    write_lock(directory.path(), text, 10);
    const std::string why = refusal(directory.path());
    EXPECT_NE(why.find("is in use by"), std::string::npos) << why;
    EXPECT_EQ(why.find('\x1b'), std::string::npos) << why;
    EXPECT_LT(why.size(), 1000U);
    write_lock(directory.path(), text, 100);
    EXPECT_EQ(refusal(directory.path()), "accepted");
    EXPECT_EQ(entries(directory.path()), 0U);
  }
}

TEST(DirectoryLock, WhatIsNoFileIsNotTouched) {
  const std::vector<std::function<void(const Path&)>> makers = {
      [](const Path& at) { fs::create_directory(at); },
      [](const Path& at) { fs::create_symlink("/dev/null", at); },
      [](const Path& at) { fs::create_symlink("nowhere", at); },
      [](const Path& at) { ::mkfifo(at.c_str(), 0644); }};
  for (const auto& make : makers) {
    const TemporaryDirectory directory;
    make(directory / ".lock");
    const std::string why = refusal(directory.path());
    EXPECT_NE(why.find(".lock' is not a regular file"), std::string::npos) << why;
    EXPECT_NE(fs::symlink_status(directory / ".lock").type(), fs::file_type::not_found);
    EXPECT_EQ(entries(directory.path()), 1U);
  }
}

class TakeOver : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { test::allow_links(GetParam()); }
  void TearDown() override { test::allow_links(true); }
};

TEST_P(TakeOver, OneOfManyWins) {
  nlohmann::json lock = own_lock();
  lock["start"] = 1;  // ended long ago
  for (int round = 0; round < 30; ++round) {
    const TemporaryDirectory directory;
    if (round % 2 == 1) write_lock(directory.path(), lock.dump(), 0);
    std::vector<std::unique_ptr<OtherProcess>> others;
    for (int i = 0; i < 5; ++i) others.push_back(std::make_unique<OtherProcess>(directory.path()));
    int winners = 0;
    for (const auto& other : others) winners += other->has_it() ? 1 : 0;
    ASSERT_EQ(winners, 1) << "round " << round;
    EXPECT_EQ(entries(directory.path()), 1U) << "round " << round;
  }
}

// Killed at any call, it leaves nothing that keeps the next one out.
TEST_P(TakeOver, IsTakenOverFromWhomeverDiedWhileTakingItOver) {
  nlohmann::json lock = own_lock();
  lock["start"] = 1;
  int deaths = 0;
  for (bool died = true; died;) {
    const TemporaryDirectory directory;
    write_lock(directory.path(), lock.dump(), 0);
    for (int times = 0; times < 2; ++times) {  // and the next one dies there too
      const int status = test::killed_at(deaths + 1, [&] { const DirectoryLock taken(directory.path()); });
      died = WIFSIGNALED(status);
      ASSERT_TRUE(died || WEXITSTATUS(status) == 0) << deaths;
    }
    EXPECT_EQ(refusal(directory.path()), "accepted") << "after a kill at call " << deaths + 1;
    EXPECT_FALSE(fs::exists(directory / ".lock"));
    deaths += died ? 1 : 0;
  }
  EXPECT_GE(deaths, 4);
}

INSTANTIATE_TEST_SUITE_P(FileSystems, TakeOver, ::testing::Values(true, false),
                         [](const auto& with) { return with.param ? "WithLinks" : "WithoutLinks"; });

TEST(DirectoryLock, ALockThatWasTakenIsNoticed) {
  const TemporaryDirectory directory;
  nlohmann::json other = own_lock();
  other["host"] = "elsewhere";
  other["process"] = 99;
  {
    DirectoryLock lock(directory.path());
    lock.confirm();
    write_lock(directory.path(), other.dump(), 0);
    EXPECT_NO_THROW(lock.confirm(1h)) << "it was looked at just now";
    const std::string why = failure_of<SystemError>([&] { lock.confirm(); });
    EXPECT_NE(why.find("was taken over by process 99 on host elsewhere"), std::string::npos) << why;
    EXPECT_FALSE(lock.held());
  }
  EXPECT_EQ(nlohmann::json::parse(std::ifstream(directory / ".lock")), other) << "it is the other's";
}

TEST(DirectoryLock, ALockThatWasRemovedIsLostForGood) {
  const TemporaryDirectory directory;
  DirectoryLock lock(directory.path());
  fs::rename(directory / ".lock", directory / "away");
  const std::string why = failure_of<SystemError>([&] { lock.confirm(); });
  EXPECT_NE(why.find("was removed while this job ran"), std::string::npos) << why;
  fs::rename(directory / "away", directory / ".lock");
  EXPECT_THROW(lock.confirm(1h), SystemError) << "another may have been there in between";
}

TEST(DirectoryLock, IsTouchedWhileItsOwnerIsBusy) {
  const TemporaryDirectory directory;
  const auto start = std::chrono::steady_clock::now();
  const DirectoryLock lock(directory.path(), {.touched_every = 5ms});
  const auto age = [&] {
    return fs::file_time_type::clock::now() - fs::last_write_time(directory / ".lock");
  };
  fs::last_write_time(directory / ".lock", fs::file_time_type::clock::now() - 1h);
  while (age() > 30min && std::chrono::steady_clock::now() - start < 60s) std::this_thread::sleep_for(1ms);
  EXPECT_LT(age(), 30min);
}

}  // namespace
}  // namespace toroid
