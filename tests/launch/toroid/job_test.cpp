// What starts ranks, without ranks: flags handed on, lists of nodes, how a job's end becomes an exit code,
// and what killed jobs leave behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <set>

#include "launch/toroid/job_directory.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/node_list.h"
#include "launch/toroid/train_flags.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/deadline.h"

namespace toroid::launch {
namespace {

namespace fs = std::filesystem;

TrainFlags parsed(std::vector<std::string> words) {
  TrainFlags flags;
  CLI::App app;
  add_train_flags(app, flags);
  app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  return flags;
}

// Each flag of the list, alone and with all others, reaches the ranks as it was typed.
TEST(TrainFlags, all_of_them_are_handed_on) {
  TrainFlags flags;
  CLI::App app;
  add_train_flags(app, flags);
  std::vector<std::string> all;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_name() == "--help") continue;
    std::vector<std::string> words{option->get_name()};
    if (option->get_name() == "--set") {
      words = {"--set=a=-1", "--set=b=x y"};
    } else if (!option->get_type_name().empty()) {
      words.push_back("value of " + option->get_name());
    }
    all.insert(all.end(), words.begin(), words.end());
    std::vector<std::string> back = train_arguments(parsed(words));
    ASSERT_EQ(back.at(0), "train");
    back.erase(back.begin());
    EXPECT_EQ(back, words);
  }
  EXPECT_GE(all.size(), 13u);
  std::vector<std::string> back = train_arguments(parsed(all));
  back.erase(back.begin());
  EXPECT_EQ(std::multiset<std::string>(back.begin(), back.end()),
            std::multiset<std::string>(all.begin(), all.end()));
}

TEST(NodeList, is_expanded) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(expand_node_list("a"), Names({"a"}));
  EXPECT_EQ(expand_node_list("gpu[01-03,7],login"), Names({"gpu01", "gpu02", "gpu03", "gpu7", "login"}));
  EXPECT_EQ(expand_node_list("r[1-2]n[8-9]"), Names({"r1n8", "r1n9", "r2n8", "r2n9"}));
  EXPECT_EQ(expand_node_list("n[099-101]x"), Names({"n099x", "n100x", "n101x"}));
  for (const char* none : {"a[1-", "a[x]", "a[3-1]", "a[]", ",a", "a[1-999999999]", "a[1-50000],b[1-60000]",
                           "a[1-9999]b[1-9999]", "a[18446744073709551616]"}) {
    EXPECT_FALSE(expand_node_list(none)) << none;
  }
}

TEST(NodeList, tells_a_host_of_another_job) {
  const std::vector<std::string> nodes{"n1", "n2.cluster"};
  EXPECT_EQ(first_host_not_in("n1:2,n2:2", nodes), "");
  EXPECT_EQ(first_host_not_in("n1.cluster:2,n2", nodes), "");
  EXPECT_EQ(first_host_not_in("n1:2,n3:2,n4", nodes), "n3");
  EXPECT_EQ(first_host_not_in("10.0.0.1:2", nodes), "");
}

int exited(int code) {
  return code << 8;
}

TEST(ExitOfJob, is_the_ranks_own) {
  for (const int code : {0, 2, 3, 75, 76, 77, 78}) EXPECT_EQ(exit_of_job({exited(code), 0}), code);
  EXPECT_EQ(exit_of_job({exited(kInternalErrorOfARank), 0}), 1);
  EXPECT_EQ(exit_of_job({exited(75), SIGTERM}), 75);
}

TEST(ExitOfJob, tells_what_a_signal_ended) {
  EXPECT_EQ(exit_of_job({exited(128 + SIGKILL), 0}), 76);
  EXPECT_EQ(exit_of_job({SIGKILL, 0}), 76);
  EXPECT_EQ(exit_of_job({exited(128 + SIGSEGV), 0}), 1);
  EXPECT_EQ(exit_of_job({exited(128 + SIGABRT), 0}), 1);
  EXPECT_THROW(exit_of_job({exited(128 + SIGBUS), 0}), SystemError);
  // Asked to end before the ranks could save, or for the second time.
  EXPECT_EQ(exit_of_job({exited(128 + SIGUSR1), SIGTERM}), 128 + SIGTERM);
  EXPECT_EQ(exit_of_job({exited(1), SIGINT}), 128 + SIGINT);
}

TEST(ExitOfJob, does_not_take_mpiruns_failure_for_a_bug) {
  for (const int code : {1, 17, 213, 255}) {
    try {
      exit_of_job({exited(code), 0});
      ADD_FAILURE() << code;
    } catch (const SystemError& error) {
      EXPECT_NE(std::string(error.what()).find("mpirun ended with " + std::to_string(code)),
                std::string::npos);
    }
  }
}

TEST(RunCommand, a_program_that_is_not_there_is_named) {
  try {
    run_command({"toroid-no-such-program"});
    ADD_FAILURE();
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("'toroid-no-such-program' could not be started"),
              std::string::npos);
  }
}

// 127 of a program that ran is its own.
TEST(RunCommand, an_exit_code_is_the_programs) {
  EXPECT_EQ(WEXITSTATUS(run_command({"/bin/sh", "-c", "exit 127"}).status), 127);
}

// Variables of a rank would lead another mpirun to the first one's daemon.
TEST(RunCommand, what_a_rank_has_of_its_mpirun_is_left_out) {
  ::setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  ::setenv("PMIX_RANK", "0", 1);
  ::setenv("OMPI_MCA_orte_hnp_uri", "1.0;tcp://127.0.0.1:1", 1);
  ::setenv("OMPI_MCA_btl_tcp_if_include", "eth0", 1);
  const Ended ended = run_command({"/bin/sh", "-c",
                                   "[ -z \"$OMPI_COMM_WORLD_RANK$PMIX_RANK$OMPI_MCA_orte_hnp_uri\" ] && [ "
                                   "$OMPI_MCA_btl_tcp_if_include = eth0 ]"});
  for (const char* name :
       {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "OMPI_MCA_orte_hnp_uri", "OMPI_MCA_btl_tcp_if_include"}) {
    ::unsetenv(name);
  }
  EXPECT_EQ(WEXITSTATUS(ended.status), 0);
}

// Where this machine is all that the job uses, no other list of nodes counts.
TEST(MpirunCommand, a_job_of_this_machine_reads_no_list_of_nodes) {
  const std::string text = shell_text(mpirun_command({}, {}, {"train"}));
  EXPECT_NE(text.find("--mca ras ^slurm,"), std::string::npos) << text;
  EXPECT_NE(text.find("--mca orte_default_hostfile none"), std::string::npos) << text;
  MpiJob hosts;
  hosts.hosts = "a:1,b:1";
  EXPECT_EQ(shell_text(mpirun_command(hosts, {}, {"train"})).find("ras"), std::string::npos);
}

TEST(JobDirectory, goes_with_its_owner) {
  const TemporaryDirectory parent;
  fs::path path;
  {
    const JobDirectory directory(parent.path());
    path = directory.path();
    std::ifstream owner(path / "owner");
    std::string first;
    std::getline(owner, first);
    EXPECT_EQ(first, "process " + std::to_string(::getpid()));
    sweep_abandoned(parent.path());
    EXPECT_TRUE(fs::exists(path / "owner")) << "its owner lives";
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(JobDirectory, of_a_killed_process_is_swept_by_the_next) {
  const TemporaryDirectory parent;
  const pid_t child = ::fork();
  if (child == 0) {
    testing::end_by_the_deadline();
    const JobDirectory directory(parent.path());
    std::ofstream(directory.path() / "vader_segment.0") << "memory";
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_FALSE(fs::is_empty(parent.path()));
  sweep_abandoned(parent.path());
  EXPECT_TRUE(fs::is_empty(parent.path()));
}

TEST(JobDirectory, what_is_not_a_dead_jobs_is_left_alone) {
  const TemporaryDirectory parent, elsewhere;
  const auto make_owner = [](const fs::path& directory) {
    fs::create_directory(directory);
    std::ofstream(directory / "owner") << "process 1\n";
  };
  make_owner(elsewhere / "toroid-job-target");
  fs::create_directory_symlink(elsewhere / "toroid-job-target", parent / "toroid-job-linked");
  make_owner(parent / "another-program");
  fs::create_directory(parent / "toroid-job-begun");  // its owner is being made
  std::ofstream(parent / "toroid-job-file") << "x";
  std::ofstream(parent / "toroid-12-0123456789abcdef") << "young";
  make_owner(parent / "toroid-job-odd");
  fs::remove(parent / "toroid-job-odd" / "owner");
  ASSERT_EQ(::mkfifo((parent / "toroid-job-odd" / "owner").c_str(), 0600), 0);
  const int held = ::open((parent / "toroid-job-odd" / "owner").c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  const bool root = ::geteuid() == 0;
  if (root) {
    make_owner(parent / "toroid-job-anothers");
    ASSERT_EQ(::chown((parent / "toroid-job-anothers").c_str(), 12345, 12345), 0);
  }
  const auto count = [&] {
    return std::distance(fs::directory_iterator(parent.path()), fs::directory_iterator());
  };
  const auto before = count();
  sweep_abandoned(parent.path());
  EXPECT_EQ(count(), before);
  EXPECT_TRUE(fs::exists(elsewhere / "toroid-job-target" / "owner"));
  ::close(held);
  sweep_abandoned(parent / "not there");
}

}  // namespace
}  // namespace toroid::launch
