// What a host lacks for its ranks, from facts that are made up: found, needed, and what to do about it.
#include "parallel/comm/preflight.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "core/base/error.h"

namespace toroid {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

HostFacts roomy() {
  HostFacts host;
  host.cores = 2;
  host.shared_directory = "/dev/shm";
  host.shared_free = 8'000 * kMebibyte;
  host.temporary_directory = "/tmp";
  host.open_files = 65'536;
  host.memory = 16'000 * kMebibyte;
  host.memory_available = 12'000 * kMebibyte;
  host.tasks_left = 10'000;
  return host;
}

HostNeeds ranks(int count) {
  HostNeeds needs;
  needs.ranks = count;
  return needs;
}

void expect_only(const std::vector<Shortage>& found, bool fatal, const std::vector<std::string>& parts) {
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].fatal, fatal) << found[0].text;
  for (const std::string& part : parts) {
    EXPECT_NE(found[0].text.find(part), std::string::npos) << part << "\nis not in\n" << found[0].text;
  }
}

TEST(Preflight, a_roomy_host_lacks_nothing) {
  for (const int count : {1, 2, 16, 64}) EXPECT_TRUE(find_shortages(roomy(), ranks(count)).empty()) << count;
}

// Sizes that were tried: 2 ranks start in 5 MiB and 16 in 40, and 2 do not in 4.
TEST(Preflight, shared_memory_is_refused_below_what_a_start_takes_and_warned_of_below_what_may_come) {
  HostFacts host = roomy();
  const auto with = [&](int64_t mebibytes, int count) {
    host.shared_free = mebibytes * kMebibyte;
    return find_shortages(host, ranks(count));
  };
  expect_only(
      with(1, 2), true,
      {"'/dev/shm' has 1.05 MB free", "2 ranks on this host need 4.", "remount,size=", "--shm-size="});
  expect_only(with(4, 2), true, {"4.19 MB free"});
  expect_only(with(5, 2), false, {"may come to need 8.", "SIGBUS"});
  expect_only(with(40, 16), false, {"16 ranks"});
  EXPECT_TRUE(with(9, 2).empty());
  EXPECT_TRUE(with(0, 1).empty()) << "one rank has nobody to talk to";
  host.shared_free.reset();
  EXPECT_TRUE(find_shortages(host, ranks(2)).empty()) << "what cannot be asked is not refused";
  host.shared_problem = "Read-only file system";
  expect_only(find_shortages(host, ranks(2)), true, {"'/dev/shm'", "Read-only file system"});
}

TEST(Preflight, what_the_remedy_says_is_enough) {
  for (const int count : {2, 16, 256}) {
    HostFacts host = roomy();
    host.shared_free = 0;
    const std::string text = find_shortages(host, ranks(count)).at(0).text;
    const size_t at = text.find("size=") + 5;
    EXPECT_GE(std::stoll(text.substr(at)) * kMebibyte, shared_bytes_at_most(count)) << text;
  }
}

TEST(Preflight, open_files_are_counted_for_mpirun_and_for_a_rank) {
  HostFacts host = roomy();
  host.open_files = 16;
  expect_only(find_shortages(host, ranks(2)), true, {"16 files open", "ulimit -n"});
  host.open_files = 1024;
  EXPECT_TRUE(find_shortages(host, ranks(64)).empty());
  HostNeeds many = ranks(64);
  many.other_ranks = 960;
  expect_only(find_shortages(host, many), true, {"1,024 files open", "64 ranks"});
  EXPECT_GT(open_files_of(ranks(600)), open_files_of(ranks(60)));
}

TEST(Preflight, memory_is_refused_where_it_cannot_be_had_and_warned_of_where_others_have_it) {
  HostFacts host = roomy();
  HostNeeds needs = ranks(4);
  needs.bytes_per_rank = 5'000 * kMebibyte;
  expect_only(find_shortages(host, needs), true, {"has 16.78 GB of memory", "4 ranks", "of arrays each"});
  needs.bytes_per_rank = 3'500 * kMebibyte;
  expect_only(find_shortages(host, needs), false, {"12.58 GB of memory are available now"});
}

TEST(Preflight, threads_and_cores) {
  HostFacts host = roomy();
  host.tasks_left = 100;
  HostNeeds needs = ranks(16);
  needs.threads = 4;
  expect_only(find_shortages(host, needs), true,
              {"100 more threads", "16 ranks of 4 threads", "--pids-limit"});
  host = roomy();
  host.memory.reset();
  host.memory_available.reset();
  host.tasks_left.reset();
  EXPECT_TRUE(find_shortages(host, ranks(128)).empty());
  expect_only(find_shortages(host, ranks(256)), false, {"256 ranks share 2 cores"});
}

TEST(Preflight, a_temporary_directory_is_mpiruns_alone) {
  HostFacts host = roomy();
  host.temporary_directory = "/nowhere";
  host.temporary_problem = "No such file or directory";
  expect_only(find_shortages(host, ranks(1)), true, {"'/nowhere'", "set TMPDIR"});
  HostNeeds started = ranks(1);
  started.launcher = false;
  EXPECT_TRUE(find_shortages(host, started).empty());
}

TEST(Preflight, what_ends_the_start_comes_first) {
  HostFacts host = roomy();
  host.shared_free = 5 * kMebibyte;
  host.open_files = 16;
  const auto found = find_shortages(host, ranks(2));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0].fatal);
  EXPECT_FALSE(found[1].fatal);
}

TEST(Preflight, an_environment_of_a_job_that_is_gone_is_named) {
  ::setenv("PMIX_SERVER_TMPDIR", "/tmp", 1);
  EXPECT_NO_THROW(check_launcher_is_there());
  ::setenv("PMIX_SERVER_TMPDIR", "/tmp/toroid-no-such-session", 1);
  EXPECT_THROW(check_launcher_is_there(), SystemError);
  ::unsetenv("PMIX_SERVER_TMPDIR");
  EXPECT_NO_THROW(check_launcher_is_there());
}

TEST(Preflight, the_soft_limit_rises_as_far_as_the_hard_one) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low{64, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  allow_open_files(100);
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  EXPECT_EQ(now.rlim_cur, 100u);
  allow_open_files(50);
  ::getrlimit(RLIMIT_NOFILE, &now);
  EXPECT_EQ(now.rlim_cur, 100u) << "never lowered";
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace toroid
