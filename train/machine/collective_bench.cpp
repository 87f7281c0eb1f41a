#include "train/machine/collective_bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <span>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/median.h"
#include "core/device/cpu/stream_copy.h"
#include "parallel/comm/scheduled_communicator.h"
#include "parallel/comm/world.h"
#include "train/engine/plugins.h"
#include "train/ranks/meeting.h"

namespace toroid::train {
namespace {

using schedule::Operation;

constexpr Operation kTimed[] = {Operation::all_gather, Operation::reduce_scatter, Operation::all_reduce,
                                Operation::broadcast};
constexpr int64_t kBytesATiming = int64_t{2} << 20;  // small arrays go that often
constexpr int kMostCalls = 64;
constexpr Seconds kPatience{600};

bool adds(Operation operation) {
  return operation == Operation::reduce_scatter || operation == Operation::all_reduce;
}

// A way of the bench: a group of its own, so that nothing else of it differs.
struct Contestant {
  Method method;
  std::unique_ptr<Communicator> group;
};

class Bench {
 public:
  Bench(const CollectiveBenchOptions& options, const DeviceMaker& maker, std::unique_ptr<World> world)
      : options_(options),
        world_(std::move(world)),
        device_(maker.make(maker.kernels(1, Bf16Products::widened), world_.get())) {
    if (world_->size() != options.shape.size()) {
      throw UserError("the shape has " + std::to_string(options.shape.size()) + " ranks, but " +
                      std::to_string(world_->size()) + " were started");
    }
    everybody_.resize(static_cast<size_t>(world_->size()));
    std::iota(everybody_.begin(), everybody_.end(), 0);
    out_.rank = world_->rank();
    out_.ranks = world_->size();
    out_.ranks_per_host = world_->ranks_per_host(everybody_);
    referee_ = group(std::nullopt);
    out_.on_gpus = dynamic_cast<const ScheduledCommunicator*>(referee_.get()) == nullptr;
    if (out_.on_gpus) return;
    for (const Method& method : all_methods()) contestants_.push_back({method, group(method)});
  }

  CollectiveBench run() {
    for (const Operation operation : kTimed) {
      for (const int64_t bytes : options_.sizes) out_.rows.push_back(time_row(operation, bytes));
    }
    return std::move(out_);
  }

 private:
  std::unique_ptr<Communicator> group(std::optional<Method> method) {
    GroupOptions options;
    options.method = method;
    return world_->group(*device_, Queue::gather, "bench", everybody_, options_.shape, options);
  }

  // A way that does not serve is replaced by another.
  static bool serves(const Contestant& one, Operation operation, int64_t bytes) {
    return dynamic_cast<const ScheduledCommunicator&>(*one.group).method_of(operation, bytes) == one.method;
  }

  void meet() { device_->synchronize(referee_->barrier({"start", "bench", Phase::setup}), kPatience); }

  // The slowest rank's, of each measurement.
  std::vector<double> slowest(const std::vector<double>& seconds) {
    std::vector<int64_t> nanoseconds;
    for (const double s : seconds) nanoseconds.push_back(static_cast<int64_t>(s * 1e9));
    const Array array = device_->array(DType::i64, {static_cast<int64_t>(seconds.size())}, "bench");
    device_->write(array.tensor, std::as_bytes(std::span(nanoseconds)));
    referee_->all_reduce(array.tensor, Combine::max, Wire::exact, {"times", "bench", Phase::setup});
    device_->read(array.tensor, std::as_writable_bytes(std::span(nanoseconds)));
    std::vector<double> out;
    for (const int64_t ns : nanoseconds) out.push_back(static_cast<double>(ns) * 1e-9);
    return out;
  }

  // Bytes/s read and written by one pass of all ranks at once, each over memory of its own, from when the
  // first begins to when the last ends: the better of cached and streaming stores, at this moment.
  template <class Pass>
  double rate_of(double bytes, const Pass& pass) {
    const auto now = [] { return Seconds(std::chrono::steady_clock::now().time_since_epoch()).count(); };
    double best = 0;
    for (const bool streams : {false, true}) {
      meet();
      const double begin = now();
      pass(streams);
      const std::vector<double> last = slowest({-begin, now()});
      best = std::max(best, bytes * out_.ranks / (last[0] + last[1]));
    }
    return best;
  }

  // `whole` into an array of its own size, as each rank of an all_gather writes one.
  double copy_rate(const Tensor& whole, const Tensor& other) {
    const int64_t bytes = whole.bytes();
    return rate_of(2.0 * static_cast<double>(bytes), [&](bool streams) {
      if (streams) {
        cpu::stream_copy(other.data(), whole.data(), bytes);
      } else {
        std::memcpy(other.data(), whole.data(), static_cast<size_t>(bytes));
      }
    });
  }

  // As many slices of `whole` as there are ranks, summed into `share`, as each rank of a reduce_scatter does.
  // Nothing (0) for numbers of ranks that are not summed in one pass.
  double sum_rate(const Tensor& whole, const Tensor& share) {
    if (!cpu::sums_in_one_pass(out_.ranks)) return 0;
    std::vector<const float*> rows;
    for (int i = 0; i < out_.ranks; ++i)
      rows.push_back(reinterpret_cast<const float*>(whole.data()) + i * share.elements());
    return rate_of(static_cast<double>(whole.bytes() + share.bytes()), [&](bool streams) {
      cpu::sum_rows(reinterpret_cast<float*>(share.data()), rows, share.elements(), streams);
    });
  }

  Array filled(int64_t elements) {
    Array array = device_->array(DType::f32, {elements}, "bench");
    const std::vector<float> values(static_cast<size_t>(elements), 1.0f);
    device_->write(array.tensor, std::as_bytes(std::span(values)));
    return array;
  }

  void call(Communicator& group, Operation operation, const Tensor& share, const Tensor& whole) {
    const CollectiveLabel label{"bench", "bench", Phase::setup};
    switch (operation) {
      case Operation::all_gather:
        (void)group.all_gather({share, {}}, label);
        break;
      case Operation::reduce_scatter:
        (void)group.reduce_scatter({whole, {}}, Wire::exact, label);
        break;
      case Operation::all_reduce:
        group.all_reduce(whole, Combine::sum, Wire::exact, label);
        break;
      case Operation::broadcast:
        group.broadcast(whole, 0, label);
        break;
      case Operation::all_to_all:
        throw InternalError("all_to_all is not timed");
    }
  }

  CollectiveRow time_row(Operation operation, int64_t bytes) {
    const int64_t share_elements = std::max<int64_t>(1, bytes / 4 / out_.ranks);
    const int64_t elements = share_elements * out_.ranks;
    CollectiveRow row;
    row.operation = operation;
    row.bytes = elements * 4;
    const Array share = filled(share_elements), whole = filled(elements);
    const int calls = static_cast<int>(std::clamp<int64_t>(kBytesATiming / row.bytes, 1, kMostCalls));
    const auto time = [&](Communicator& way) {
      meet();
      const Stopwatch watch;
      for (int k = 0; k < calls; ++k) call(way, operation, share.tensor, whole.tensor);
      device_->synchronize(device_->record(Queue::gather), kPatience);
      return watch.elapsed().count() / calls;
    };
    if (out_.on_gpus) {
      std::vector<double> took;
      for (int round = 0; round <= options_.rounds; ++round) took.push_back(time(*referee_));
      took.erase(took.begin());  // connections are made
      row.library_s = median(slowest(took));
      return row;
    }
    World::LibraryCall library;
    library.operation = operation;
    library.elements = elements;
    library.calls = calls;
    library.in = reinterpret_cast<float*>(whole.tensor.data());
    library.out = reinterpret_cast<float*>(share.tensor.data());
    if (operation == Operation::all_gather) std::swap(library.in, library.out);
    std::vector<Contestant*> serving;
    for (Contestant& one : contestants_) {
      if (serves(one, operation, row.bytes)) serving.push_back(&one);
    }
    std::vector<std::vector<double>> seconds(serving.size() + 1);
    // The ranks of one host read one clock.
    const bool bounded = row.bytes >= kBoundFrom && out_.ranks_per_host == out_.ranks;
    const Array other = filled(bounded ? elements : 0);
    std::vector<double> copies, sums;
    // The first round warms up: memory is touched, connections are made.
    for (int round = 0; round <= options_.rounds; ++round) {
      for (size_t i = 0; i < serving.size(); ++i) {
        const double took = time(*serving[i]->group);
        if (round > 0) seconds[i].push_back(took);
      }
      if (round > 0 && bounded) {
        copies.push_back(copy_rate(whole.tensor, other.tensor));
        if (adds(operation)) sums.push_back(sum_rate(whole.tensor, share.tensor));
      }
      const auto took = world_->time_library(library);
      if (round > 0 && took) seconds.back().push_back(took->count() / calls);
    }
    for (size_t i = 0; i < serving.size(); ++i)
      row.times.push_back({serving[i]->method, median(slowest(seconds[i]))});
    if (!copies.empty()) row.copy_rate = median(copies);
    if (!sums.empty()) row.sum_rate = median(sums);
    if (!seconds.back().empty()) row.library_s = median(slowest(seconds.back()));
    return row;
  }

  const CollectiveBenchOptions& options_;
  std::unique_ptr<World> world_;
  std::unique_ptr<Device> device_;
  std::vector<int> everybody_;
  std::unique_ptr<Communicator> referee_;
  std::vector<Contestant> contestants_;
  CollectiveBench out_;
};

}  // namespace

const MethodTime& CollectiveRow::best() const {
  return *std::min_element(times.begin(), times.end(),
                           [](const MethodTime& a, const MethodTime& b) { return a.median_s < b.median_s; });
}

double CollectiveBench::bound_s(const CollectiveRow& row) const {
  const double n = ranks;
  double copied = 0, summed = 0;  // arrays read and written, over all ranks
  switch (row.operation) {
    case Operation::all_gather:  // each reads and writes the whole array
      copied = 2 * n;
      break;
    case Operation::reduce_scatter:  // each reads a share of every rank's, and writes one
      summed = n + 1;
      break;
    case Operation::all_reduce:  // and reads and writes the other shares
      summed = n + 1;
      copied = 2 * (n - 1);
      break;
    case Operation::broadcast:
    case Operation::all_to_all:
      copied = 2 * (n - 1);
      break;
  }
  if (row.copy_rate <= 0) return 0;
  const double sum_rate = row.sum_rate > 0 ? row.sum_rate : row.copy_rate;
  return (copied / row.copy_rate + summed / sum_rate) * static_cast<double>(row.bytes);
}

std::vector<Choice> CollectiveBench::winners() const {
  std::vector<Choice> out;
  for (const CollectiveRow& row : rows) {
    if (!row.times.empty())
      out.push_back({row.operation, ranks, ranks_per_host, row.bytes, row.best().method});
  }
  return out;
}

std::vector<sim::CollectiveTime> CollectiveBench::times() const {
  std::vector<sim::CollectiveTime> out;
  for (const CollectiveRow& row : rows) {
    for (const MethodTime& time : row.times) {
      out.push_back({std::string(schedule::name(row.operation)), std::string(name(time.method)), ranks,
                     row.bytes, time.median_s});
    }
  }
  return out;
}

CollectiveBench bench_collectives(const CollectiveBenchOptions& options, const DeviceMaker& maker,
                                  std::unique_ptr<World> world) {
  return Bench(options, maker, std::move(world)).run();
}

CollectiveBench bench_collectives(const CollectiveBenchOptions& options, const DeviceMaker& maker) {
  Meeting ranks = meet_launched_ranks(kPatience);
  RunIdentity identity;
  identity.add("shape", text(options.shape));
  std::string sizes;
  for (const int64_t bytes : options.sizes) sizes += (sizes.empty() ? "" : ",") + std::to_string(bytes);
  identity.add("--sizes", sizes);
  identity.add("--rounds", std::to_string(options.rounds));
  add_program(identity);
  ranks.agree(identity);
  return bench_collectives(options, maker, ranks.part());
}

}  // namespace toroid::train
