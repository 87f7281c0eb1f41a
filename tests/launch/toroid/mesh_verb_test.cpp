// toroid mesh, as typed.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/core/base/io/temporary_directory.h"
#include "tests/launch/toroid/process.h"

namespace toroid::test {
namespace {

Ended mesh(const std::vector<std::string>& sets, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"mesh", "--config", "configs/tiny_gemma.textproto"};
  for (const std::string& set : sets) arguments.push_back("--set=" + set);
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program(TOROID_PROGRAM, arguments);
}

void expect_says(const Ended& ended, const std::string& part) {
  EXPECT_NE(ended.out.find(part), std::string::npos) << part << "\nis not in\n" << ended.out << ended.err;
}

TEST(MeshVerb, draws_a_split_dimension_and_twin_pods) {
  const Ended ended =
      mesh({"mesh.pods=2", "mesh.torus=[4, 4]", "mesh.data=8", "mesh.model=2"}, {"--rank", "6"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  expect_says(ended, "pods 2 x torus 4 x 4, data 8, model 2: 32 ranks\n");
  expect_says(ended, "  torus dimension 1: 4 = data 2 x model 2\n");
  expect_says(ended, "\npod 0\n  0d  1   2d  3 \n  4d  5   6*  7m\n");
  expect_says(ended, "\npod 1\n 16  17  18  19 \n 20  21  22p 23 \n");
  expect_says(ended, "rank 6 (pod 0, torus 1 2, data 3, model 0)\n");
  expect_says(ended, "  data  8 ranks as 4 x 2: 0 2 4 6 8 10 12 14\n");
  expect_says(ended, "  model 2 ranks as 1 x 2: 6 7\n");
  expect_says(ended, "  pod   2 ranks as 1 x 2: 6 22\n");
}

TEST(MeshVerb, a_whole_pod_fits_the_terminal_and_a_picture) {
  const TemporaryDirectory directory;
  const std::string picture = (directory.path() / "mesh.svg").string();
  const Ended ended = mesh({"mesh.data=256"}, {"--svg", picture});
  EXPECT_EQ(ended.code, 0) << ended.err;
  expect_says(ended, "pods 1 x torus 16 x 16, data 256, model 1: 256 ranks\n");
  expect_says(ended, "data  256 ranks as 16 x 16: 0 1 2 3 4 5 6 7 ... 255\n");
  std::istringstream lines(ended.out);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("written to") != std::string::npos) continue;  // a path of any length
    EXPECT_LE(line.size(), 100u) << line;
  }
  std::stringstream svg;
  svg << std::ifstream(picture).rdbuf();
  const std::string text = svg.str();
  EXPECT_EQ(text.rfind("<svg ", 0), 0u);
  EXPECT_EQ(text.substr(text.size() - 7), "</svg>\n");
  size_t chips = 0;
  for (size_t at = text.find("<title>"); at != std::string::npos; at = text.find("<title>", at + 1)) ++chips;
  EXPECT_EQ(chips, 256u);
}

TEST(MeshVerb, larger_pods_are_summarised) {
  const Ended ended = mesh({"mesh.torus=[32, 64]", "mesh.data=2048"});
  EXPECT_EQ(ended.code, 0) << ended.err;
  expect_says(ended, "is not drawn");
  expect_says(ended, "2,048 ranks as 32 x 64");
}

TEST(MeshVerb, a_rank_that_is_not_there_is_refused) {
  const Ended ended = mesh({"mesh.data=4"}, {"--rank", "4"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.err, "toroid: --rank is 4, but the mesh has ranks 0 to 3\n");
}

}  // namespace
}  // namespace toroid::test
