// The program with the real libraries: it starts without NCCL, and finds it when it is called.
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "core/base/error.h"
#include "parallel/comm/nccl/nccl_groups.h"

namespace toroid {
namespace {

// Whether a file of that name is part of this process.
bool is_loaded(const std::string& library) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(library) != std::string::npos) return true;
  }
  return false;
}

// Alone with its world, a rank makes no call of NCCL's.
TEST(NcclLink, one_rank_needs_no_library) {
  const auto world = make_single_world();
  world->carry_out_by(std::make_shared<NcclGroups>(*world, NcclGroups::Options{}));
  EXPECT_FALSE(is_loaded("libnccl"));
}

// Whose functions are found when they are first called: after the test above.
TEST(NcclLink, the_library_is_found_or_a_sentence_says_that_it_is_not) {
  EXPECT_FALSE(is_loaded("libnccl"));
  try {
    EXPECT_EQ(nccl_version().substr(0, 2), "2.");
    EXPECT_TRUE(is_loaded("libnccl"));
    EXPECT_NE(text_of(ncclInvalidUsage).find("ncclInvalidUsage"), std::string::npos);
    EXPECT_EQ(text_of(ncclInvalidUsage).find("no NCCL"), std::string::npos);
  } catch (const UserError& error) {
    EXPECT_FALSE(is_loaded("libnccl"));
    EXPECT_NE(std::string(error.what()).find("libnccl.so.2 is not found"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace toroid
