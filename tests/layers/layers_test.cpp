// The folders depend on each other one way only; what breaks the table is named here, and cannot slip
// through: the second half of the file injects violations and expects them to be found.
#include "tests/layers/layers.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace toroid {
namespace {

namespace fs = std::filesystem;

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A directory that is gone at the end of the test.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "layers.XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;  // the directory has one owner
  Scratch& operator=(const Scratch&) = delete;

  const fs::path& path() const { return path_; }
  void write(const std::string& name, std::string_view text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }

 private:
  fs::path path_;
};

TEST(Layers, IncludesAndImportsFollowTheTable) {
  const auto found = check_tree(TOROID_SOURCE_DIR);
  EXPECT_TRUE(found.empty()) << join(found);
}

TEST(Layers, LinkedTargetsFollowTheTable) {
  const std::string graph = contents(fs::path(TOROID_BINARY_DIR) / "link_graph.txt");
  // An empty graph would pass for the wrong reason.
  EXPECT_NE(graph.find("toroid_base core/base"), std::string::npos) << graph;
  const auto found = check_links(graph);
  EXPECT_TRUE(found.empty()) << join(found);
}

TEST(Layers, TheTableIsTheDesigns) {
  EXPECT_TRUE(allowed("core/model/layer.cpp", "core/op/norm.h"));
  EXPECT_TRUE(allowed("data/text/html.cpp", "core/base/error.h"));
  EXPECT_TRUE(allowed("train/config/load.h", "configs/run.pb.h"));
  EXPECT_TRUE(allowed("launch/toroid/main.cpp", "train/loop.h"));
  EXPECT_FALSE(allowed("core/base/text.cpp", "core/tensor/tensor.h"));
  const std::vector<std::string> core = {"base", "tensor", "op", "device", "comm", "model"};
  for (size_t i = 0; i < core.size(); ++i) {
    for (size_t j = 0; j < core.size(); ++j) {
      EXPECT_EQ(allowed("core/" + core[i] + "/x.cpp", "core/" + core[j] + "/y.h"), j <= i)
          << core[i] << " and " << core[j];
    }
  }
  EXPECT_FALSE(allowed("core/model/layer.cpp", "parallel/zero/zero.h"));
  EXPECT_FALSE(allowed("data/batch.cpp", "core/tensor/tensor.h"));
  EXPECT_FALSE(allowed("data/batch.cpp", "optim/adamw.h"));
  EXPECT_FALSE(allowed("optim/adamw.cpp", "parallel/zero/zero.h"));
  EXPECT_FALSE(allowed("parallel/zero/zero.cpp", "train/step.h"));
  EXPECT_FALSE(allowed("train/step.cpp", "launch/toroid/verb.h"));
  EXPECT_FALSE(allowed("train/loop/pretrain.cpp", "simulate/play/player.h"));
  EXPECT_FALSE(allowed("train/ranks/meeting.cpp", "train/engine/engine.h"));
  EXPECT_FALSE(allowed("train/engine/engine.cpp", "train/machine/run_peak.h"));
  EXPECT_FALSE(allowed("train/report/trace.cpp", "train/loop/run.h"));
  EXPECT_FALSE(allowed("simulate/play/program.cpp", "simulate/answer/answer.h"));
  EXPECT_FALSE(allowed("parallel/comm/watch/watch.cpp", "parallel/comm/messages/transport.h"));
  EXPECT_FALSE(allowed("core/database.cpp", "database/x.h"));  // a prefix of a name is not a folder
}

TEST(Layers, AnInjectedIncludeIsFound) {
  const Scratch scratch;
  ASSERT_FALSE(scratch.path().empty());
  scratch.write("train/loop.h", "#pragma once\n");
  scratch.write("core/op/op.h", "#pragma once\n");
  scratch.write("core/op/bad.cpp",
                "// one\n#include \"core/op/op.h\"\n#  include <vector>\n#include \"train/loop.h\"\n");
  scratch.write("core/device/device.h", "#pragma once\n");
  scratch.write("core/op/circle.cpp", "#include \"core/device/device.h\"\n");
  scratch.write("data/bad.cpp", "#include \"core/op/op.h\"\n");
  scratch.write("data/bad.proto", "syntax = \"proto2\";\nimport \"train/train.proto\";\n");
  scratch.write("optim/bad.h",
                "#include \"../core/op/op.h\"\n#include <mpi.h>\n#include \"optim/absent.h\"\n");
  scratch.write("launch/good.cpp", "#include <CLI/CLI.hpp>\n#include \"train/loop.h\"\n");
  const auto found = check_tree(scratch.path());
  const std::vector<std::string> expected = {
      "core/op/bad.cpp:4: core/op may not use train (\"train/loop.h\")",
      "core/op/circle.cpp:1: core/op may not use core/device (\"core/device/device.h\")",
      "data/bad.cpp:1: data may not use core/op (\"core/op/op.h\")",
      "data/bad.proto:2: data may not use train (\"train/train.proto\")",
      "optim/bad.h:1: \"../core/op/op.h\" is not a path from the repository's root",
      "optim/bad.h:2: only parallel/comm/mpi may use <mpi.h>",
      "optim/bad.h:3: \"optim/absent.h\" does not exist",
  };
  auto sorted = found;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, expected) << join(sorted);
}

TEST(Layers, AnInjectedLinkIsFound) {
  const Scratch scratch;
  ASSERT_FALSE(scratch.path().empty());
  const std::string command = std::string("\"") + TOROID_CMAKE + "\" -G \"" + TOROID_GENERATOR + "\" -S \"" +
                              TOROID_SOURCE_DIR + "/tests/layers/forbidden\" -B \"" +
                              scratch.path().string() + "\" > \"" + (scratch.path() / "log").string() +
                              "\" 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << contents(scratch.path() / "log");
  const auto found = check_links(contents(scratch.path() / "link_graph.txt"));
  ASSERT_EQ(found.size(), 1u) << join(found);
  EXPECT_EQ(found[0], "forbidden_core (core) may not link forbidden_train (train)");
}

}  // namespace
}  // namespace toroid
