// The table of collectives: written, read back into a config, refused where it is none.
#include "train/machine/collective_table.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "tests/deadline.h"
#include "tests/train/config/recipe_text.h"
#include "train/machine/machine_figures.h"
#include "train/ranks/choices.h"

namespace toroid::train {
namespace {

using schedule::Algorithm;
using schedule::Operation;
using test::refusal;

class CollectiveTable : public ::testing::Test {
 protected:
  ~CollectiveTable() override { std::filesystem::remove_all(directory_); }
  // Two ranks on the data axis, or what `overrides` make of it.
  static config::Resolved resolved(std::vector<std::string> overrides = {}) {
    overrides.insert(overrides.begin(), "mesh.data=2");
    return config::load_text(test::recipe_text(), "recipe", overrides);
  }
  std::string refused(const std::string& text) const {
    write_file(path(), text);
    return refusal([&] { (void)read_collective_table(path()); });
  }
  Path path() const { return directory_ / "collectives.textproto"; }

 private:
  Path directory_ = std::filesystem::temp_directory_path() / ("toroid-table-" + std::to_string(::getpid()));
};

const std::vector<Choice> kMeasured = {
    {Operation::all_gather, 2, 2, 65536, Method::By::relay},
    {Operation::all_gather, 2, 2, 1 << 20, Method::By::read},
    {Operation::reduce_scatter, 2, 2, 1 << 20, Algorithm::halving_doubling},
};

TEST_F(CollectiveTable, what_was_measured_is_in_the_config_with_its_origin) {
  write_collective_table(path(), kMeasured);
  config::Resolved run = resolved();
  add_collective_table(run, path());
  const std::vector<Choice> rows = choices_of(run.run.mesh());
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1].operation, Operation::all_gather);
  EXPECT_EQ(rows[1].up_to_bytes, 1 << 20);
  EXPECT_TRUE(rows[0].method == Method::By::relay && rows[2].method == Algorithm::halving_doubling);
  const std::string text = config::to_text(run);
  const size_t method = text.find("way: \"halving_doubling\"");
  ASSERT_NE(method, std::string::npos) << text;
  EXPECT_NE(text.substr(method, text.find('\n', method) - method).find("# " + path().string()),
            std::string::npos)
      << text;
  // As it stands in a run's directory.
  const config::Resolved again = config::load_text(text, "printed");
  EXPECT_EQ(choices_of(again.run.mesh()).size(), 3u);
}

TEST_F(CollectiveTable, measuring_again_replaces_groups_of_that_size_alone) {
  write_collective_table(path(), kMeasured);
  write_collective_table(path(), {{Operation::all_reduce, 4, 4, 4096, Method::By::read}});
  write_collective_table(path(), {{Operation::broadcast, 2, 2, 4096, Algorithm::direct}});
  config::Resolved two = resolved(), four = resolved({"mesh.data=4"});
  add_collective_table(two, path());
  add_collective_table(four, path());
  ASSERT_EQ(two.run.mesh().collective_size(), 1);
  EXPECT_EQ(two.run.mesh().collective(0).operation(), "broadcast");
  ASSERT_EQ(four.run.mesh().collective_size(), 1);
  EXPECT_EQ(four.run.mesh().collective(0).operation(), "all_reduce");
}

TEST_F(CollectiveTable, is_not_asked_where_it_cannot_serve) {
  config::Resolved none = resolved();
  add_collective_table(none, path());  // there is no such file
  EXPECT_EQ(none.run.mesh().collective_size(), 0);
  write_collective_table(path(), kMeasured);
  for (const char* override : {"mesh.data=1", "mesh.data=4", "train.deterministic=true"}) {
    config::Resolved run = resolved({override});
    add_collective_table(run, path());
    EXPECT_EQ(run.run.mesh().collective_size(), 0) << override;
  }
}

TEST_F(CollectiveTable, what_the_config_says_goes_before_the_file) {
  write_collective_table(path(), kMeasured);
  config::Resolved run = resolved();
  auto* const row = run.run.mutable_mesh()->add_collective();
  row->set_operation("all_gather");
  row->set_ranks(2);
  row->set_ranks_per_host(2);
  row->set_up_to_bytes(1);
  row->set_way("ring");
  add_collective_table(run, path());
  ASSERT_EQ(run.run.mesh().collective_size(), 1);
  // As where a run that is stored with its rows goes on under another layout: they say nothing of its groups.
  row->set_ranks(8);
  row->set_ranks_per_host(8);
  add_collective_table(run, path());
  EXPECT_EQ(run.run.mesh().collective_size(), 1 + 3);
  EXPECT_EQ(run.run.mesh().collective(0).ranks(), 8);
  row->set_way("rnig");
  EXPECT_NE(refusal([&] { add_collective_table(run, path()); }).find("mesh.collective[0].way is 'rnig'"),
            std::string::npos);
}

TEST_F(CollectiveTable, a_file_that_is_none_is_refused_with_the_row) {
  std::filesystem::create_directories(path().parent_path());
  const std::string good =
      "collective { operation: \"all_gather\" ranks: 2 ranks_per_host: 2 up_to_bytes: 64 way: \"read\" }\n";
  EXPECT_EQ(refused(good), "");
  const auto spoiled = [&](const std::string& from, const std::string& to) {
    std::string row = good;
    row.replace(row.find(from), from.size(), to);
    return refused(good + row);
  };
  const std::string where = path().string() + ": collective[1]";
  EXPECT_EQ(spoiled("read", "raed").find(where + ".way is 'raed'"), 0u);
  EXPECT_EQ(spoiled("all_gather", "all_together").find(where + ".operation is 'all_together'"), 0u);
  EXPECT_EQ(spoiled("ranks: 2", "ranks: 1").find(where + ".ranks is 1"), 0u);
  EXPECT_EQ(spoiled("ranks: 2", "").find(where + ".ranks"), 0u);
  EXPECT_EQ(spoiled("ranks_per_host: 2", "ranks_per_host: 3").find(where + ".ranks_per_host is 3"), 0u);
  EXPECT_EQ(spoiled("up_to_bytes: 64", "up_to_bytes: -1").find(where + ".up_to_bytes is -1"), 0u);
  EXPECT_NE(refused("collective { operation").find(path().string()), std::string::npos);
  EXPECT_NE(refused("learning_rate: 3").find("learning_rate"), std::string::npos);
}

// It makes runs faster and decides nothing: whatever is wrong with it, training goes on without it.
TEST_F(CollectiveTable, one_that_cannot_be_read_is_as_if_there_were_none) {
  const auto rows = [&](const Path& at) {
    config::Resolved run = resolved();
    add_collective_table(run, at);
    EXPECT_TRUE(read_collective_times(at).empty());
    return run.run.mesh().collective_size();
  };
  make_directories(path().parent_path());
  write_file(path(), "collective { operation: \"all_gather\" way: \"raed\" }");
  EXPECT_EQ(rows(path()), 0);
  EXPECT_EQ(rows(path() / "below_a_file"), 0);
  EXPECT_EQ(rows(path().parent_path()), 0);  // a directory
  const Path link = path().parent_path() / "link";
  std::filesystem::create_symlink("nowhere", link);
  EXPECT_EQ(rows(link), 0);
  // And measured anew.
  write_collective_table(path(), kMeasured);
  EXPECT_EQ(rows(path()), 3);
}

// As in a container with another user than the one whose home it is.
TEST_F(CollectiveTable, a_home_that_may_not_be_entered_has_no_figures) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become a user to whom a directory is closed";
  make_directories(path().parent_path() / "toroid");
  std::filesystem::permissions(path().parent_path(), std::filesystem::perms::owner_all);
  const pid_t child = ::fork();
  if (child == 0) {
    toroid::testing::end_by_the_deadline();
    ::setenv("XDG_CACHE_HOME", path().parent_path().c_str(), 1);
    if (::setuid(65534) != 0) ::_exit(2);
    try {
      config::Resolved run = resolved();
      add_collective_table(run);
      ::_exit(run.run.mesh().collective_size() == 0 && !read_machine_figures() &&
                      read_collective_times().empty()
                  ? 0
                  : 3);
    } catch (...) {
      ::_exit(4);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(CollectiveTable, of_a_relative_home_is_not_below_the_current_directory) {
  const auto with = [](const char* cache, const char* home) {
    ::setenv("XDG_CACHE_HOME", cache, 1);
    ::setenv("HOME", home, 1);
    return machine_figures_path().string();
  };
  const char* const home = ::getenv("HOME");
  const std::string kept = home == nullptr ? "" : home;
  EXPECT_EQ(with("/cache", "/home"), "/cache/toroid/host.textproto");
  EXPECT_EQ(with("", "/home"), "/home/.cache/toroid/host.textproto");
  EXPECT_EQ(with("cache", "/home"), "/home/.cache/toroid/host.textproto");
  EXPECT_EQ(with("", "home"), "/tmp/.cache/toroid/host.textproto");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", kept.c_str(), 1);
}

TEST_F(CollectiveTable, times_are_read_back_and_replaced_by_group_size) {
  EXPECT_TRUE(read_collective_times(path()).empty());
  write_collective_table(path(), kMeasured, {{"all_gather", "relay", 2, 65536, 2e-5}}, 2);
  write_collective_table(path(), {{Operation::all_gather, 4, 4, 4096, Method::By::read}},
                         {{"all_gather", "read", 4, 4096, 1e-5}, {"all_gather", "ring", 4, 4096, 3e-5}}, 4);
  const auto times = read_collective_times(path());
  ASSERT_EQ(times.size(), 3u);
  EXPECT_EQ(times[0].method, "relay");
  EXPECT_EQ(times[2].method, "ring");
  EXPECT_EQ(times[2].ranks, 4);
  EXPECT_EQ(times[2].bytes, 4096);
  EXPECT_EQ(times[2].seconds, 3e-5);
  // Between hosts: not this machine's.
  write_collective_table(path(), {{Operation::all_gather, 4, 2, 4096, Method::By::read}},
                         {{"all_gather", "ring", 4, 4096, 1e-3}}, 2);
  EXPECT_EQ(read_collective_times(path()).size(), 3u);
  EXPECT_EQ(choices_of(resolved().run.mesh()).size(), 0u);
}

TEST_F(CollectiveTable, times_that_are_none_are_refused) {
  make_directories(path().parent_path());
  const std::string good =
      "operation: \"all_gather\" way: \"read\" ranks: 2 ranks_per_host: 2 bytes: 4096 seconds: 1e-5";
  EXPECT_EQ(refused("timing { " + good + " }"), "");
  for (const auto& [more, said] : std::vector<std::pair<std::string, std::string>>{
           {"operation: \"gather\"", "timing[0].operation is 'gather'"},
           {"way: \"telepathy\"", "timing[0].way is 'telepathy'"},
           {"ranks: 1", "timing[0].ranks"},
           {"bytes: -1", "timing[0].bytes is -1"},
           {"seconds: 0", "timing[0].seconds is 0"},
           {"seconds: nan", "timing[0].seconds"}}) {
    const std::string field = more.substr(0, more.find(':'));
    std::string text = good;
    const size_t at = text.find(field + ": ");
    const size_t end = text.find(' ', at + field.size() + 2);
    text.replace(at, end == std::string::npos ? end : end - at, more);
    EXPECT_NE(refused("timing { " + text + " }").find(said), std::string::npos)
        << text << ": " << refused("timing { " + text + " }");
  }
}

}  // namespace
}  // namespace toroid::train
