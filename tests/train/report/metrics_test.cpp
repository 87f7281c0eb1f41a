// metrics.jsonl: what a row says, what is not finite, and what a run that goes on makes of the rows it finds.
#include "train/report/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"

namespace toroid::train {
namespace {

using Json = nlohmann::json;

class Metrics : public ::testing::Test {
 protected:
  Metrics() { std::filesystem::create_directories(root_); }
  ~Metrics() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  // Every line is an object of its own.
  static std::vector<Json> rows(const Path& path) {
    std::vector<Json> out;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
    return out;
  }
  std::vector<Json> rows() const { return rows(file_); }
  static std::vector<int64_t> steps(const std::vector<Json>& rows) {
    std::vector<int64_t> out;
    for (const Json& row : rows) out.push_back(row.at("step").get<int64_t>());
    return out;
  }
  static StepRow step_row(int64_t step) {
    StepRow row;
    row.step = step;
    row.loss = 0.1;
    row.communication.own_s = {0.25, 0.75};
    row.communication.slowest = 1;
    return row;
  }
  void append(const std::string& text) const { std::ofstream(file_, std::ios::app) << text; }

  const Path root_ =
      std::filesystem::temp_directory_path() / ("toroid_metrics." + std::to_string(::getpid()));
  const Path file_ = root_ / "metrics.jsonl";
};

TEST_F(Metrics, a_step_says_what_it_was) {
  StepRow row = step_row(7);
  row.loss = 1.0 / 3;
  row.gradient_norm = 2.5;
  row.learning_rate = 3e-4;
  row.tokens = 3'000'000'000;
  row.tokens_per_s = 1024.5;
  row.step_s = 0.5;
  row.mfu = 0.125;
  row.communication.exposed_s = 0.0625;
  row.communication.under_way_s = 0.25;
  row.communication.overlap = 0.75;
  row.communication.link_bytes = {10, 20, 30};
  row.saving = true;
  row.skipped = true;
  row.skipped_total = 4;
  MetricsFile(file_, 0).write(row);
  ASSERT_EQ(rows().size(), 1u);
  EXPECT_EQ(rows()[0], Json::parse(R"({
      "step": 7, "loss": 0.3333333333333333, "grad_norm": 2.5, "learning_rate": 0.0003, "tokens": 3000000000,
      "tokens_per_s": 1024.5, "step_s": 0.5, "mfu": 0.125, "exposed_s": 0.0625, "communication_s": 0.25,
      "overlap": 0.75, "link_bytes": {"torus_0": 10.0, "torus_1": 20.0, "pods": 30.0}, "slowest_rank": 1,
      "slowest_own_s": 0.75, "median_own_s": 0.5, "saving": true, "skipped": true, "skipped_total": 4})"));
  EXPECT_EQ(rows()[0]["loss"].get<double>(), 1.0 / 3) << "all digits, so that bits can be compared";
}

// A reader of JSON knows no NaN: a line that holds one would be lost.
TEST_F(Metrics, what_is_not_finite_or_not_known_is_null) {
  StepRow row = step_row(1);
  row.loss = std::numeric_limits<double>::quiet_NaN();
  row.gradient_norm = std::numeric_limits<double>::infinity();
  row.learning_rate = -std::numeric_limits<double>::infinity();
  MetricsFile metrics(file_, 0);
  metrics.write(row);
  metrics.write(
      ValidationRow{.step = 1, .validation_loss = 800, .perplexity = std::exp(800.0), .targets = 3});
  ASSERT_EQ(rows().size(), 2u);
  for (const char* name : {"loss", "grad_norm", "learning_rate", "mfu", "overlap"}) {
    EXPECT_TRUE(rows()[0].at(name).is_null()) << name;
  }
  EXPECT_EQ(rows()[1]["validation_loss"], 800);
  EXPECT_TRUE(rows()[1].at("perplexity").is_null());
  EXPECT_EQ(rows()[1]["validation_targets"], 3);
}

TEST_F(Metrics, a_prediction_stands_beside_what_was_measured) {
  PredictionRow row;
  row.step = 9;
  row.comparison.predicted = {{1, 2, 0.5}, 2000};
  row.comparison.measured = {{1, 1, 0.5}, 1000};
  MetricsFile(file_, 0).write(row);
  const Json found = rows().at(0);
  EXPECT_EQ(found["predicted_step_s"], 3.5);
  EXPECT_EQ(found["measured_step_s"], 2.5);
  EXPECT_EQ(found["predicted_backward_s"], 2);
  EXPECT_EQ(found["measured_bytes"], 1000);
  EXPECT_NEAR(found["step_s_error"].get<double>(), 0.4, 1e-12);
  EXPECT_EQ(found["bytes_error"], 1);
}

// Rows are on the disk as soon as they are written: a run that is killed leaves all but perhaps the last.
TEST_F(Metrics, a_row_is_there_when_it_is_written) {
  MetricsFile metrics(file_, 0);
  metrics.write(step_row(1));
  EXPECT_EQ(steps(rows()), (std::vector<int64_t>{1}));
  metrics.write(step_row(2));
  EXPECT_EQ(steps(rows()), (std::vector<int64_t>{1, 2}));
}

TEST_F(Metrics, going_on_keeps_the_rows_of_the_steps_that_count) {
  {
    MetricsFile first(file_, 0);
    for (const int64_t step : {1, 2, 3, 4}) first.write(step_row(step));
    first.write(ValidationRow{.step = 4});
  }
  append(R"({"step":5,"lo)");  // killed in the middle of a line
  MetricsFile resumed(file_, 2);
  EXPECT_EQ(steps(rows()), (std::vector<int64_t>{1, 2}));
  resumed.write(step_row(3));
  EXPECT_EQ(steps(rows()), (std::vector<int64_t>{1, 2, 3}));
}

TEST_F(Metrics, going_on_from_nothing_begins_anew) {
  MetricsFile(file_, 0).write(step_row(1));
  append("not JSON\n[1, 2]\n{\"step\": \"one\"}\n{\"loss\": 1}\n");
  MetricsFile again(file_, 0);
  EXPECT_TRUE(rows().empty());
}

TEST_F(Metrics, later_rows_move_aside) {
  {
    MetricsFile metrics(file_, 0);
    for (const int64_t step : {1, 2, 3, 4}) metrics.write(step_row(step));
  }
  const Path aside = root_ / "aside.jsonl";
  move_later_rows(file_, 4, aside);
  EXPECT_FALSE(std::filesystem::exists(aside)) << "there were none";
  move_later_rows(file_, 2, aside);
  EXPECT_EQ(steps(rows()), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(steps(rows(aside)), (std::vector<int64_t>{3, 4}));
  move_later_rows(root_ / "absent.jsonl", 2, root_ / "nothing.jsonl");
  EXPECT_FALSE(std::filesystem::exists(root_ / "nothing.jsonl"));
}

TEST_F(Metrics, a_place_that_cannot_be_written_is_an_error_of_the_system) {
  EXPECT_THROW(MetricsFile(root_ / "no" / "such" / "folder.jsonl", 0), SystemError);
}

}  // namespace
}  // namespace toroid::train
