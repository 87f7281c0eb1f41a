// Charts of sweeps as text: labelled, escaped, whole; and where an axis' ticks lie.
#include "simulate/draw/chart.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "simulate/draw/layer_picture.h"
#include "simulate/draw/svg.h"
#include "simulate/play/simulate.h"
#include "tests/simulate/answers.h"

namespace toroid::test {
namespace {

using train::Answer;
using train::Scale;
using train::Sweep;
using train::SweepAxis;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\nis not in\n" << text;
}

// Every element is closed in turn, and text and attributes have no bare markup.
void expect_well_formed(const std::string& text) {
  std::vector<std::string> open;
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at + 1)) {
    const size_t end = text.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string inside = text.substr(at + 1, end - at - 1);
    EXPECT_EQ(count(inside, "\"") % 2, 0u) << inside;
    const std::string name = inside.substr(0, inside.find_first_of(" /"));
    if (inside.front() == '/') {
      ASSERT_FALSE(open.empty()) << inside;
      EXPECT_EQ(open.back(), inside.substr(1));
      open.pop_back();
    } else if (inside.back() != '/' && inside.front() != '!' && name != "meta") {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty()) << open.back();
}

// Steps of a second, refused where `refuse` says.
Sweep sweep(std::vector<SweepAxis> axes, const std::string& refuse = "") {
  Sweep out;
  out.axes = std::move(axes);
  size_t rows = 1;
  for (const SweepAxis& axis : out.axes) rows *= axis.values.size();
  for (size_t r = 0; r < rows; ++r) {
    train::SweepRow row;
    row.values.resize(out.axes.size());
    size_t rest = r;
    for (size_t a = out.axes.size(); a-- > 0;) {
      row.values[a] = out.axes[a].values[rest % out.axes[a].values.size()];
      rest /= out.axes[a].values.size();
    }
    if (std::find(row.values.begin(), row.values.end(), refuse) != row.values.end()) {
      row.refusal = "needs <much> & more";
    } else {
      Answer answer;
      answer.chip = "v5e";
      answer.constants = "nominal";
      answer.chips = static_cast<int64_t>(256 * (r + 1));
      answer.step = Seconds(1);
      answer.split.products = Seconds(0.75);
      answer.split.torus = Seconds(0.25);
      answer.tokens_per_s = 1000.0 * static_cast<double>(r + 1);
      answer.mfu_causal = 0.5;
      row.answer = answer;
    }
    out.rows.push_back(row);
  }
  return out;
}

TEST(Chart, has_a_dot_for_each_figure_and_a_bar_for_each_part) {
  const std::string svg = train::sweep_svg(sweep({{"mesh.pods", {"1", "2", "4", "16"}}}));
  EXPECT_EQ(svg.rfind("<svg xmlns=\"http://www.w3.org/2000/svg\"", 0), 0u);
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "tokens/s, simulated</title>"), 4u);
  EXPECT_EQ(count(svg, " %, simulated</title>"), 4u);
  EXPECT_EQ(count(svg, "products 0.750 s, simulated"), 4u);
  EXPECT_EQ(count(svg, "torus, exposed 0.250 s, simulated"), 4u);
  EXPECT_EQ(count(svg, "memory-bound 0"), 0u);
  expect_has(svg, "Simulated training step by mesh.pods");
  expect_has(svg, "simulated on chip v5e, nominal constants");
  expect_has(svg, "Tokens/s, all chips (simulated)");
}

TEST(Chart, other_axes_are_lines) {
  const std::string svg =
      train::sweep_svg(sweep({{"train.remat", {"NONE", "FULL"}}, {"mesh.pods", {"4", "1", "2"}}}));
  expect_well_formed(svg);
  expect_has(svg, "Simulated training step by mesh.pods");
  // The figure of FULL and 2 pods is row 5 of 0 to 5.
  expect_has(svg, "train.remat=FULL, mesh.pods=2: 6k tokens/s, simulated");
  expect_has(svg, "train.remat=NONE, mesh.pods=4: 1k tokens/s, simulated");
  const std::string late =
      train::sweep_svg(sweep({{"mesh.pods", {"4", "1", "2"}}, {"train.remat", {"NONE", "FULL"}}}));
  expect_has(late, "train.remat=FULL, mesh.pods=2: 6k tokens/s, simulated");
  expect_has(late, "train.remat=FULL, mesh.pods=4: 2k tokens/s, simulated");
}

TEST(Chart, refused_rows_are_marked_and_text_is_escaped) {
  const Sweep some = sweep({{"mesh.pods", {"1", "2", "<b>"}}}, "<b>");
  const std::string svg = train::sweep_svg(some);
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "tokens/s, simulated</title>"), 2u);
  expect_has(svg, "refused: needs &lt;much&gt; &amp; more");
  EXPECT_EQ(count(svg, "<b>"), 0u);
  const std::string html = train::sweep_html(some, "toroid simulate --set 'a=<i>'");
  expect_well_formed(html.substr(html.find("<html")));
  expect_has(html, "All figures are simulated.");
  expect_has(html, "<td class=\"why\" colspan=\"14\">refused: needs &lt;much&gt; &amp; more</td>");
  EXPECT_EQ(count(html, "<i>"), 0u);
  EXPECT_EQ(count(html, "<script"), 0u);
  // A sweep without a single figure is a picture too.
  expect_well_formed(train::sweep_svg(sweep({{"mesh.pods", {"1"}}}, "1")));
}

TEST(Chart, more_lines_than_can_be_told_apart_are_refused) {
  const std::vector<std::string> nine(9, "1"), ten(10, "1"), many(201, "1");
  EXPECT_THROW(train::check_chart({{"mesh.pods", ten}, {"zero.stage", nine}}), UserError);
  EXPECT_THROW(train::check_chart({{"mesh.pods", many}}), UserError);
  EXPECT_THROW(train::check_chart({}), UserError);
  EXPECT_NO_THROW(train::check_chart({{"mesh.pods", ten}, {"zero.stage", {"1", "2", "3"}}}));
}

// A layer of 4 model ranks: both passes, each with its queues, and a waiting that the round-by-round schedule
// shortens.
TEST(LayerPicture, shows_both_passes_of_one_layer) {
  const auto picture = [](const std::string& overlap) {
    const config::RunConfig run =
        test::load(kGemma7b, {"mesh={ torus: [16] data: 1 model: 16 }", "model.layers=3",
                              "batch.global_sequences=1", "mesh.overlap=" + overlap});
    train::SimulateOptions options;
    options.spans = true;
    const train::Simulation simulation = train::simulate(run, test::v5e(), test::plugins(), options);
    return train::layer_svg(simulation.played, 1, "one <layer>");
  };
  const std::string cut = picture("AUTO"), whole = picture("OFF");
  expect_well_formed(cut);
  expect_has(cut, "one &lt;layer&gt;");
  expect_has(cut, "layer 1 forward: ");
  expect_has(cut, "layer 1 backward, with what it computes again: ");
  expect_has(cut, "all_gather layer.1 MLP input, round 8 of 8");
  expect_has(whole, "reduce_scatter layer.1 MLP output, ");
  EXPECT_GT(count(cut, "<rect"), count(whole, "<rect")) << "a box a round";
}

TEST(LayerPicture, wants_a_model_axis) {
  train::SimulateOptions options;
  options.spans = true;
  const config::RunConfig run =
      test::load(kGemma2b, {"mesh.pods=1", "model.layers=2", "batch.global_sequences=256"});
  const train::Simulation simulation = train::simulate(run, test::v5e(), test::plugins(), options);
  EXPECT_THROW(train::layer_svg(simulation.played, 1, "none"), UserError);
}

TEST(Chart, ticks_are_round_numbers_that_reach_the_largest_value) {
  const Scale seconds = Scale::linear(0.93, 100, 0);
  EXPECT_EQ(seconds.ticks().size(), 6u);
  EXPECT_NEAR(seconds.ticks().back(), 1.0, 1e-12);
  EXPECT_NEAR(seconds.at(0), 100, 1e-9);
  EXPECT_NEAR(seconds.at(1), 0, 1e-9);
  for (const double most : {0.0, -1.0, 1e-9, 3.0, 73.5, 100.0, 1.1e9}) {
    const Scale scale = Scale::linear(most, 0, 100);
    EXPECT_GE(scale.ticks().back(), most * (1 - 1e-9)) << most;
    EXPECT_GE(scale.ticks().size(), 3u) << most;
    EXPECT_LE(scale.ticks().size(), 7u) << most;
  }
  const Scale pods = Scale::logarithmic(1, 1000, 0, 300);
  EXPECT_NEAR(pods.at(10), 100, 1e-9);
  EXPECT_EQ(pods.ticks().size(), 4u);
  EXPECT_EQ(train::short_number(2500), "2.5k");
  EXPECT_EQ(train::short_number(3e9), "3G");
  EXPECT_EQ(train::short_number(0.25), "0.25");
}

}  // namespace
}  // namespace toroid::test
