// The calibration that is in the repository: it holds its own bounds, a fit finds its values again, and every
// published configuration fits in a chip's memory. Whatever a file says that is wrong is one sentence.
#include "simulate/play/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/base/error.h"
#include "simulate/fit/fit.h"
#include "simulate/play/chips.h"
#include "simulate/play/simulate.h"
#include "train/config/load.h"

namespace toroid::train {
namespace {

const Path kFile = "configs/calibration.textproto";

const Calibrator& calibrator() {
  static const Plugins plugins;
  static const Calibrator made(read_calibration(kFile), kFile, plugins);
  return made;
}

TEST(Calibration, holds_its_bounds_with_a_model_left_out_too) {
  const Calibrator& of = calibrator();
  const Residuals residuals = of.with_left_out(of.values());
  std::string all;
  for (const std::string& sentence : broken_bounds(of.calibration(), residuals)) all += sentence + "\n";
  EXPECT_EQ(all, "");
  EXPECT_LE(residuals.rms, 0.02);
  EXPECT_LT(residuals.rms, residuals.null_rms / 3);
  EXPECT_LT(residuals.left_out_rms, residuals.null_left_out_rms / 3);
  ASSERT_EQ(residuals.collectives.size(), 2u);
  int published = 0;
  for (const RunError& run : residuals.runs) {
    if (!run.model.starts_with("maxtext")) continue;
    ++published;
    EXPECT_LE(std::abs(run.error), 0.05) << run.model << " on " << run.pods << " pods";
    EXPECT_LE(std::abs(run.ratio_error), run.model == "maxtext_128b" ? 0.04 : 0.025)
        << run.model << " on " << run.pods << " pods";
    EXPECT_LE(std::abs(run.left_out_error), 0.05) << run.model << " on " << run.pods << " pods";
  }
  EXPECT_EQ(published, 24);
}

TEST(Calibration, predicts_a_run_that_nothing_was_fitted_on) {
  const Residuals residuals = calibrator().evaluate(calibrator().values());
  const auto found = std::find_if(residuals.runs.begin(), residuals.runs.end(),
                                  [](const RunError& run) { return run.model.starts_with("llama2_70b"); });
  ASSERT_NE(found, residuals.runs.end());
  EXPECT_LE(std::abs(found->error), 0.05);
}

TEST(Calibration, has_few_constants_and_none_of_one_model) {
  int fitted = 0;
  for (const auto& constant : calibrator().calibration().constant()) {
    if (constant.fitted_on_size() > 0) ++fitted;
    EXPECT_EQ(constant.of(), "v5e");
  }
  EXPECT_LE(fitted, 8);
}

TEST(Calibration, a_fit_finds_the_values_of_the_file) {
  const Calibrator& of = calibrator();
  const Values values = of.values(), fitted = of.fit();
  for (size_t i = 0; i < values.size(); ++i) {
    // The file has five digits, and the fit ends where a step changes the errors by less than 1e-8.
    EXPECT_NEAR(fitted[i], values[i], 1e-3 * values[i])
        << of.calibration().constant(static_cast<int>(i)).name();
  }
}

TEST(Calibration, bounds_that_do_not_hold_are_named) {
  config::Calibration calibration = calibrator().calibration();
  Residuals residuals = calibrator().evaluate(calibrator().values());
  residuals.runs[0].error = 0.051;
  residuals.collectives[1].error = -0.16;
  const std::vector<std::string> broken = broken_bounds(calibration, residuals);
  ASSERT_EQ(broken.size(), 2u);
  EXPECT_NE(broken[0].find("maxtext_16b on 1 pods: the error in MFU is +5.1 %"), std::string::npos)
      << broken[0];
  EXPECT_NE(broken[1].find("-16.0 %"), std::string::npos) << broken[1];
}

TEST(Calibration, every_published_configuration_fits_in_a_chip) {
  for (const RunError& run : calibrator().evaluate(calibrator().values()).runs) {
    if (!run.model.starts_with("maxtext")) continue;
    EXPECT_LE(run.peak_bytes, 16'000'000'000) << run.model << " on " << run.pods << " pods";
  }
}

TEST(Calibration, gemma_2b_with_two_sequences_and_everything_saved_does_not) {
  const std::vector<std::string> overrides{"batch.sequences_per_replica=2", "batch.global_sequences=1024",
                                           "train.remat=NONE"};
  const Path recipe = "configs/gemma_2b_v5e_512.textproto";
  const config::RunConfig run = config::load(recipe, overrides).run;
  const Simulation simulation = simulate(run, read_chip("v5e", recipe), Plugins());
  EXPECT_GT(simulation.roles[simulation.fullest].memory.bytes_peak, 16'000'000'000);
}

TEST(Calibration, a_recipe_is_played_as_it_is_calibrated) {
  const Path recipe = "configs/maxtext_32b_v5e.textproto";
  config::RunConfig run = config::load(recipe).run;
  sim::Chip chip = read_chip("v5e", recipe);
  ASSERT_TRUE(set_fitted(calibrator().calibration(), chip));
  const Seconds played = simulate(run, chip, Plugins()).played.step;
  const Residuals residuals = calibrator().evaluate(calibrator().values());
  const auto found = std::find_if(residuals.runs.begin(), residuals.runs.end(), [](const RunError& of) {
    return of.model == "maxtext_32b" && of.pods == 1;
  });
  ASSERT_NE(found, residuals.runs.end());
  EXPECT_NEAR(played.count(), found->step.count(), 1e-9 * found->step.count());
  // Toroid's own schedule hides what this one does not.
  run.clear_simulate();
  EXPECT_LT(simulate(run, chip, Plugins()).played.step, 0.99 * played);
}

TEST(Calibration, the_null_model_finds_what_it_was_made_of) {
  const NullModel made{0.6, 0.02, 0.003};
  std::vector<NullModel::Point> points;
  for (const double ideal : {1.0, 5.0, 7.0}) {
    for (const int64_t pods : {1, 2, 8, 32}) points.push_back({ideal, made.seconds(ideal, pods), pods});
  }
  const NullModel found = NullModel::fit(points);
  EXPECT_NEAR(found.efficiency, made.efficiency, 1e-9);
  EXPECT_NEAR(found.second_pod, made.second_pod, 1e-9);
  EXPECT_NEAR(found.each_pod, made.each_pod, 1e-9);
}

std::string refusal(const std::string& from, const std::string& to) {
  std::string text = read_file(kFile, 1 << 20);
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at == std::string::npos) return {};
  text.replace(at, from.size(), to);
  const Path file = Path(testing::TempDir()) / "calibration.textproto";
  std::ofstream(file) << text;
  try {
    (void)read_calibration(file);
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(Calibration, refuses_what_no_constant_can_be) {
  const auto expect = [](const std::string& found, const char* part) {
    EXPECT_NE(found.find(part), std::string::npos) << found;
  };
  expect(refusal("\"link_efficiency\"", "\"link_speed\""),
         "constant 'link_speed' is not one that chips have");
  expect(refusal("least: 0.5  most: 1.1", "least: 0.5  most: 0.4"), "constant 'link_efficiency'.most");
  expect(refusal("least: 0.5  most: 1.1", "least: 0  most: 1.1"), "constant 'link_efficiency'.least");
  expect(refusal("pods: 1 ", "pods: 3 "), "must begin with a run on one pod");
  expect(refusal("bytes: 33554432", "bytes: -1"), ".bytes");
  expect(refusal("recipe: \"maxtext_16b_v5e.textproto\"", "recipe: \"../x\""), ".recipe");
}

TEST(Calibration, a_chip_without_constants_keeps_its_data_sheet) {
  sim::Chip v4 = read_chip("v4", kFile);
  EXPECT_FALSE(set_fitted(calibrator().calibration(), v4));
  EXPECT_FALSE(v4.fitted);
  EXPECT_EQ(v4.constants.link_efficiency, 1);
}

TEST(Calibration, rounded_gradients_and_schedules_are_for_simulated_chips) {
  for (const char* setting : {"zero.gradients=BF16", "simulate.schedule=xla_2023"}) {
    try {
      (void)config::load("configs/tiny_gemma.textproto", std::vector<std::string>{setting});
      FAIL() << setting << " was taken";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("device: SIM"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace toroid::train
