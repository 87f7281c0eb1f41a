#include "launch/toroid/supervise/progress.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

namespace toroid::launch {
namespace {

constexpr double kFactor = 20;  // times the longest time between two signs of life

uint64_t mix(uint64_t mark, uint64_t value) {
  return (mark ^ value) * 0x9e3779b97f4a7c15ull + (mark >> 29);
}

void add(uint64_t& mark, const Path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return;
  mark = mix(mark, static_cast<uint64_t>(status.st_size));
  mark = mix(mark, static_cast<uint64_t>(status.st_mtim.tv_sec));
  mark = mix(mark, static_cast<uint64_t>(status.st_mtim.tv_nsec));
}

Descriptor metrics_of(const Path& run) {
  return Descriptor(::open((run / "metrics.jsonl").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

// None has none.
uint64_t number_of(const Descriptor& file) {
  struct stat status {};
  return file && ::fstat(file.get(), &status) == 0 ? status.st_ino : 0;
}

// Of the metrics and of the checkpoints, those that are being written included.
uint64_t mark_of(const Path& run) {
  namespace fs = std::filesystem;
  uint64_t mark = 1;
  add(mark, run / "metrics.jsonl");
  add(mark, run / "checkpoints");
  std::error_code error;
  for (fs::directory_iterator each(run / "checkpoints", error), end; !error && each != end;
       each.increment(error)) {
    if (!each->path().filename().string().starts_with(".saving")) continue;
    add(mark, each->path());
    std::error_code inner;
    for (fs::directory_iterator file(each->path(), inner); !inner && file != end; file.increment(inner))
      add(mark, file->path());
  }
  return mark;
}

}  // namespace

std::optional<int64_t> last_step(const Path& run) {
  const Descriptor file = metrics_of(run);
  const off_t bytes = file.get() < 0 ? 0 : ::lseek(file.get(), 0, SEEK_END);
  if (bytes <= 0) return std::nullopt;
  constexpr off_t kTail = 1 << 16;
  std::string text(static_cast<size_t>(std::min(bytes, kTail)), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), bytes - static_cast<off_t>(text.size()));
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  constexpr std::string_view kStep = "\"step\":", kLoss = ",\"loss\":";
  for (size_t at = text.rfind(kStep); at != std::string::npos;
       at = at == 0 ? at : text.rfind(kStep, at - 1)) {
    const char* const begin = text.data() + at + kStep.size();
    int64_t step = 0;
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), step);
    const auto rest = static_cast<size_t>(end - text.data());
    if (error == std::errc{} && text.compare(rest, kLoss.size(), kLoss) == 0) return step;
    if (at == 0) break;
  }
  return std::nullopt;
}

void Heartbeat::begin() {
  since_.restart();
  said_ = 0;
  mark_ = mark_of(run_);
  step_.reset();
  rows_before_ = metrics_of(run_);
}

void Heartbeat::look(int64_t said, int64_t resumed) {
  const uint64_t mark = mark_of(run_);
  if (mark == mark_ && said == said_) return;
  const std::optional<int64_t> last = last_step(run_);
  // Rows of an earlier start are no steps of this one.
  const bool is_new = number_of(metrics_of(run_)) != number_of(rows_before_);
  if (is_new && last && *last > std::max(resumed, step_.value_or(0))) {
    if (step_) longest_ = std::max(longest_, since_.elapsed());
    step_ = last;
  }
  mark_ = mark;
  said_ = said;
  since_.restart();
}

Seconds Heartbeat::limit() const {
  if (!step_) return first_;
  return std::max(floor_, kFactor * longest_);
}

}  // namespace toroid::launch
