#include "train/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <fstream>
#include <functional>
#include <mutex>

#include "core/base/error.h"
#include "core/base/tensor_hash.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/deadline.h"
#include "tests/parallel/rank_threads.h"
#include "tests/train/checkpoint/exchange.h"
#include "tests/train/checkpoint/fixture.h"
#include "tests/train/checkpoint/many_ranks.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/report_text.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

void flip(const Path& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(at);
  file.put(byte);
}

TEST(Checkpoint, ComesBackBitForBit) {
  TemporaryDirectory run;
  const SmallRun saved(7);
  save_checkpoint(run.path(), saved.state, saved.slices, 2);
  CheckpointReader reader(run.path());
  EXPECT_TRUE(saved.matches(reader));
  const CheckpointState& state = reader.state();
  EXPECT_EQ(state.next_sequence, 112);
  EXPECT_EQ(state.skipped, saved.state.skipped);
  EXPECT_EQ(state.counters, saved.state.counters);
  EXPECT_EQ(state.texts, saved.state.texts);
  EXPECT_EQ(state.scalars, saved.state.scalars);  // infinity included
  EXPECT_EQ(reader.directory(), run / "checkpoints/step-7");
  EXPECT_EQ(run_of_checkpoint(reader.directory()), run.path());
  EXPECT_EQ(run_of_checkpoint(run.path() / ""), run.path());
  EXPECT_EQ(reader.at("model.norm.weight", "ema").shape, std::vector<int64_t>{10});
  EXPECT_THROW(reader.at("model.norm.weight", "grad"), UserError);
}

TEST(Checkpoint, KeepsTheNewestAndSavesAStepAgain) {
  TemporaryDirectory run;
  Checkpoints checkpoints(run.path(), {.newest = 2});
  for (const int64_t step : {1, 2, 3, 10, 20}) {
    const SmallRun saved(step);
    checkpoints.save(saved.state, saved.slices);
  }
  SmallRun again(20, 50);
  checkpoints.save(again.state, again.slices);
  EXPECT_TRUE(checkpoints.wait());
  EXPECT_EQ(checkpoint_steps(run.path()), (std::vector<int64_t>{10, 20}));
  CheckpointReader reader(run.path());
  EXPECT_TRUE(again.matches(reader));
  EXPECT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), fs::directory_iterator()), 2);
}

TEST(Checkpoint, IsReadBackBesideTheCaller) {
  TemporaryDirectory run;
  Checkpoints checkpoints(run.path(), {.newest = 2});
  for (const int64_t step : {1, 2, 3, 4}) {
    {
      const SmallRun saved(step, 4000);
      checkpoints.save(saved.state, saved.slices);
    }  // the slices are gone while the file is read back
    CheckpointReader reader(run / "checkpoints" / step_name(step));
    EXPECT_TRUE(SmallRun(step, 4000).matches(reader));
  }
  EXPECT_TRUE(checkpoints.wait());
  EXPECT_EQ(checkpoint_steps(run.path()), (std::vector<int64_t>{3, 4}));
}

TEST(Checkpoint, PruningSparesStepsAheadOfTheOneSaved) {
  TemporaryDirectory run;
  for (const int64_t step : {10, 20, 5}) {
    const SmallRun saved(step);
    save_checkpoint(run.path(), saved.state, saved.slices, 1);
  }
  EXPECT_EQ(checkpoint_steps(run.path()), (std::vector<int64_t>{5, 20}));
}

// The last of three ranks finds a directory where its file should be.
TEST(Checkpoint, ARankThatCannotSaveNamesItself) {
  TemporaryDirectory run;
  const SmallRun before(3), now(4);
  save_checkpoint(run.path(), before.state, before.slices, 2);
  Exchange exchange(3);
  std::vector<std::string> said(3);
  const std::string unexpected = testing::run_rank_threads(3, [&](int rank) {
    Checkpoints checkpoints(run.path(), {.newest = 2});
    std::vector<TensorSlice> slices;
    if (rank == 2) {
      slices = now.slices;
      const auto early = std::find_if(slices.begin(), slices.end(), [](const TensorSlice& slice) {
        return slice.part < "master";  // whose file is written before
      });
      ASSERT_NE(early, slices.end());
      early->fill = [&run, bytes = early->data](int64_t first, std::span<std::byte> out) {
        std::filesystem::create_directories(saving_directory(run / "checkpoints", 4) /
                                            "master-00002-of-00003.safetensors");
        std::memcpy(out.data(), bytes.data() + first, out.size());
      };
    }
    try {
      checkpoints.save(now.state, slices, exchange.group(rank));
    } catch (const SystemError& error) {
      said[static_cast<size_t>(rank)] = error.what();
    }
  });
  EXPECT_EQ(unexpected, "");
  for (const std::string& text : said) {
    EXPECT_EQ(text, said[0]);
    for (const char* part :
         {"rank 2 could not save", "master-00002-of-00003.safetensors", "Is a directory"}) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    }
  }
  EXPECT_EQ(checkpoint_steps(run.path()), std::vector<int64_t>{3});
  CheckpointReader reader(run.path());
  EXPECT_TRUE(before.matches(reader));
}

TEST(Checkpoint, AReportOfARankReadsBack) {
  TemporaryDirectory directory;
  const SmallRun whole(4);
  const Path temporary = begin_step(directory / "checkpoints", 4);
  const RankReport report = write_rank(temporary, {1, 4}, 4, whole.slices);
  const RankReport again = parse_report(report_text(report), {1, 4});
  EXPECT_EQ(report_text(again), report_text(report));
  ASSERT_EQ(again.tensors.size(), report.tensors.size());
  for (size_t i = 0; i < again.tensors.size(); ++i) {
    EXPECT_EQ(again.tensors[i].elements, report.tensors[i].elements);
    EXPECT_EQ(again.tensors[i].hash, report.tensors[i].hash);
  }
  EXPECT_THROW((void)parse_report(report_text(report), {2, 4}), UserError);
  EXPECT_THROW((void)parse_report(report_text(report), {1, 3}), UserError);
}

TEST(Checkpoint, SlicesOfManyRanksAddUp) {
  TemporaryDirectory directory;
  const SmallRun whole(4);
  for (const int world : {1, 3, 4}) {
    save_on_ranks(directory.path(), whole, world);
    CheckpointReader reader(directory.path());
    EXPECT_TRUE(whole.matches(reader)) << world;
    // The hash does not depend on who wrote what, and reading in other pieces gives it too.
    const TensorSlice& embedding = whole.slices[0];
    EXPECT_EQ(reader.at(embedding.name, embedding.part).hash, tensor_hash(embedding.data, 4, 0)) << world;
    std::vector<float> piece(150);
    reader.read(embedding.name, embedding.part, 250, std::as_writable_bytes(std::span(piece)));
    EXPECT_EQ(0, std::memcmp(piece.data(), embedding.data.data() + 1000, 600)) << world;
    std::vector<float> rest(250);
    reader.read(embedding.name, embedding.part, 0, std::as_writable_bytes(std::span(rest)));
  }
}

TEST(Checkpoint, RanksThatDoNotCoverATensorAreABug) {
  TemporaryDirectory directory;
  SmallRun whole(4);
  whole.slices[0].elements -= 1;
  whole.slices[0].data = whole.slices[0].data.first(whole.slices[0].data.size() - 4);
  EXPECT_THROW(save_checkpoint(directory.path(), whole.state, whole.slices, 1), InternalError);
  EXPECT_TRUE(fs::is_empty(directory / "checkpoints"));
}

class DamagedCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const int64_t step : {1, 2}) {
      const SmallRun saved(step);
      save_checkpoint(run_.path(), saved.state, saved.slices, 3);
    }
  }
  // The run falls back to step 1, and the damaged step itself is refused.
  std::string expect_passed_over(const std::string& what) {
    CheckpointReader reader(run_.path());
    EXPECT_EQ(reader.state().step, 1) << what;
    EXPECT_TRUE(SmallRun(1).matches(reader)) << what;
    const std::string why = refusal([this] { CheckpointReader{step_}; });
    EXPECT_NE(why, "accepted") << what;
    return why;
  }
  TemporaryDirectory run_;
  const Path step_ = run_ / "checkpoints/step-2";
};

TEST_F(DamagedCheckpoint, TruncatedFilesAreNamed) {
  for (const auto& entry : fs::directory_iterator(step_)) {
    const Path copy = run_ / "copy";
    fs::copy_file(entry.path(), copy, fs::copy_options::overwrite_existing);
    const auto size = fs::file_size(entry.path());
    for (const auto length : {size_t{0}, size_t{1}, size_t{size / 2}, size_t{size - 2}}) {
      fs::resize_file(entry.path(), length);
      const std::string why = expect_passed_over(entry.path().string() + " " + std::to_string(length));
      EXPECT_NE(why.find(entry.path().filename().string()), std::string::npos) << why;
      fs::copy_file(copy, entry.path(), fs::copy_options::overwrite_existing);
    }
  }
  EXPECT_EQ(CheckpointReader(run_.path()).state().step, 2);
}

TEST_F(DamagedCheckpoint, EveryFlippedByteIsFound) {
  for (const auto& entry : fs::directory_iterator(step_)) {
    const auto size = static_cast<int64_t>(fs::file_size(entry.path()));
    const int64_t stride = entry.path().extension() == ".json" ? 1 : 97;
    for (int64_t at = 0; at < size; at += stride) {
      flip(entry.path(), at);
      const std::string why = refusal([this] { CheckpointReader{step_}; });
      // A blank turned into another character is an error too: 0x10 away from blank and newline is no blank.
      EXPECT_NE(why, "accepted") << entry.path() << " byte " << at;
      EXPECT_NE(why.find(entry.path().filename().string()), std::string::npos) << why;
      flip(entry.path(), at);
    }
  }
  EXPECT_EQ(CheckpointReader(step_).state().step, 2);
}

TEST_F(DamagedCheckpoint, ARunFallsBackWhateverIsAskedToBeVerified) {
  const Path file = step_ / "master-00000-of-00001.safetensors";
  flip(file, static_cast<int64_t>(fs::file_size(file)) - 3);
  EXPECT_EQ(CheckpointReader(run_.path(), Verify::headers).state().step, 1);
}

TEST_F(DamagedCheckpoint, BytesThatChangeAfterTheCheckAreFoundWhenRead) {
  CheckpointReader reader(step_);
  const Path file = step_ / "ema-00000-of-00001.safetensors";
  flip(file, static_cast<int64_t>(fs::file_size(file)) - 3);
  const std::string why = refusal([&] { SmallRun(2).matches(reader); });
  EXPECT_NE(why.find("ema-00000-of-00001"), std::string::npos) << why;
}

TEST_F(DamagedCheckpoint, FilesOfOtherStepsAndRunsAreRefused) {
  const Path mine = step_ / "master-00000-of-00001.safetensors";
  fs::copy_file(run_ / "checkpoints/step-1/master-00000-of-00001.safetensors", mine,
                fs::copy_options::overwrite_existing);
  EXPECT_NE(expect_passed_over("swapped").find("hash"), std::string::npos);
  const std::string why = refusal([this] { CheckpointReader(step_, Verify::headers); });
  EXPECT_NE(why.find("its step is '1'"), std::string::npos) << why;
  fs::copy_file(run_ / "checkpoints/step-1/manifest.json", step_ / "manifest.json",
                fs::copy_options::overwrite_existing);
  EXPECT_NE(expect_passed_over("other manifest").find("manifest of step 1"), std::string::npos);
}

TEST_F(DamagedCheckpoint, LeftoversAreNotSteps) {
  fs::create_directory(run_ / "checkpoints/.saving-step-9");
  fs::create_directory(run_ / "checkpoints/step-009");
  fs::create_directory(run_ / "checkpoints/step-x");
  EXPECT_EQ(CheckpointReader(run_.path()).state().step, 2);
  fs::create_directory(run_ / "checkpoints/step-9");  // what a copy that stopped half-way leaves
  EXPECT_EQ(CheckpointReader(run_.path()).state().step, 2);
  EXPECT_NE(refusal([this] { CheckpointReader(run_ / "checkpoints/step-9"); }).find("manifest.json"),
            std::string::npos);
  EXPECT_NE(refusal([this] { CheckpointReader(run_ / "nothing"); }).find("does not exist"),
            std::string::npos);
  fs::create_directory(run_ / "empty");
  EXPECT_NE(refusal([this] { CheckpointReader(run_ / "empty"); }).find("no checkpoint to load"),
            std::string::npos);
}

TEST(TensorHash, AddsUpOverSlicesAndSeesEveryChange) {
  std::vector<float> values(1000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7);
  const std::span<const float> all(values);
  const uint64_t whole = tensor_hash(all, 0);
  EXPECT_EQ(whole, tensor_hash(all.subspan(300), 300) + tensor_hash(all.first(300), 0));
  EXPECT_EQ(whole, tensor_hash(std::as_bytes(all), 4, 0));
  std::swap(values[3], values[4]);
  EXPECT_NE(whole, tensor_hash(all, 0));
  std::swap(values[3], values[4]);
  values[999] = -values[999];
  EXPECT_NE(whole, tensor_hash(all, 0));
  // Fixed for ever: checkpoints carry it.
  EXPECT_EQ(hash_mix(0, 0), 0xd137abf77f759be5u);
  EXPECT_EQ(hash_mix(123456789012, 0x3f800000), 0x778c3780249a652bu);
}

}  // namespace
}  // namespace toroid
