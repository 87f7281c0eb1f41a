// MFU is a share of a peak: never above it, never cut off at it, and of this machine.
#include "train/machine/run_peak.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "bench/step/step_bench.h"
#include "train/machine/best_of.h"
#include "train/machine/machine_figures.h"

namespace toroid::train {
namespace {

config::MachineFigures figures_of(const HostInfo& host) {
  config::MachineFigures out;
  out.set_cpu(host.cpu);
  out.set_cores(host.cores);
  out.set_threads(host.cores);
  out.set_bf16_flops_per_s(100e9);
  out.set_fp32_flops_per_s(50e9);
  return out;
}

TEST(BestOfRounds, IsTheBestAndSaysHowFarTheWorstWas) {
  BestOf rate;
  EXPECT_EQ(rate.best(), 0);
  EXPECT_EQ(rate.spread(), 0);
  for (const double round : {80.0, 100.0, 60.0}) rate.add(round);
  EXPECT_EQ(rate.best(), 100);
  EXPECT_DOUBLE_EQ(rate.spread(), 0.4);
}

TEST(PeakOfARun, IsOfItsTypeAndItsHosts) {
  HostInfo host;
  host.cpu = "a processor";
  host.cores = 4;
  const config::MachineFigures figures = figures_of(host);
  std::string why;
  EXPECT_EQ(peak_of(figures, host, {DType::bf16, 1, 4}, why), 100e9);
  EXPECT_EQ(peak_of(figures, host, {DType::f32, 1, 4}, why), 50e9);
  EXPECT_EQ(peak_of(figures, host, {DType::bf16, 3, 4}, why), 300e9)
      << "three hosts compute three times as much";
  EXPECT_EQ(peak_of(figures, host, {DType::bf16, 1, 16}, why), 100e9) << "four cores, whatever shares them";
  EXPECT_EQ(why, "");
}

TEST(PeakOfARun, FiguresOfAnotherMachineAreNone) {
  HostInfo host;
  host.cpu = "a processor";
  host.cores = 4;
  config::MachineFigures figures = figures_of(host);
  std::string why;
  EXPECT_FALSE(peak_of(figures, host, {DType::bf16, 0, 4}, why));
  EXPECT_EQ(why, "the hosts do not have equally many ranks");
  figures.set_threads(1);
  EXPECT_FALSE(peak_of(figures, host, {DType::bf16, 1, 4}, why));
  EXPECT_EQ(why, "its figures are of 1 threads and the run computes on 4");
  figures.set_cpu("another\n");
  EXPECT_FALSE(peak_of(figures, host, {DType::bf16, 1, 1}, why));
  EXPECT_NE(why.find("its figures are of another machine, 'another\\n'; this is 'a processor'"),
            std::string::npos)
      << why;
  figures.clear_bf16_flops_per_s();
  EXPECT_FALSE(peak_of(figures, host, {DType::bf16, 1, 1}, why));
  EXPECT_EQ(why, "") << "not measured is nothing wrong";
}

TEST(PeakOfARun, WhatWasMeasuredAmongOtherProgramsIsMarked) {
  config::MachineFigures figures;
  figures.set_bf16_spread(0.05);
  EXPECT_EQ(doubt_of(figures, DType::bf16), "");
  figures.set_bf16_spread(0.38);
  EXPECT_EQ(doubt_of(figures, DType::bf16), "its rounds differ by 38 %, so that other programs ran then");
  EXPECT_EQ(doubt_of(figures, DType::f32), "");
  figures.set_fp32_raised(true);
  EXPECT_EQ(doubt_of(figures, DType::f32), "a run was faster than its peak, so that other programs ran then");
}

class RaisedPeak : public ::testing::Test {
 protected:
  RaisedPeak() {
    if (const char* before = std::getenv("XDG_CACHE_HOME"); before != nullptr) before_ = before;
    ::setenv("XDG_CACHE_HOME", directory_.c_str(), 1);
  }
  ~RaisedPeak() override {
    before_ ? ::setenv("XDG_CACHE_HOME", before_->c_str(), 1) : ::unsetenv("XDG_CACHE_HOME");
    std::filesystem::remove_all(directory_);
  }
  Path directory_ = std::filesystem::temp_directory_path() / ("toroid-peak-" + std::to_string(::getpid()));
  std::optional<std::string> before_;
};

TEST_F(RaisedPeak, AStepThatBeatsItHasNoShareAndRaisesIt) {
  const HostInfo host = host_info();
  write_machine_figures(figures_of(host));
  RunPeak peak({DType::bf16, 2, 1});
  ASSERT_EQ(peak.flops_per_s(), 200e9);
  EXPECT_DOUBLE_EQ(peak.share(150e9).value(), 0.75);
  EXPECT_FALSE(peak.share(320e9)) << "neither 160 % nor 100 %";
  EXPECT_EQ(peak.flops_per_s(), 320e9);
  EXPECT_DOUBLE_EQ(peak.share(160e9).value(), 0.5) << "of the raised peak";
  EXPECT_DOUBLE_EQ(peak.share(320e9).value(), 1.0);
  const auto kept = read_machine_figures();
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->bf16_flops_per_s(), 160e9) << "of one host";
  EXPECT_TRUE(kept->bf16_raised());
  EXPECT_FALSE(kept->fp32_raised());
  EXPECT_EQ(kept->fp32_flops_per_s(), 50e9);
  EXPECT_EQ(kept->cpu(), host.cpu) << "the rest stays";
  EXPECT_NE(doubt_of(*kept, DType::bf16), "");
}

TEST_F(RaisedPeak, WhereNothingWasMeasuredThereIsNoShare) {
  RunPeak peak({DType::bf16, 1, 1}), none;
  EXPECT_FALSE(peak.share(1e9));
  EXPECT_FALSE(none.share(1e9));
  EXPECT_FALSE(std::filesystem::exists(machine_figures_path())) << "a run writes no figures of its own";
}

TEST_F(RaisedPeak, FiguresThatCannotBeWrittenDoNotStopARun) {
  RunPeak peak({DType::bf16, 1, 1}, 1e9);
  make_directories(directory_);
  write_file(directory_ / "toroid", "a file where the directory should be");
  EXPECT_FALSE(peak.share(2e9));
  EXPECT_DOUBLE_EQ(peak.share(1e9).value(), 0.5);
}

TEST_F(RaisedPeak, ADataSheetIsNotRaised) {
  RunPeak peak = RunPeak::of_data_sheet(200e9), unknown = RunPeak::of_data_sheet(std::nullopt);
  EXPECT_DOUBLE_EQ(peak.share(100e9).value(), 0.5);
  EXPECT_FALSE(peak.share(300e9));
  EXPECT_DOUBLE_EQ(peak.share(100e9).value(), 0.5);
  EXPECT_FALSE(unknown.share(1e9));
  StepBench bench;
  bench.median_s = 2;
  bench.model_flops = 300e9;
  bench.peak_flops_per_s = 200e9;
  EXPECT_DOUBLE_EQ(bench.mfu().value(), 0.75);
}

TEST(StepBenchShares, AreNoneWhereTheStepIsFasterThanWhatWasMeasuredAfterIt) {
  StepBench bench;
  bench.median_s = 2;
  bench.model_flops = 300e9;
  EXPECT_FALSE(bench.mfu()) << "nothing was measured";
  EXPECT_FALSE(bench.floor_s());
  bench.floor.best_flops = 200e9;
  bench.floor.terms = {{"products", 300e9, 200e9}};
  EXPECT_DOUBLE_EQ(bench.mfu().value(), 0.75);
  EXPECT_DOUBLE_EQ(bench.floor_s().value(), 1.5);
  bench.floor.best_flops = 100e9;
  bench.floor.terms = {{"products", 300e9, 100e9}};
  EXPECT_FALSE(bench.mfu()) << "150 %";
  EXPECT_FALSE(bench.floor_s()) << "3 s of which the step took 2";
}

}  // namespace
}  // namespace toroid::train
