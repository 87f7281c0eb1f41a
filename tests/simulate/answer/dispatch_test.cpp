// The controller's cost goes through the published figures, and is hidden by long steps.
#include "simulate/answer/dispatch.h"

#include <gtest/gtest.h>

namespace toroid::train {
namespace {

TEST(SimulatedDispatch, goes_through_the_published_figures) {
  EXPECT_NEAR(dispatch_time(16).count(), 0.0023, 1e-12);
  EXPECT_NEAR(dispatch_time(512).count(), 0.035, 1e-12);
}

TEST(SimulatedDispatch, parallel_hides_behind_long_steps_and_sequential_never_does) {
  const auto exposed = [](Dispatch how, double step) {
    return exposed_dispatch(how, 16, Seconds(step)).count();
  };
  EXPECT_EQ(exposed(Dispatch::parallel, 0.003), 0);
  EXPECT_NEAR(exposed(Dispatch::parallel, 0.001), 0.0013, 1e-12);
  EXPECT_NEAR(exposed(Dispatch::sequential, 1), 0.0023, 1e-12);
  EXPECT_EQ(exposed(Dispatch::none, 0.001), 0);
}

}  // namespace
}  // namespace toroid::train
