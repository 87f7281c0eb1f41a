// Loss curves: what is read of a run's metrics, what is refused, and the picture as text.
#include "simulate/draw/loss_curves.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "simulate/draw/svg.h"
#include "tests/failure.h"

namespace toroid::train {
namespace {

const std::string kRun =
    "{\"step\":1,\"loss\":9.0,\"tokens\":4096,\"step_s\":0.5}\n"
    "{\"step\":2,\"loss\":8.0,\"tokens\":8192,\"step_s\":0.25}\n"
    "{\"step\":2,\"validation_loss\":8.125,\"perplexity\":3000.0}\n"
    "{\"step\":3,\"loss\":null,\"tokens\":12288,\"step_s\":0.25}\n"
    "{\"step\":3,\"validation_loss\":null}\n"
    "{\"step\":3,\"predicted_step_s\":0.2,\"measured_step_s\":0.25}\n";

TEST(LossCurves, are_the_validations_by_tokens_and_by_the_steps_time) {
  const LossCurve curve = loss_curve("muon", kRun, "m");
  EXPECT_EQ(curve.name, "muon");
  ASSERT_EQ(curve.points.size(), 2u);
  EXPECT_EQ(curve.points[0].tokens, 8192);
  EXPECT_EQ(curve.points[0].seconds, 0.75);
  EXPECT_EQ(curve.points[0].loss, 8.125);
  EXPECT_EQ(curve.points[1].tokens, 12288);
  EXPECT_TRUE(std::isnan(curve.points[1].loss));
}

TEST(LossCurves, refuse_what_is_no_file_of_metrics) {
  const auto refused = [](const std::string& text) {
    return testing::failure_of<UserError>([&] { (void)loss_curve("x", text, "m"); });
  };
  EXPECT_EQ(refused("{\"step\":1}\nnonsense\n"), "m, line 2, is no row of metrics, which is one JSON object");
  EXPECT_EQ(refused("[1]\n"), "m, line 1, is no row of metrics, which is one JSON object");
  EXPECT_EQ(refused("{\"step_s\":\"long\",\"tokens\":3}\n"),
            "m, line 1, has no number \"step_s\", which every such row of metrics has");
  EXPECT_EQ(refused("{\"step_s\":1}\n"),
            "m, line 1, has no number \"tokens\", which every such row of metrics has");
  const std::string none = "m has no validation loss; train with train.validate.every set to some steps";
  EXPECT_EQ(refused(""), none);
  EXPECT_EQ(refused("{\"validation_loss\":null}\n"), none);
  EXPECT_THROW((void)read_loss_curve("x", "tests/simulate/draw"), UserError);
}

TEST(LossCurves, are_drawn_with_their_names_and_values) {
  const std::string svg = loss_curves_svg({loss_curve("a <b>", kRun, "m"), loss_curve("other", kRun, "m")});
  for (const char* part : {"a &lt;b&gt;", "other", "by tokens trained on", "by time that the steps took",
                           "8.1250 nats a token after 8,192 tokens, 1 s"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_THROW((void)loss_curves_svg({}), UserError);
  EXPECT_THROW((void)loss_curves_svg(std::vector<LossCurve>(9, loss_curve("a", kRun, "m"))), UserError);
}

TEST(Scale, between_two_values_has_ticks_that_hold_them) {
  const Scale scale = Scale::linear_between(4.57, 9.1, 100, 0);
  ASSERT_FALSE(scale.ticks().empty());
  EXPECT_LE(scale.ticks().front(), 4.57);
  EXPECT_GE(scale.ticks().back(), 9.1);
  EXPECT_EQ(scale.at(scale.ticks().front()), 100);
  EXPECT_EQ(scale.at(scale.ticks().back()), 0);
  EXPECT_LE(scale.ticks().size(), 7u);
  // However large, however close.
  for (const double least : {1e17, -1e300, 1e308, 0.0}) {
    for (const double more : {0.0, 16.0, 1e300}) {
      const Scale odd = Scale::linear_between(least, least + more, 0, 1);
      EXPECT_GE(odd.ticks().size(), 2u) << least << " " << more;
      EXPECT_LE(odd.ticks().size(), 11u) << least << " " << more;
      EXPECT_TRUE(std::isfinite(odd.at(least))) << least << " " << more;
    }
  }
}

}  // namespace
}  // namespace toroid::train
