// Sweeps: the rows there are, what weak scaling keeps, and refusals that do not end a sweep.
#include "simulate/answer/sweep.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "core/base/error.h"
#include "tests/simulate/answers.h"

namespace toroid::test {
namespace {

using train::Answer;
using train::Sweep;
using train::SweepAxis;
using train::SweepRequest;
using train::SweepRow;

Answer simulated(const config::RunConfig& run, const sim::Chip& chip) {
  return answered(run, chip, train::simulate(run, chip, plugins()));
}

// An answer without a simulation, that tells the configs apart.
Answer counted(const config::RunConfig& run, const sim::Chip& chip) {
  Answer out;
  out.chip = chip.name;
  out.chips = run.mesh().pods() * 256;
  out.step = Seconds(1);
  out.tokens_per_step = run.batch().global_sequences();
  out.memory.peak_bytes = 1;
  out.memory.chip_bytes = 2;
  return out;
}

Sweep run(const std::vector<std::string>& axes, const train::Simulator& simulator = counted,
          bool weak = false, const std::string& config = kGemma7b) {
  SweepRequest request;
  request.config = config;
  request.weak = weak;
  for (const std::string& axis : axes) request.axes.push_back(train::sweep_axis(axis));
  return train::sweep(request, plugins(), simulator);
}

std::string fault(const std::function<void()>& what) {
  try {
    what();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\nis not in\n" << text;
}

TEST(Sweep, an_axis_is_a_path_and_values) {
  const SweepAxis pods = train::sweep_axis("mesh.pods=1, 2,16");
  EXPECT_EQ(pods.path, "mesh.pods");
  EXPECT_EQ(pods.values, (std::vector<std::string>{"1", "2", "16"}));
  const SweepAxis torus = train::sweep_axis("mesh.torus=[16,16],[8, 32]");
  EXPECT_EQ(torus.values, (std::vector<std::string>{"[16,16]", "[8, 32]"}));
  const SweepAxis messages = train::sweep_axis("zero={ stage: 1, prefetch: 2 },{ stage: 3 }");
  EXPECT_EQ(messages.values, (std::vector<std::string>{"{ stage: 1, prefetch: 2 }", "{ stage: 3 }"}));
  for (const char* wrong : {"mesh.pods", "=1,2", "", "mesh.pods=", "mesh.pods=1,,2", "mesh.pods=1, "})
    EXPECT_THROW(train::sweep_axis(wrong), UserError) << wrong;
}

TEST(Sweep, rows_are_every_combination_and_the_last_axis_is_fastest) {
  const Sweep sweep = run({"mesh.pods=1,2,3", "zero.stage=1,3"});
  ASSERT_EQ(sweep.rows.size(), 6u);
  std::string order;
  for (const SweepRow& row : sweep.rows) {
    order += row.values[0] + row.values[1] + " ";
    EXPECT_TRUE(row.answer) << row.refusal;
  }
  EXPECT_EQ(order, "11 13 21 23 31 33 ");
  EXPECT_EQ(sweep.rows[4].answer->chips, 3 * 256);
}

TEST(Sweep, weak_scaling_keeps_the_sequences_of_a_replica) {
  // 512 sequences over 16 pods x 16 replicas: two each.
  const Sweep sweep = run({"mesh.pods=1,16,199", "mesh.data=16,32"}, counted, true);
  std::vector<int64_t> sequences;
  for (const SweepRow& row : sweep.rows) sequences.push_back(row.global_sequences);
  // data 32 x model 16 is no pod of 16 x 16: refused, and the sweep goes on.
  EXPECT_EQ(sequences, (std::vector<int64_t>{32, 0, 512, 0, 6368, 0}));
  expect_has(sweep.rows[1].refusal, "mesh.data");
  EXPECT_EQ(run({"mesh.pods=1,199"}).rows[1].global_sequences, 512);
  const Sweep split = run(
      {"mesh={ torus: [16, 16] data: 256 },{ torus: [16, 16] data: 16 model: 16 pods: 2 }"}, counted, true);
  EXPECT_EQ(split.rows[0].global_sequences, 512) << split.rows[0].refusal;
  EXPECT_EQ(split.rows[1].global_sequences, 64) << split.rows[1].refusal;
}

TEST(Sweep, weak_scaling_refuses_what_leaves_a_remainder) {
  SweepRequest request;
  request.config = kGemma7b;
  request.overrides = {"batch.global_sequences=300"};
  request.axes = {train::sweep_axis("mesh.pods=16,1")};
  request.weak = true;
  const Sweep sweep = train::sweep(request, plugins(), counted);
  EXPECT_EQ(sweep.rows[0].global_sequences, 300);
  EXPECT_EQ(sweep.rows[1].refusal,
            "batch.global_sequences (300) does not scale from 256 replicas to 16 without a remainder; choose "
            "a multiple of 256");
}

TEST(Sweep, a_refused_row_says_why_and_the_sweep_goes_on) {
  const Sweep sweep = run({"chip=v5e,v9", "mesh.torus=[16,16],[32,8]", "model.heads=16,0"}, simulated, true);
  ASSERT_EQ(sweep.rows.size(), 8u);
  EXPECT_TRUE(sweep.rows[0].answer) << sweep.rows[0].refusal;
  expect_has(sweep.rows[1].refusal, "model.heads is 0");
  expect_has(sweep.rows[2].refusal, "a dimension of 32 does not fit on one of 16");
  expect_has(sweep.rows[4].refusal, "there is no chip 'v9'");
  for (const SweepRow& row : sweep.rows) EXPECT_NE(row.answer.has_value(), !row.refusal.empty());
}

TEST(Sweep, what_does_not_fit_in_memory_says_what_it_needs) {
  const Sweep sweep =
      run({"batch.sequences_per_replica=1,2", "train.remat=FULL,NONE"}, simulated, false, kGemma2b);
  EXPECT_TRUE(sweep.rows[0].answer) << sweep.rows[0].refusal;
  EXPECT_FALSE(sweep.rows[3].answer);
  expect_has(sweep.rows[3].refusal, "of the chip's 16.00 GB: activations ");
}

TEST(Sweep, a_slip_of_the_pen_is_no_row) {
  expect_has(fault([] { run({"mesh.podz=1,2"}); }), "did you mean mesh.pods?");
  expect_has(fault([] { run({"mesh.pods=one,two"}); }), "mesh.pods");
  expect_has(fault([] { run({"mesh.pods=1", "mesh.pods=2"}); }), "given twice");
  expect_has(fault([] { run({"mesh.pods=1"}, counted, false, "configs/none.textproto"); }), "does not exist");
  expect_has(fault([] { run({"batch.global_sequences=1,2"}, counted, true); }), "do not sweep it");
}

TEST(Sweep, too_many_rows_are_refused_before_the_first) {
  SweepAxis pods{"mesh.pods", std::vector<std::string>(101, "1")};
  SweepAxis stages{"zero.stage", std::vector<std::string>(100, "1")};
  SweepRequest request;
  request.config = kGemma7b;
  request.axes = {pods, stages};
  expect_has(fault([&] { train::sweep(request, plugins(), counted); }),
             "the sweep has 101 x 100 configurations; at most 10,000 are simulated");
  request.axes = std::vector<SweepAxis>(40, stages);
  expect_has(fault([&] { train::sweep(request, plugins(), counted); }), "at most 10,000");
}

TEST(Sweep, a_step_too_long_to_record_is_refused) {
  const Sweep sweep = run({"batch.global_sequences=512,16777216"}, simulated);
  EXPECT_TRUE(sweep.rows[0].answer) << sweep.rows[0].refusal;
  expect_has(sweep.rows[1].refusal, "a step of 65536 microbatches and 28 layers is too long to simulate");
}

TEST(Sweep, configs_are_swept_as_well) {
  const Sweep sweep =
      run({std::string("config=") + kGemma2b + "," + kGemma7b + ",none.textproto", "mesh.pods=1,4"}, counted,
          true, "");
  ASSERT_EQ(sweep.rows.size(), 6u);
  // 2B has 512 sequences on 2 pods, 7B on 16.
  EXPECT_EQ(sweep.rows[0].global_sequences, 256);
  EXPECT_EQ(sweep.rows[1].global_sequences, 1024);
  EXPECT_EQ(sweep.rows[2].global_sequences, 32);
  EXPECT_EQ(sweep.rows[3].global_sequences, 128);
  expect_has(sweep.rows[4].refusal, "does not exist");
}

TEST(Sweep, csv_has_a_line_a_row_and_quotes_what_needs_it) {
  const Sweep sweep = run({"mesh.torus=[16,16],[32,8]"}, simulated);
  const std::string csv = train::sweep_csv(sweep);
  std::istringstream lines(csv);
  std::string head, first, second, more;
  std::getline(lines, head);
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_FALSE(std::getline(lines, more)) << more;
  EXPECT_EQ(head.rfind("mesh.torus,global_sequences,chips,tokens_per_step,simulated_step_s,", 0), 0u) << head;
  ASSERT_TRUE(sweep.rows[0].answer) << sweep.rows[0].refusal;
  const train::TimeSplit& split = sweep.rows[0].answer->split;
  // The parts of the step follow it, all of them.
  const std::string expected =
      fmt::format("\"[16,16]\",512,4096,4194304,{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},",
                  sweep.rows[0].answer->step.count(), split.products.count(), split.vector_bound.count(),
                  split.memory_bound.count(), split.torus.count(), split.pods.count());
  EXPECT_EQ(first.rfind(expected, 0), 0u) << first;
  EXPECT_EQ(second.rfind("\"[32,8]\",512,,,", 0), 0u) << second;
  // As many columns in each; the reason has commas.
  const auto columns = [](const std::string& line) {
    bool quoted = false;
    int64_t count = 1;
    for (const char c : line) {
      if (c == '"') quoted = !quoted;
      if (c == ',' && !quoted) ++count;
    }
    return count;
  };
  EXPECT_EQ(columns(head), columns(first)) << first;
  EXPECT_EQ(columns(head), columns(second)) << second;
}

TEST(Sweep, the_table_is_labelled_and_names_refusals) {
  std::ostringstream out;
  train::print_sweep(out, run({"mesh.torus=[16,16],[32,8]"}, simulated, true));
  expect_has(out.str(), "simulated, weak scaling");
  expect_has(out.str(), "refused: the mesh is");
  expect_has(out.str(), "2 configurations in");
  expect_has(out.str(), "1 refused");
}

TEST(Sweep, a_hundred_configurations_take_less_than_a_minute) {
  const Sweep sweep =
      run({"mesh.pods=1,2,3,4,8,16,32,64,128,199", "zero.prefetch=0,1,2,3,4", "train.remat=CHEAP,FULL"},
          simulated, true);
  ASSERT_EQ(sweep.rows.size(), 100u);
  EXPECT_LT(sweep.took.count(), 60);
  for (const SweepRow& row : sweep.rows) EXPECT_TRUE(row.answer) << row.refusal;
}

}  // namespace
}  // namespace toroid::test
