#include "data/prepare/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/base/text.h"

namespace toroid {
namespace {

constexpr Seconds kRedraw{0.1};  // on a terminal
constexpr Seconds kLine{10.0};   // elsewhere
constexpr int64_t kBar = 24;     // characters

}  // namespace

Progress::Progress(std::string what, int64_t total, std::string unit)
    : what_(std::move(what)), unit_(std::move(unit)), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {
  draw();  // a stage that has begun shows, however long its first step takes
}

Progress::~Progress() {
  if (terminal_ && drawn_ && !finished_) std::fputc('\n', stderr);
}

void Progress::add(int64_t done) {
  done_ += done;
  if (since_line_.elapsed() < (terminal_ ? kRedraw : kLine)) return;
  draw();
  since_line_.restart();
}

void Progress::draw() {
  const int64_t total = std::max<int64_t>(total_, 1);
  const int64_t percent = std::min<int64_t>(100, done_ * 100 / total);
  const std::string counts = with_commas(done_) + " of " + with_commas(total_) + " " + unit_;
  if (terminal_) {
    const auto full = static_cast<size_t>(percent * kBar / 100);
    const std::string bar = std::string(full, '#') + std::string(static_cast<size_t>(kBar) - full, '.');
    std::fprintf(stderr, "\r\x1b[K%-10s [%s] %3d %%  %s", what_.c_str(), bar.c_str(),
                 static_cast<int>(percent), counts.c_str());
  } else {
    std::fprintf(stderr, "%-10s %3d %%  %s\n", what_.c_str(), static_cast<int>(percent), counts.c_str());
  }
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::finish() {
  std::fprintf(stderr, "%s%-10s %s %s in %.1f s\n", terminal_ ? "\r\x1b[K" : "", what_.c_str(),
               with_commas(done_).c_str(), unit_.c_str(), since_start_.elapsed().count());
  finished_ = true;
}

}  // namespace toroid
