// Every kind of damage is named with file, bytes, tensor and rank, and all of it at once.
#include "train/checkpoint/step_check.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "core/base/error.h"
#include "core/base/io/safetensors.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/checkpoint/many_ranks.h"
#include "train/checkpoint/manifest.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

void flip_bit(const Path& path, int64_t at, int bit = 4) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ (1 << bit));
  file.seekp(at);
  file.put(byte);
}

std::string all_text(const StepCheck& check) {
  std::string text;
  for (const Fault& fault : check.faults) text += to_text(fault) + "\n";
  return text;
}

bool names(const StepCheck& check, const std::string& word) {
  return all_text(check).find(word) != std::string::npos;
}

// More than one block of 16 MiB in each rank's file of each part, since damage is placed by blocks.
constexpr int64_t kRows = 1'000'000;

class StepDamage : public ::testing::Test {
 protected:
  void save(int64_t step, int world, int64_t rows) {
    save_on_ranks(run_.path(), SmallRun(step, rows), world);
  }
  Path step(int64_t number) const { return run_ / "checkpoints" / ("step-" + std::to_string(number)); }
  static StepCheck check(const Path& path, Depth depth = Depth::contents, int threads = 2) {
    return check_step(path, {.depth = depth, .from_disk = false, .threads = threads});
  }
  // The bytes of a slice in its file, by what the file's own header says.
  static TensorInfo stored(const Path& file, const std::string& name) {
    return SafetensorsFile(file).at(name);
  }

  TemporaryDirectory run_;
};

TEST_F(StepDamage, AWholeStepHasNone) {
  save(3, 3, 40);
  for (const Depth depth : {Depth::lengths, Depth::contents}) {
    const StepCheck found = check(step(3), depth);
    EXPECT_TRUE(found.whole()) << all_text(found);
    EXPECT_EQ(found.slices.size(), 8u);
    const auto manifest = static_cast<int64_t>(fs::file_size(step(3) / "manifest.json"));
    EXPECT_EQ(found.bytes_read, depth == Depth::contents ? found.bytes - manifest : 0);
    const auto& slices = found.slices.at({"ema", "model.embed_tokens.weight"});
    ASSERT_EQ(slices.size(), 3u);
    EXPECT_EQ(slices[2].rank, 2);
    EXPECT_EQ(slices[2].offset, 266);
    EXPECT_EQ(slices[2].elements, 134);
  }
  EXPECT_THROW(check(step(4)), UserError);
}

TEST_F(StepDamage, IsPlacedInItsBlockTensorAndRank) {
  save(5, 2, kRows);
  const Path second = step(5) / "master-00001-of-00002.safetensors";
  const TensorInfo embedding = stored(second, "model.embed_tokens.weight@5000000");
  ASSERT_GT(embedding.bytes, FileDigest::kBlockBytes);
  flip_bit(second, embedding.offset + FileDigest::kBlockBytes, 0);
  const Path average = step(5) / "ema-00000-of-00002.safetensors";
  flip_bit(average, stored(average, "model.norm.weight@0").offset + 1);
  for (const int threads : {1, 4}) {
    const StepCheck found = check(step(5), Depth::contents, threads);
    ASSERT_EQ(found.faults.size(), 2u) << all_text(found);
    const Fault& in_ema = found.faults[0].file < found.faults[1].file ? found.faults[0] : found.faults[1];
    const Fault& in_master = found.faults[0].file < found.faults[1].file ? found.faults[1] : found.faults[0];
    EXPECT_EQ(in_master.file, "master-00001-of-00002.safetensors");
    EXPECT_EQ(in_master.rank, 1);
    EXPECT_EQ(in_master.first, FileDigest::kBlockBytes);
    ASSERT_EQ(in_master.tensors.size(), 1u) << all_text(found);
    EXPECT_EQ(in_master.tensors[0].name, "model.embed_tokens.weight");
    EXPECT_EQ(in_master.tensors[0].part, "master");
    const int64_t damaged = 5'000'000 + FileDigest::kBlockBytes / 4;
    EXPECT_LE(in_master.tensors[0].first, damaged);
    EXPECT_GT(in_master.tensors[0].last, damaged);
    // The embedding shares the block, but has its hash.
    EXPECT_EQ(in_ema.rank, 0);
    ASSERT_EQ(in_ema.tensors.size(), 1u) << all_text(found);
    EXPECT_EQ(in_ema.tensors[0].name, "model.norm.weight");
  }
}

// A bit of each kind of byte: the header's length, its text, its padding or metadata, data, and the manifest.
TEST_F(StepDamage, EveryFlippedBitIsNamedWithItsFile) {
  save(2, 2, 40);
  ASSERT_TRUE(check(step(2)).whole());
  for (const auto& entry : fs::directory_iterator(step(2))) {
    const auto size = static_cast<int64_t>(fs::file_size(entry.path()));
    const bool manifest = entry.path().extension() == ".json";
    for (int64_t at = 0; at < size; at += at < 16 ? 1 : (manifest ? 23 : 41)) {
      const int bit = static_cast<int>(at % 8);
      flip_bit(entry.path(), at, bit);
      const StepCheck found = check(step(2));
      EXPECT_TRUE(names(found, entry.path().filename().string()))
          << entry.path() << " byte " << at << " bit " << bit << ": " << all_text(found);
      flip_bit(entry.path(), at, bit);
    }
  }
  EXPECT_TRUE(check(step(2)).whole());
}

TEST_F(StepDamage, FilesThatAreCutOffAreNamedWithWhatTheyLack) {
  save(2, 2, 40);
  const Path file = step(2) / "exp_avg-00001-of-00002.safetensors";
  const Path copy = run_ / "copy";
  fs::copy_file(file, copy);
  const auto size = fs::file_size(file);
  for (const size_t length : {size_t{0}, size_t{1}, size_t{size / 2}, size_t{size - 1}}) {
    fs::resize_file(file, length);
    for (const Depth depth : {Depth::lengths, Depth::contents}) {
      const StepCheck found = check(step(2), depth);
      EXPECT_FALSE(found.whole()) << length;
      EXPECT_TRUE(names(found, "exp_avg-00001-of-00002.safetensors (written by rank 1)")) << all_text(found);
      EXPECT_TRUE(names(found, "is cut off: " + std::to_string(length) + " bytes")) << all_text(found);
      EXPECT_TRUE(names(found, "(exp_avg) elements")) << all_text(found);
    }
    fs::copy_file(copy, file, fs::copy_options::overwrite_existing);
  }
  std::ofstream(file, std::ios::app) << "x";
  EXPECT_TRUE(names(check(step(2), Depth::lengths), "is longer than it was"));
  fs::remove(file);
  EXPECT_TRUE(
      names(check(step(2), Depth::lengths), "exp_avg-00001-of-00002.safetensors (written by rank 1)"));
}

TEST_F(StepDamage, FilesOfOtherRanksStepsAndRunsAreNamed) {
  save(2, 2, 40);
  save(3, 2, 40);
  const Path first = step(3) / "ema-00000-of-00002.safetensors",
             second = step(3) / "ema-00001-of-00002.safetensors";
  fs::rename(first, run_ / "x");
  fs::rename(second, first);
  fs::rename(run_ / "x", second);
  const StepCheck swapped = check(step(3));
  EXPECT_TRUE(names(swapped,
                    "ema-00000-of-00002.safetensors (written by rank 0) is not the file that the "
                    "manifest means: its rank is '1', not '0'"))
      << all_text(swapped);
  EXPECT_TRUE(names(swapped, "its rank is '0', not '1'")) << all_text(swapped);
  EXPECT_TRUE(names(swapped, "the hash of these bytes")) << all_text(swapped);

  save(4, 2, 40);
  fs::copy_file(step(2) / "master-00000-of-00002.safetensors", step(4) / "master-00000-of-00002.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_TRUE(names(check(step(4)), "its step is '2', not '4'"));

  // The manifest of another run's step of the same number and shapes: nothing but hashes tells.
  TemporaryDirectory other;
  SmallRun changed(2, 40);
  changed.slices[0].data = changed.slices[2].data;
  save_on_ranks(other.path(), changed, 2);
  fs::copy_file(other / "checkpoints/step-2/manifest.json", step(2) / "manifest.json",
                fs::copy_options::overwrite_existing);
  const StepCheck foreign = check(step(2));
  EXPECT_TRUE(names(foreign, "master-00000-of-00002.safetensors (written by rank 0), bytes 0"))
      << all_text(foreign);
  EXPECT_TRUE(names(foreign, "model.embed_tokens.weight (master)")) << all_text(foreign);

  fs::copy_file(step(2) / "manifest.json", step(4) / "manifest.json", fs::copy_options::overwrite_existing);
  EXPECT_TRUE(names(check(step(4)), "its name says step 4, but it holds the manifest of step 2"));
}

// Other number of ranks in the files than in the manifest: a file of another save, whole in itself.
TEST_F(StepDamage, MixedSavesAreNamed) {
  save(2, 2, 40);
  save(3, 1, 40);
  fs::copy_file(step(3) / "master-00000-of-00001.safetensors", step(2) / "master-00000-of-00002.safetensors",
                fs::copy_options::overwrite_existing);
  const StepCheck found = check(step(2), Depth::lengths);
  EXPECT_TRUE(names(found, "its world_size is '1', not '2'")) << all_text(found);
  EXPECT_TRUE(names(found, "do not cover 2 tensors exactly once: model.embed_tokens.weight (master)"))
      << all_text(found);
}

// A manifest that was made anew around a wrong tensor hash: the files' own hashes do not show it.
TEST_F(StepDamage, ATensorWhoseHashIsWrongIsNamedThoughItsFilesAreRight) {
  save(2, 2, 40);
  Manifest manifest = read_manifest(step(2));
  manifest.tensors[3].hash += 1;
  std::ofstream(step(2) / "manifest.json") << manifest_text(manifest);
  const StepCheck found = check(step(2));
  ASSERT_EQ(found.faults.size(), 1u) << all_text(found);
  EXPECT_TRUE(names(found, "does not have the hash of the manifest, though the bytes of its files do"));
  EXPECT_EQ(found.faults[0].tensors[0].name, manifest.tensors[3].name);
  EXPECT_TRUE(check(step(2), Depth::lengths).whole());
}

TEST_F(StepDamage, WithoutAManifestTheFilesAreLookedAtAllTheSame) {
  save(2, 2, 40);
  save(3, 2, 40);
  fs::remove(step(2) / "manifest.json");
  fs::remove(step(2) / "master-00001-of-00002.safetensors");
  fs::resize_file(step(2) / "ema-00001-of-00002.safetensors", 100);
  fs::copy_file(step(3) / "exp_avg-00000-of-00002.safetensors",
                step(2) / "exp_avg-00000-of-00002.safetensors", fs::copy_options::overwrite_existing);
  const StepCheck found = check(step(2));
  for (const char* word : {"manifest.json is missing", "ema-00001-of-00002.safetensors", "of 1 of 2 ranks",
                           "exp_avg-00000-of-00002.safetensors is of step '3'"}) {
    EXPECT_TRUE(names(found, word)) << word << "\n" << all_text(found);
  }
  std::ofstream(step(3) / "manifest.json", std::ios::trunc) << "{\"format\": \"toroid checkpoint\"";
  EXPECT_TRUE(names(check(step(3)), "manifest.json cannot be used"));
}

// A hash of the manifest that flipped: the seal says so, and the file is compared all the same.
TEST_F(StepDamage, ADamagedManifestIsStillUsed) {
  save(2, 1, 40);
  Manifest manifest = read_manifest(step(2));
  std::string text = manifest_text(manifest);
  const std::string digest = manifest.files[1].digest.xxh3;
  const size_t at = text.find(digest);
  ASSERT_NE(at, std::string::npos);
  text[at] = text[at] == '0' ? '1' : '0';
  std::ofstream(step(2) / "manifest.json", std::ios::trunc) << text;
  const StepCheck found = check(step(2));
  EXPECT_TRUE(names(found, "manifest.json is damaged or was changed: its seal")) << all_text(found);
  EXPECT_TRUE(names(found, manifest.files[1].name + " (written by rank 0) does not have the hash"))
      << all_text(found);
}

}  // namespace
}  // namespace toroid
