#include "train/report/trace.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/log.h"
#include "core/base/text.h"
#include "core/device/observer.h"

namespace toroid::train {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 5> kRows{"compute", "gather", "reduce", "model", "pod"};  // as Queue
constexpr size_t kQuestions = 16;                   // to each rank of another host about its clock
constexpr int64_t kLongestPart = int64_t{1} << 30;  // bytes, of one rank

int64_t nanoseconds(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

// Times are in microseconds; thousandths of them are exact.
double microseconds(int64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e3;
}

Json name_row(const char* what, int rank, size_t row, Json arguments) {
  return {{"name", what}, {"ph", "M"}, {"pid", rank}, {"tid", row}, {"args", std::move(arguments)}};
}

constexpr const char* kWhat = "trace";  // in reports of peers that do not come

}  // namespace

int64_t clock_offset(std::span<const ClockSample> samples) {
  const auto quickest = std::min_element(samples.begin(), samples.end(), [](const auto& a, const auto& b) {
    return a.heard - a.asked < b.heard - b.asked;
  });
  return quickest->answered - (quickest->asked + (quickest->heard - quickest->asked) / 2);
}

// What one rank's device did. Shared with the collectives under way, which may outlive the tracer where a run
// fails.
class Tracer::Collector final : public Observer, public std::enable_shared_from_this<Collector> {
 public:
  struct Entry {
    const char* category = "";
    std::string name, unit, detail;
    Queue row = Queue::compute;
    Span span = {};
    std::optional<Phase> phase = {};
    std::optional<CollectiveInfo> collective = {};
    int64_t step = 0;
  };

  void set_step(int64_t step) { step_ = step; }
  void set_unit(const Unit* unit) { unit_ = unit == nullptr ? "" : unit->spec.name; }
  const std::vector<Entry>& entries() const { return entries_; }  // once nothing is added

  Report run(const Call& call, Queue queue) override {
    Entry entry{"operator", std::string(call.kind->name), unit_, describe(call), queue};
    entry.phase = call.phase;
    return report(std::move(entry));
  }
  Report copy(const Tensor& to, Queue queue) override {
    return report({"copy", "copy", unit_, to.text(), queue});
  }
  Report wait(Queue on) override {
    return report({"wait", std::string("wait for ") + kRows[static_cast<size_t>(on)], unit_, ""});
  }
  Report transfer(const CollectiveInfo& info, Queue queue) override {
    Entry entry{"collective", info.operation + " " + info.tensor, "", "", queue};
    entry.phase = info.phase;
    entry.collective = info;
    return report(std::move(entry));
  }

 private:
  Report report(Entry entry) {
    entry.step = step_;
    return [self = shared_from_this(), entry = std::move(entry)](Span span) mutable {
      entry.span = span;
      const std::lock_guard lock(self->mutex_);
      self->entries_.push_back(std::move(entry));
    };
  }

  std::string unit_;
  int64_t step_ = 0;
  std::mutex mutex_;  // two threads add
  std::vector<Entry> entries_;
};

Tracer::Tracer(Path file, const config::TraceConfig& window, Device& device, Engine& engine,
               const mesh::Mesh& mesh)
    : file_(std::move(file)),
      after_(window.after()),
      steps_(window.steps()),
      device_(device),
      engine_(engine),
      mesh_(mesh),
      collector_(std::make_shared<Collector>()) {
  const Path parent = file_.parent_path();
  const Path directory = parent.empty() ? Path(".") : parent;
  if (engine.world->rank() == 0 && !is_present_directory(directory)) {
    throw UserError("--trace " + in_quotes(file_.string()) + ": there is no directory " +
                    in_quotes(directory.string()));
  }
}

Tracer::~Tracer() {
  look_away();
}

void Tracer::look_away() {
  device_.observe(nullptr);
  engine_.program->on_visit({});
}

void Tracer::begin_step(int64_t step) {
  if (state_ == State::before && seen_++ == after_) {
    state_ = State::recording;
    seen_ = 0;
    begin_ = Clock::now();
    device_.observe(collector_);
    engine_.program->on_visit([collector = collector_](const Unit* unit) { collector->set_unit(unit); });
  }
  collector_->set_step(step);
}

bool Tracer::end_step() {
  if (state_ != State::recording || ++seen_ < steps_) return false;
  write();
  return true;
}

void Tracer::close() {
  if (state_ == State::recording) {
    write();
  } else if (state_ == State::before) {
    log::warn("no trace was written: the run ended before the first step to record (train.trace.after is {})",
              after_);
  }
  state_ = State::done;
}

std::string Tracer::rows(int64_t shift) const {
  const int rank = engine_.world->rank();
  std::string out = name_row("process_name", rank, 0, {{"name", mesh_.text(rank)}}).dump();
  const auto put = [&](const Json& row) { out += ",\n" + row.dump(); };
  put(name_row("process_sort_index", rank, 0, {{"sort_index", rank}}));
  for (size_t row = 0; row < kRows.size(); ++row) {
    put(name_row("thread_name", rank, row, {{"name", kRows[row]}}));
    put(name_row("thread_sort_index", rank, row, {{"sort_index", row}}));
  }
  for (const Collector::Entry& entry : collector_->entries()) {
    const int64_t begin = nanoseconds(entry.span.begin) - shift, end = nanoseconds(entry.span.end) - shift;
    Json arguments;
    arguments["step"] = entry.step;
    if (entry.phase) arguments["phase"] = name_of(*entry.phase);
    if (!entry.unit.empty()) arguments["unit"] = entry.unit;
    if (!entry.detail.empty()) arguments["of"] = entry.detail;
    if (entry.collective) {
      arguments["tensor"] = entry.collective->tensor;
      arguments["axis"] = entry.collective->axis;
      arguments["ranks"] = entry.collective->ranks;
      arguments["bytes"] = entry.collective->bytes;
    }
    put({{"name", entry.name},
         {"cat", entry.category},
         {"ph", "X"},
         {"pid", rank},
         {"tid", static_cast<size_t>(entry.row)},
         {"ts", microseconds(begin)},
         {"dur", microseconds(end - begin)},
         {"args", std::move(arguments)}});
  }
  return out;
}

void Tracer::send_words(int peer, std::span<const int64_t> words) {
  engine_.world->exchange().send(peer, std::as_bytes(words), kWhat);
}

std::vector<int64_t> Tracer::receive_words(int peer, size_t count) {
  std::vector<int64_t> words(count);
  engine_.world->exchange().receive(peer, std::as_writable_bytes(std::span(words)), kWhat);
  return words;
}

void Tracer::write() {
  state_ = State::done;
  look_away();
  // What is still under way is recorded too; afterwards nothing is added.
  engine_.device->finish(Seconds(0));
  if (engine_.world->rank() == 0) {
    lead();
  } else {
    follow();
  }
  collector_ = std::make_shared<Collector>();
}

// Ranks of one host read the same clock; what another host's shows is found out by asking.
void Tracer::lead() {
  const auto& here = engine_.world->host_ranks();
  const int ranks = engine_.world->size();
  std::vector<int64_t> shifts{0};
  int64_t first = nanoseconds(begin_);
  for (int rank = 1; rank < ranks; ++rank) {
    const bool near = std::find(here.begin(), here.end(), rank) != here.end();
    std::vector<ClockSample> samples;
    int64_t began = 0;
    for (size_t i = 0; i < (near ? 1 : kQuestions); ++i) {
      const int64_t asked = nanoseconds(Clock::now());
      send_words(rank, std::array{int64_t{0}});
      const auto answer = receive_words(rank, 2);
      samples.push_back({asked, answer[0], nanoseconds(Clock::now())});
      began = answer[1];
    }
    shifts.push_back(near ? 0 : clock_offset(samples));
    first = std::min(first, began - shifts.back());
  }
  for (int rank = 0; rank < ranks; ++rank) {
    shifts[static_cast<size_t>(rank)] += first;
    if (rank > 0) send_words(rank, {&shifts[static_cast<size_t>(rank)], 1});
  }
  OutputFile file(file_);
  file.write("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
  file.write(rows(shifts[0]));
  for (int rank = 1; rank < ranks; ++rank) {
    const int64_t bytes = receive_words(rank, 1)[0];
    if (bytes < 1 || bytes > kLongestPart) {
      throw PeerError("rank " + std::to_string(rank) + " has a trace of " + std::to_string(bytes) +
                      " bytes, but at most " + std::to_string(kLongestPart) + " are taken");
    }
    std::vector<std::byte> text(static_cast<size_t>(bytes));
    engine_.world->exchange().receive(rank, text, kWhat);
    file.write(",\n");
    file.write(text);
  }
  file.write("\n]}\n");
  file.commit();
  log::info("{} steps of {} ranks are in {}", seen_, ranks, printable(file_.string()));
}

void Tracer::follow() {
  const auto& here = engine_.world->host_ranks();
  const bool near = std::find(here.begin(), here.end(), 0) != here.end();
  for (size_t i = 0; i < (near ? 1 : kQuestions); ++i) {
    (void)receive_words(0, 1);
    send_words(0, std::array{nanoseconds(Clock::now()), nanoseconds(begin_)});
  }
  const std::string text = rows(receive_words(0, 1)[0]);
  send_words(0, std::array{static_cast<int64_t>(text.size())});
  engine_.world->exchange().send(0, std::as_bytes(std::span(text)), kWhat);
}

}  // namespace toroid::train
