// Whatever stops a save, and wherever, the step before it loads: kill -9 at every call that changes the file
// system, each of these calls failing, a disk that is really full and a file system that is really read-only.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/base/error.h"
#include "tests/core/base/io/small_disk.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/deadline.h"
#include "tests/train/checkpoint/fixture.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  int status;  // as waitpid gives it
  long calls;  // that change the file system; 0 where the process was killed
};

enum class How : uint8_t { at_once, behind };

// Runs checkpoint_saver with the fault shim; `fault_at` 0: no fault, `error` 0: kill -9.
Outcome save(const Path& run, int64_t step, long fault_at, int error, How how = How::at_once) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) throw std::runtime_error("no pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    testing::end_by_the_deadline();
    ::close(ends[0]);
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, 1);
    ::dup2(null, 2);
    ::setenv("LD_PRELOAD", TOROID_FAULT_SHIM, 1);
    ::setenv("TOROID_FAULT_AT", std::to_string(fault_at).c_str(), 1);
    ::setenv("TOROID_FAULT_ERROR", std::to_string(error).c_str(), 1);
    ::setenv("TOROID_FAULT_COUNT_TO", std::to_string(ends[1]).c_str(), 1);
    ::execl(TOROID_SAVER, TOROID_SAVER, run.c_str(), std::to_string(step).c_str(),
            how == How::behind ? "behind" : nullptr, nullptr);
    ::_exit(126);
  }
  ::close(ends[1]);
  std::string text(64, '\0');
  const ssize_t n = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  Outcome outcome{};
  ::waitpid(child, &outcome.status, 0);
  outcome.calls = n > 0 ? std::atol(text.substr(0, static_cast<size_t>(n)).c_str()) : 0;
  return outcome;
}

// The run loads, at `before` or `after`, and every number of that step is right.
void expect_loads(const Path& run, int64_t before, int64_t after, const std::string& what) {
  try {
    CheckpointReader reader(run);
    const int64_t step = reader.state().step;
    EXPECT_TRUE(step == before || step == after) << what << ": step " << step;
    EXPECT_TRUE(SmallRun(step).matches(reader)) << what;
  } catch (const Error& error) {
    ADD_FAILURE() << what << ": " << error.what();
  }
}

long calls_of_a_save(How how) {
  TemporaryDirectory run;
  save(run.path(), 1, 0, 0);
  return save(run.path(), 2, 0, 0, how).calls;  // with a step to prune, as in the tests
}

class CheckpointFaults : public ::testing::TestWithParam<How> {};
INSTANTIATE_TEST_SUITE_P(How, CheckpointFaults, ::testing::Values(How::at_once, How::behind),
                         [](const auto& how) { return how.param == How::behind ? "behind" : "at_once"; });

TEST_P(CheckpointFaults, KilledAtEveryCall) {
  const long calls = calls_of_a_save(GetParam());
  ASSERT_GT(calls, 20) << "the shim was not loaded";
  int killed = 0;
  for (long at = 1; at <= calls; ++at) {
    TemporaryDirectory run;
    ASSERT_EQ(save(run.path(), 1, 0, 0).status, 0);
    const Outcome outcome = save(run.path(), 2, at, 0, GetParam());
    killed += WIFSIGNALED(outcome.status) ? 1 : 0;
    expect_loads(run.path(), 1, 2, "killed at call " + std::to_string(at));
    // The next save clears what the killed one left.
    ASSERT_EQ(save(run.path(), 3, 0, 0).status, 0) << at;
    expect_loads(run.path(), 3, 3, "after a kill at call " + std::to_string(at));
    for (const auto& entry : fs::directory_iterator(run / "checkpoints")) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path() << " after " << at;
    }
  }
  EXPECT_EQ(killed, calls);
}

TEST_P(CheckpointFaults, KilledWhileTheSameStepIsSavedAgain) {
  TemporaryDirectory counted;
  save(counted.path(), 1, 0, 0);
  const long calls = save(counted.path(), 1, 0, 0, GetParam()).calls;
  ASSERT_GT(calls, 20) << "the shim was not loaded";
  for (long at = 1; at <= calls; ++at) {
    TemporaryDirectory run;
    ASSERT_EQ(save(run.path(), 1, 0, 0).status, 0);
    save(run.path(), 1, at, 0, GetParam());
    expect_loads(run.path(), 1, 1, "killed at call " + std::to_string(at));
  }
}

TEST_P(CheckpointFaults, EveryCallFails) {
  const long calls = calls_of_a_save(GetParam());
  ASSERT_GT(calls, 20) << "the shim was not loaded";
  for (const int error : {ENOSPC, EIO, EROFS}) {
    for (long at = 1; at <= calls; ++at) {
      TemporaryDirectory run;
      ASSERT_EQ(save(run.path(), 1, 0, 0).status, 0);
      const Outcome outcome = save(run.path(), 2, at, error, GetParam());
      const std::string what = "errno " + std::to_string(error) + " at call " + std::to_string(at);
      ASSERT_TRUE(WIFEXITED(outcome.status)) << what;
      const int code = WEXITSTATUS(outcome.status);
      EXPECT_TRUE(code == 0 || code == static_cast<int>(ExitCode::system_error)) << what << ": exit " << code;
      expect_loads(run.path(), 1, 2, what);
      if (code == 0) expect_loads(run.path(), 2, 2, what);
    }
  }
}

TEST(CheckpointDisks, ADiskThatIsFull) {
  TemporaryDirectory directory;
  const SmallDisk mount(directory / "disk", "size=256k");
  if (!mount.mounted()) GTEST_SKIP() << "no right to mount";
  const Path run = directory / "disk/run";
  fs::create_directory(run);
  const SmallRun first(1, 800);  // about 130 kB: one fits, two do not
  save_checkpoint(run, first.state, first.slices, 2);
  const SmallRun second(2, 800);
  try {
    save_checkpoint(run, second.state, second.slices, 2);
    ADD_FAILURE() << "a full disk took a checkpoint";
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
  }
  CheckpointReader reader(run);
  EXPECT_TRUE(first.matches(reader));
  EXPECT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), fs::directory_iterator()), 1);
}

TEST(CheckpointDisks, AFileSystemThatIsReadOnly) {
  TemporaryDirectory directory;
  const SmallDisk mount(directory / "disk", "size=1m");
  if (!mount.mounted()) GTEST_SKIP() << "no right to mount";
  const Path run = directory / "disk/run";
  fs::create_directory(run);
  const SmallRun first(1);
  save_checkpoint(run, first.state, first.slices, 2);
  if (!mount.make_read_only()) GTEST_SKIP() << "no right to remount";
  const SmallRun second(2);
  EXPECT_THROW(save_checkpoint(run, second.state, second.slices, 2), SystemError);
  CheckpointReader reader(run);
  EXPECT_TRUE(first.matches(reader));
}

}  // namespace
}  // namespace toroid
