#include "launch/toroid/supervise/supervise.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "core/base/log.h"
#include "core/base/text.h"
#include "core/base/utc_time.h"
#include "launch/toroid/processes.h"
#include "launch/toroid/supervise/incidents.h"
#include "launch/toroid/supervise/progress.h"
#include "launch/toroid/supervise/voice.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid::launch {
namespace {

constexpr int kSaved = static_cast<int>(ExitCode::saved_on_signal);
constexpr int kLost = static_cast<int>(ExitCode::lost_peer);

std::string seconds(Seconds time) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f s", time.count());
  return text.data();
}

// A file as it is now; another one once it was written again.
std::array<int64_t, 3> mark_of_file(const Path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return {static_cast<int64_t>(status.st_ino), status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

class Supervisor {
 public:
  Supervisor(const Supervised& what, const SuperviseFlags& flags);
  int run();

 private:
  // Where to start now. Waits while there is no pod at all; nothing where a signal came.
  std::optional<Places> find_places();
  Start plan(Places& places, bool goes_on) const;
  bool begun() const { return mark_of_file(what_.run / "config.textproto") != config_before_; }
  // Whether the next start resumes; makes room for one from the beginning where it does not.
  bool goes_on() const;
  // The newest checkpoint, by name, and the newest that verifies; 0: none.
  int64_t newest_step() const;
  int64_t verified_step() const;
  int run_job(const Start& start);
  Ask look();
  void note_recovery();
  void note_end(int code);
  int give_up(int code, const std::string& why) const;
  void report() const;

  const Supervised& what_;
  const SuperviseFlags& flags_;
  SignalForwarding signals_{SignalForwarding::Interrupt::saves};
  PlaceFinder finder_;
  RestartPolicy policy_;
  Incidents incidents_;
  Heartbeat heart_;
  Voice voice_;
  std::array<int64_t, 3> config_before_;
  int64_t pods_ = 0;                    // of the job that runs
  std::optional<FlightRecord> record_;  // of the job that ended
  std::string ended_;                   // why the supervisor ended or stopped it; "": it did not
  bool recovered_ = true;
  bool grows_ = false;  // it was asked to save, for more pods
  int starts_ = 0;
  Stopwatch down_;  // since the last job ended
  Stopwatch looked_;
};

Seconds floor_of(const Supervised& what, const SuperviseFlags& flags) {
  return flags.hang_after_s > 0 ? Seconds(flags.hang_after_s) : what.deadline + Seconds(30);
}

RestartRules rules_of(const SuperviseFlags& flags) {
  RestartRules rules = flags.rules;
  rules.first = Seconds(flags.backoff_s);
  rules.longest = std::max(rules.longest, rules.first);
  return rules;
}

Supervisor::Supervisor(const Supervised& what, const SuperviseFlags& flags)
    : what_(what),
      flags_(flags),
      finder_({what.hosts, flags.check_host, flags.pods_file, what.pods > 1,
               [run = what.run] { return spoiled_hosts(run); }},
              what.pods, what.chips_per_pod),
      policy_(rules_of(flags)),
      incidents_(what.run),
      heart_(what.run, floor_of(what, flags), std::max(Seconds(600), 2 * floor_of(what, flags))),
      config_before_(mark_of_file(what.run / "config.textproto")) {
  if (!what.again) return;
  std::error_code ignored;
  std::filesystem::remove(what.run / Incidents::kName, ignored);
}

std::optional<Places> Supervisor::find_places() {
  for (;;) {
    Places places = finder_.find();
    for (const std::string& lack : places.lacks) log::warn("supervise: {}", lack);
    if (places.pods > 0) return places;
    log::warn("supervise: no pod can run; looking again in {}", seconds(Seconds(flags_.look_again_s)));
    signals_.sleep(Seconds(flags_.look_again_s));
    if (signals_.received() != 0) return std::nullopt;
  }
}

Start Supervisor::plan(Places& places, bool goes_on) const {
  for (;; --places.pods) {
    try {
      Start start = what_.start(places.pods, places.hosts, goes_on);
      if (places.pods < what_.pods) {
        log::warn("supervise: {} of {} pods", places.pods, what_.pods);
      }
      return start;
    } catch (const UserError&) {
      // As many pods do not divide what is to be dealt to them; fewer may.
      if (places.pods == what_.pods || places.pods == 1) throw;
    }
  }
}

bool Supervisor::goes_on() const {
  if (starts_ == 0 || !begun()) return false;
  if (!checkpoint_steps(what_.run).empty()) return true;
  // Nothing was saved: what the start has left would be in the way of the next one.
  for (const char* name : {"config.textproto", "metrics.jsonl", "huggingface"}) {
    std::error_code error;
    std::filesystem::remove_all(what_.run / name, error);
  }
  // Steps that were set aside are somebody's; what a save that was cut short has left is nobody's.
  bool others = false;
  const Path checkpoints = what_.run / "checkpoints";
  std::error_code error;
  for (std::filesystem::directory_iterator each(checkpoints, error), end; !error && each != end;
       each.increment(error)) {
    others = others || !each->path().filename().string().starts_with(".saving");
  }
  if (!others) std::filesystem::remove_all(checkpoints, error);
  return false;
}

int64_t Supervisor::newest_step() const {
  const std::vector<int64_t> steps = checkpoint_steps(what_.run);
  return steps.empty() ? 0 : steps.back();
}

int64_t Supervisor::verified_step() const {
  try {
    return CheckpointReader(what_.run).state().step;
  } catch (const Error& error) {
    log::warn("supervise: {}", error.what());
    return 0;
  }
}

int Supervisor::run_job(const Start& start) {
  voice_ = Voice();
  record_.reset();
  ended_.clear();
  grows_ = false;
  heart_.begin();
  looked_.restart();
  Onlooker onlooker;
  onlooker.heard = [this](std::string_view text) { voice_.hear(text); };
  onlooker.look = [this] { return look(); };
  try {
    JobEnded job_ended = run_ranks(start.job, start.arguments, signals_, onlooker);
    record_ = std::move(job_ended.record);
    const Ended& ended = job_ended.ended;
    if (ended.stopped_by_onlooker) return kLost;
    if (WIFSIGNALED(ended.status))
      ended_ = "mpirun was ended by signal " + std::to_string(WTERMSIG(ended.status));
    if (ended.signalled != 0) ended_ = "signal " + std::to_string(ended.signalled) + " was received";
    return exit_of_job(ended);
  } catch (const SystemError& error) {
    if (starts_ == 1 && !begun()) throw;  // as without a supervisor
    log::error("supervise: {}", error.what());
    if (voice_.sentence().empty()) ended_ = error.what();
    return static_cast<int>(ExitCode::system_error);
  }
}

Ask Supervisor::look() {
  heart_.look(voice_.bytes(), voice_.resumed().value_or(0));
  note_recovery();
  if (heart_.silent() > heart_.limit()) {
    const std::string stopped = describe_stopped(ranks_below(::getpid()));
    ended_ = "no sign of life for " + seconds(heart_.silent()) + ", and the limit is " +
             seconds(heart_.limit()) + (stopped.empty() ? "" : "; " + stopped);
    log::error("supervise: the job is ended: {}", ended_);
    return Ask::end;
  }
  if (pods_ == what_.pods || grows_ || looked_.elapsed() < Seconds(flags_.look_again_s)) return Ask::goes_on;
  looked_.restart();
  // Not before it has got anywhere, so that it cannot be asked again and again.
  if (!heart_.step() || finder_.find().pods <= pods_) return Ask::goes_on;
  grows_ = true;
  ended_ = "more pods can run than " + std::to_string(pods_);
  log::warn("supervise: {}: the job is asked to save", ended_);
  return Ask::save;
}

void Supervisor::note_recovery() {
  if (recovered_ || !heart_.step()) return;
  recovered_ = true;
  Incident& incident = *incidents_.latest();
  incident.recovery = down_.elapsed();
  incident.resumed = voice_.resumed().value_or(0);
  incidents_.write();
  const int64_t lost = std::max<int64_t>(0, incident.step.value_or(0) - *incident.resumed);
  log::warn("supervise: the run goes on from step {}, {} after the job's end; {} steps were lost",
            *incident.resumed, seconds(*incident.recovery), lost);
}

void Supervisor::note_end(int code) {
  heart_.look(voice_.bytes(), voice_.resumed().value_or(0));
  note_recovery();
  if (!recovered_) {
    incidents_.latest()->resumed = voice_.resumed();
    incidents_.write();
    recovered_ = true;
  }
  if (starts_ == 1 || voice_.resumed()) policy_.resumes(voice_.resumed().value_or(0));
  if (code == static_cast<int>(ExitCode::done)) return;
  Incident incident;
  incident.time = utc_time();
  incident.start = starts_;
  incident.code = code;
  incident.meaning = meaning_of(code);
  incident.rank = voice_.rank();
  incident.said = ended_.empty() ? voice_.sentence() : ended_;
  incident.step = last_step(what_.run);
  incident.pods_before = pods_;
  const bool lost = code == kLost || code == static_cast<int>(ExitCode::internal_error);
  if (lost && record_) {
    // What the ranks have found out themselves counts more.
    if (!incident.rank && record_->late.size() == 1) incident.rank = record_->late.front();
    const std::string how = "Start " + std::to_string(starts_) + " ended with " + std::to_string(code) +
                            " (" + incident.meaning + ") at " + incident.time + ". " + incident.said;
    incident.report = write_hang_report(what_.run, how, *record_);
  }
  incidents_.add(std::move(incident));
  down_.restart();
}

void Supervisor::report() const {
  if (policy_.restarts() == 0) return;
  int64_t lost = 0;
  Seconds down{0};
  for (const Incident& each : incidents_.rows()) {
    if (each.step && each.resumed) lost += std::max<int64_t>(0, *each.step - *each.resumed);
    down += each.recovery.value_or(Seconds(0));
  }
  log::info("supervise: {} restarts, {} steps lost, {} without a step; {} names each", policy_.restarts(),
            lost, seconds(down), printable((what_.run / Incidents::kName).string()));
}

int Supervisor::give_up(int code, const std::string& why) const {
  if (!why.empty()) log::error("supervise: not started again: {}", why);
  report();
  return code;
}

int Supervisor::run() {
  int code = 0;
  for (;;) {
    if (signals_.received() != 0) return give_up(kSaved, "");
    const bool resumes = goes_on();
    std::optional<Places> places = find_places();
    if (!places) return give_up(kSaved, "");
    const Start start = plan(*places, resumes);
    pods_ = places->pods;
    if (starts_ > 0) {
      policy_.starts();
      incidents_.latest()->pods_after = pods_;
      incidents_.write();
      recovered_ = false;
      log::warn("supervise: start {}, {}", starts_ + 1,
                resumes ? "from the newest checkpoint" : "from the beginning, since there is no checkpoint");
    }
    ++starts_;
    code = run_job(start);
    note_end(code);
    // Before its first step a start has nothing to save: what was saved before is all there is.
    if (signals_.received() != 0) return give_up(code > 128 && !heart_.step() ? kSaved : code, "");
    const bool saved = newest_step() > policy_.best();
    if (saved && policy_.exhausted()) policy_.resumes(verified_step());
    const RestartPolicy::Decision next = policy_.ended(code, voice_.in_use(), saved);
    if (!next.again) return give_up(code, next.why);
    log::warn("supervise: the job ended with {} ({}){}; it is started again{}", code, meaning_of(code),
              incidents_.latest()->rank ? ", rank " + std::to_string(*incidents_.latest()->rank) : "",
              next.delay > Seconds(0) ? " in " + seconds(next.delay) : "");
    signals_.sleep(next.delay);
  }
}

}  // namespace

int supervise(const Supervised& what, const SuperviseFlags& flags) {
  return Supervisor(what, flags).run();
}

}  // namespace toroid::launch
