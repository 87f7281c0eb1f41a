#include "train/loop/saver.h"

#include <fmt/core.h>

#include <chrono>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/engine/snapshot.h"

namespace toroid::train {

Saver::Saver(Engine& engine, const config::RunConfig& run, const Path& directory, const Lineage& lineage,
             std::function<void()> may_write, SaveHooks hooks)
    : engine_(engine),
      config_(run.train().checkpoint()),
      directory_(directory / "checkpoints"),
      hooks_(std::move(hooks)),
      threads_(engine.device->traits().threads),
      checkpoints_(directory,
                   {.newest = config_.keep(), .every = config_.keep_every(), .best = config_.keep_best()},
                   lineage, std::move(may_write)),
      behind_(checkpoints_) {
  if (config_.async())
    memory_.emplace(*engine.device, *engine.program, config_.async_share(),
                    run.device() == config::RunConfig::CPU);
}

Saver::~Saver() {
  if (ring_) ring_->leave();
}

SaveGroup Saver::group() const {
  World& world = *engine_.world;
  return {{world.rank(), world.size()},
          [&world](const std::string& text) { return world.exchange().texts(text, "checkpoint"); }};
}

void Saver::begin_at(int64_t step, int64_t next_sequence) {
  step_ = step;
  next_sequence_ = next_sequence;
}

void Saver::save(CheckpointState state, bool last) {
  finish();
  if (step_ == state.step) return;
  if (last) return save_now(state);
  const int64_t step = state.step;
  try {
    config_.async() ? begin(std::move(state)) : save_now(state);
  } catch (const SystemError& error) {
    hooks_.after();
    failed(step, error.what());
  }
}

void Saver::save_now(const CheckpointState& state) {
  const Stopwatch since;
  CheckpointState whole = state;
  auto slices = take_snapshot(*engine_.device, *engine_.program, whole);
  hooks_.before(state.step, slices);
  checkpoints_.save(whole, slices, group(), threads_);
  hooks_.after();
  const Seconds took = since.elapsed();
  done(state.step, state.next_sequence, took, took);
}

void Saver::begin(CheckpointState state) {
  UnderWay now{state.step, state.next_sequence, {}, Seconds(0)};
  const auto slices = take_snapshot(*engine_.device, *engine_.program, state);
  ring_.emplace(memory_->bytes());
  auto handed_over = out_of(*ring_, slices);
  hooks_.before(state.step, handed_over);
  behind_.begin(std::move(state), std::move(handed_over), group(), [this] { ring_->leave(); });
  under_way_ = now;
  try {
    stage(slices, *ring_);
  } catch (const SystemError&) {
    // The thread that writes has failed, and has told so: the ranks hear of it together.
  }
  under_way_->held_up = now.since.elapsed();
}

void Saver::hear(std::span<const double> all) {
  const auto end = behind_.hear(all, group());
  if (!end) return;
  hooks_.after();
  const UnderWay ended = *std::exchange(under_way_, std::nullopt);
  if (end->failure.empty()) {
    done(ended.step, ended.next_sequence, ended.since.elapsed(), ended.held_up);
  } else {
    failed(ended.step, end->failure);
  }
}

void Saver::finish() {
  behind_.hurry();
  while (behind_.under_way()) {
    const Stopwatch since;
    const double mine = told();
    const auto all = engine_.world->exchange().numbers(std::span(&mine, 1), "checkpoint");
    under_way_->held_up += since.elapsed();
    hear(all);
    if (!behind_.under_way()) return;
    constexpr std::chrono::milliseconds kPause(5);
    std::this_thread::sleep_for(kPause);
    under_way_->held_up += kPause;
  }
}

bool Saver::wait() {
  finish();
  return checkpoints_.wait();
}

void Saver::done(int64_t step, int64_t next_sequence, Seconds took, Seconds held_up) {
  begin_at(step, next_sequence);
  log::info("saved step {} to {} in {:.2f} s{}", step, printable(directory_.string()), took.count(),
            config_.async() && held_up < took
                ? fmt::format(", of which the run waited {:.2f} s", held_up.count())
                : "");
}

void Saver::failed(int64_t step, std::string_view why) {
  if (config_.on_failure() == config::CheckpointConfig::STOP) throw SystemError(std::string(why));
  log::error("step {} is not saved, and the run goes on: {}; the newest checkpoint is {}", step,
             printable(why, 1000), step_ < 0 ? "none" : "of step " + std::to_string(step_));
}

}  // namespace toroid::train
