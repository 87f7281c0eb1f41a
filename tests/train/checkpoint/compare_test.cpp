// Checkpoints beside each other, their statistics, and what they are converted to.
#include "train/checkpoint/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "core/base/error.h"
#include "core/base/io/safetensors.h"
#include "core/base/tensor_hash.h"
#include "core/tensor/dtype.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/checkpoint/many_ranks.h"
#include "train/checkpoint/convert.h"
#include "train/checkpoint/elements.h"
#include "train/checkpoint/step_check.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

// One tensor of these values, on `ranks` ranks.
void save_values(const Path& run, std::vector<float> values, int ranks) {
  SmallRun one(1);
  one.slices = {{.name = "w",
                 .part = "master",
                 .global_shape = {static_cast<int64_t>(values.size())},
                 .offset = 0,
                 .elements = static_cast<int64_t>(values.size()),
                 .data = std::as_bytes(std::span(values))}};
  save_on_ranks(run, one, ranks);
}

TensorDifference difference_of(const std::vector<float>& a, const std::vector<float>& b) {
  TemporaryDirectory left, right;
  save_values(left.path(), a, 2);
  save_values(right.path(), b, 3);
  CheckpointReader first(left.path()), second(right.path());
  const auto all = compare_tensors(first, second);
  EXPECT_EQ(all.size(), 1u);
  return all.at(0);
}

TEST(CompareCheckpoints, EqualWhateverTheLayout) {
  TemporaryDirectory a, b;
  save_on_ranks(a.path(), SmallRun(4), 1);
  save_on_ranks(b.path(), SmallRun(4), 3);
  CheckpointReader first(a.path()), second(b.path());
  for (const TensorDifference& one : compare_tensors(first, second)) {
    EXPECT_EQ(one.kind, Difference::none) << one.name;
  }
  EXPECT_TRUE(compare_states(first.state(), second.state()).empty());
}

TEST(CompareCheckpoints, FindsTheLargestDifference) {
  std::vector<float> a(700'000, 0.5F), b = a;
  b[3] = 0.25F;
  b[600'000] = 1.5F;  // in a later piece
  const TensorDifference found = difference_of(a, b);
  EXPECT_EQ(found.kind, Difference::values);
  EXPECT_EQ(found.different, 2);
  EXPECT_EQ(found.largest, 1);
  EXPECT_EQ(found.index, 600'000);
  EXPECT_EQ(found.a_there, 0.5);
  EXPECT_EQ(found.b_there, 1.5);
  EXPECT_NEAR(found.norm_difference, std::sqrt(1 + 0.0625), 1e-12);
  EXPECT_NEAR(found.norm_a, std::sqrt(700'000 * 0.25), 1e-9);
  EXPECT_NEAR(found.relative(), std::sqrt(1.0625) / std::sqrt(175'000.0), 1e-12);
}

TEST(CompareCheckpoints, WhatIsNotFiniteIsCountedApart) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const TensorDifference found = difference_of({inf, nan, nan, 1, 2}, {inf, nan, 3, nan, 2.5F});
  EXPECT_EQ(found.different, 3);
  EXPECT_EQ(found.not_finite, 2);
  EXPECT_EQ(found.largest, 0.5);
  EXPECT_EQ(found.index, 4);
  EXPECT_EQ(found.norm_difference, 0.5);
}

TEST(CompareCheckpoints, OneBitOfASignIsADifference) {
  const TensorDifference found = difference_of({0.0F, 1}, {-0.0F, 1});
  EXPECT_EQ(found.kind, Difference::values);
  EXPECT_EQ(found.different, 1);
  EXPECT_EQ(found.largest, 0);
}

TEST(CompareCheckpoints, NamesTensorsAndValuesOfOneSide) {
  TemporaryDirectory a, b;
  SmallRun left(4), right(5, 41);
  right.slices.pop_back();
  right.state.counters.erase("updates");
  right.state.texts["tokenizer"] = "abd";
  right.state.scalars["z_mean"] = std::nextafter(left.state.scalars["z_mean"], 1.0);
  save_on_ranks(a.path(), left, 1);
  save_on_ranks(b.path(), right, 2);
  CheckpointReader first(a.path()), second(b.path());
  int shapes = 0, only = 0;
  for (const TensorDifference& one : compare_tensors(first, second)) {
    shapes += one.kind == Difference::shape ? 1 : 0;
    only += one.kind == Difference::only_a ? 1 : 0;
  }
  EXPECT_EQ(shapes, 4);
  EXPECT_EQ(only, 1);
  EXPECT_EQ(compare_tensors(first, second, {"ema"}).size(), 2u);
  std::string names;
  for (const ValueDifference& one : compare_states(first.state(), second.state())) names += one.name + " ";
  EXPECT_EQ(names, "step data.next_sequence counters.updates scalars.z_mean texts.tokenizer ");
}

TEST(CheckpointStatistics, OfKnownValues) {
  TemporaryDirectory run;
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values(600'000);  // several pieces
  for (size_t i = 0; i < values.size(); ++i) values[i] = i % 2 == 0 ? 1000.25F : 999.75F;
  values[7] = -inf;
  values[9] = std::nanf("");
  values[11] = 0;
  save_values(run.path(), values, 2);
  CheckpointReader reader(run.path());
  const ElementStatistics of = statistics_of(reader, reader.at("w", "master"));
  double sum = 0, squares = 0;
  for (const float value : values) sum += std::isfinite(value) ? static_cast<double>(value) : 0;
  const double count = 600'000 - 2, mean = sum / count;
  double spread = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    spread += std::pow(static_cast<double>(value) - mean, 2);
    squares += std::pow(static_cast<double>(value), 2);
  }
  EXPECT_EQ(of.elements, 600'000);
  EXPECT_EQ(of.zeros, 1);
  EXPECT_EQ(of.not_finite, 2);
  EXPECT_EQ(of.least, 0);
  EXPECT_EQ(of.most, 1000.25);
  EXPECT_NEAR(of.mean, mean, 1e-9);
  EXPECT_NEAR(of.deviation, std::sqrt(spread / count), 1e-9);
  EXPECT_NEAR(of.rms, std::sqrt(squares / count), 1e-9);
}

class Converted : public ::testing::Test {
 protected:
  void SetUp() override { save_on_ranks(run_ / "from", saved_, 2); }
  TemporaryDirectory run_;
  const SmallRun saved_{6};
  const Path step_ = run_ / "from/checkpoints/step-6";
};

TEST_F(Converted, ForOtherRanksKeepsEveryHash) {
  CheckpointReader before(step_);
  for (const int ranks : {1, 3, 16}) {
    const Path out = run_ / ("ranks-" + std::to_string(ranks));
    const Path step = convert_step({.from = step_, .out = out, .ranks = ranks, .cut = even_cut(ranks)});
    EXPECT_EQ(step, out / "checkpoints/step-6");
    const StepCheck check = check_step(step, {.from_disk = false});
    EXPECT_TRUE(check.whole()) << to_text(check.faults.at(0));
    EXPECT_EQ(check.manifest->world_size, ranks);
    CheckpointReader after(out);
    EXPECT_TRUE(saved_.matches(after));
    for (const TensorDifference& one : compare_tensors(before, after)) EXPECT_EQ(one.kind, Difference::none);
    EXPECT_TRUE(compare_states(before.state(), after.state()).empty());
    EXPECT_EQ(after.state().lineage.parent, before.id());
    EXPECT_THROW(convert_step({.from = step_, .out = out, .ranks = ranks, .cut = even_cut(ranks)}),
                 UserError);
  }
}

TEST_F(Converted, OnePartInAnotherTypeAndBack) {
  const Path half = run_ / "half";
  convert_step({.from = step_,
                .out = half,
                .ranks = 2,
                .cut = even_cut(2),
                .parts = {"ema"},
                .type = ElementType::bf16});
  CheckpointReader reader(half), before(step_);
  EXPECT_EQ(reader.at("model.norm.weight", "ema").type, ElementType::bf16);
  EXPECT_EQ(reader.at("model.norm.weight", "master").type, ElementType::f32);
  for (const TensorDifference& one : compare_tensors(before, reader)) {
    EXPECT_TRUE(one.part == "ema" || one.kind == Difference::none) << one.name;
    EXPECT_LE(one.relative(), 1.0 / 256);
  }
  const CheckpointTensor& tensor = reader.at("model.embed_tokens.weight", "ema");
  std::vector<float> now(400), was(400);
  read_elements(reader, tensor, 0, now);
  read_elements(before, before.at("model.embed_tokens.weight", "ema"), 0, was);
  for (size_t i = 0; i < now.size(); ++i) EXPECT_EQ(now[i], from_bf16(to_bf16(was[i])));
  // bf16 is fp32 of fewer bits: the way back loses nothing.
  const Path whole = run_ / "whole";
  convert_step({.from = half, .out = whole, .ranks = 1, .cut = even_cut(1), .type = ElementType::f32});
  CheckpointReader again(whole);
  EXPECT_EQ(again.at("model.norm.weight", "ema").type, ElementType::f32);
  std::vector<float> back(400);
  read_elements(again, again.at("model.embed_tokens.weight", "ema"), 0, back);
  EXPECT_EQ(back, now);
  EXPECT_THROW(convert_step({.from = step_,
                             .out = run_ / "none",
                             .ranks = 1,
                             .cut = even_cut(1),
                             .parts = {"grad"},
                             .type = ElementType::f32}),
               UserError);
  EXPECT_FALSE(fs::exists(run_ / "none"));
}

TEST_F(Converted, ToPlainSafetensorsInOneFileOrSeveral) {
  EXPECT_EQ(convert_to_plain({.from = step_, .out = run_ / "one"}), 410);
  const SafetensorsFile one(run_ / "one/model.safetensors");
  ASSERT_EQ(one.tensors().size(), 2u);
  std::vector<std::byte> bytes(1600);
  one.read("model.embed_tokens.weight", bytes);
  CheckpointReader reader(step_);
  EXPECT_EQ(tensor_hash(bytes, 4, 0), reader.at("model.embed_tokens.weight", "master").hash);
  EXPECT_EQ(one.at("model.embed_tokens.weight").shape, (std::vector<int64_t>{40, 10}));

  convert_to_plain(
      {.from = step_, .out = run_ / "two", .part = "ema", .type = ElementType::bf16, .shard_bytes = 100});
  const SafetensorsModel two(run_ / "two");
  EXPECT_EQ(two.tensors().size(), 2u);
  EXPECT_EQ(two.at("model.norm.weight").tensor->type, ElementType::bf16);
  EXPECT_NE(two.at("model.norm.weight").file, two.at("model.embed_tokens.weight").file);
  EXPECT_THROW(convert_to_plain({.from = step_, .out = run_ / "two"}), UserError);
}

TEST_F(Converted, FromDamageIsRefusedAndLeavesNothing) {
  const Path file = step_ / "ema-00001-of-00002.safetensors";
  {
    const auto end = static_cast<int64_t>(fs::file_size(file)) - 2;
    std::FILE* open = std::fopen(file.c_str(), "r+b");
    ASSERT_EQ(std::fseek(open, end, SEEK_SET), 0);
    std::fputc('x', open);
    std::fclose(open);
  }
  CheckpointReader one(step_, Verify::headers), other(step_, Verify::headers);
  EXPECT_EQ(compare_tensors(one, other).size(), 8u);  // by hash, unread
  EXPECT_THROW(compare_tensors(one, other, {}, true), UserError);
  EXPECT_THROW(convert_step({.from = step_, .out = run_ / "out", .ranks = 1, .cut = even_cut(1)}), UserError);
  EXPECT_FALSE(fs::exists(run_ / "out"));
  EXPECT_THROW(convert_to_plain({.from = step_, .out = run_ / "out", .part = "ema"}), UserError);
  EXPECT_FALSE(fs::exists(run_ / "out"));
}

}  // namespace
}  // namespace toroid
