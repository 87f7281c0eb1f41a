#include "bench/step/kernel_bench.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/base/median.h"
#include "core/device/sim/recording_device.h"
#include "core/op/elementwise.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "train/engine/engine.h"
#include "train/loop/memory_fit.h"
#include "train/machine/product_rate.h"

namespace toroid::train {
namespace {

constexpr Seconds kLongest{600};
constexpr int kMostLaunches = 100;  // in a round: sums that are added to again and again stay small
constexpr const char* kHolder = "benchmark";

bool is_product(const OpKind* kind) {
  return kind == &op::matmul_kind || kind == &op::matmul_dx_kind || kind == &op::matmul_dw_kind;
}
bool is_loss_grad(const OpKind* kind) {
  return kind == &op::loss_grad_kind || kind == &op::loss_part_grad_kind;
}
bool has_loss_rows(const OpKind* kind) {
  return is_loss_grad(kind) || kind == &op::loss_kind || kind == &op::loss_statistics_kind;
}

KernelClass class_of(const Call& call, const Cost& cost) {
  if (is_product(call.kind)) return KernelClass::product;
  if (call.kind->name.rfind("attention", 0) == 0) return KernelClass::attention;
  return cost.products.empty() ? KernelClass::memory : KernelClass::fused;
}

double product_flops(const Cost& cost) {
  double out = 0;
  for (const Product& product : cost.products) out += static_cast<double>(product.flops());
  return out;
}

// What the loss's rows read and write between its products: logits in fp32 for their statistics, and again
// for their gradient, which is written in the type of the products.
double loss_row_bytes(const Call& call) {
  const auto logits = static_cast<double>(call[0].rows() * call[1].rows());
  const auto f32 = static_cast<double>(bytes_of(DType::f32)),
             type = static_cast<double>(bytes_of(call[0].type));
  const bool statistics = call.kind != &op::loss_part_grad_kind;
  return logits * ((statistics ? f32 : 0) + (is_loss_grad(call.kind) ? f32 + type : 0));
}

int64_t loss_block(const Call& call) {
  const bool by_parts = call.kind == &op::loss_part_grad_kind;
  const int64_t block =
      by_parts ? call.get<op::LossPartSpec>().block_tokens : call.get<op::LossSpec>().block_tokens;
  return std::min(block, call[0].rows());
}

// The products of a loss's gradient, by whose shapes they are timed alone.
struct HeadShape {
  int64_t tokens = 0, block = 0, vocabulary = 0, d_model = 0;
  DType type = DType::bf16;
  int64_t calls = 0;
};

// The library's own choice again, and nothing left out, at the end of the scope.
class WaysGuard {
 public:
  explicit WaysGuard(ProductWays& ways) : ways_(ways) {}
  ~WaysGuard() {
    ways_.take(std::nullopt);
    ways_.leave_out(false);
  }
  WaysGuard(const WaysGuard&) = delete;  // of one scope
  WaysGuard& operator=(const WaysGuard&) = delete;

 private:
  ProductWays& ways_;
};

class Bench {
 public:
  explicit Bench(const KernelBenchOptions& options) : options_(options) {}

  // In place of a launch by the step.
  void launch(Device& device, const Call& call, Queue queue, const std::function<void()>& run) {
    const Cost cost = call.kind->cost(call);
    const std::string text = describe(call);
    const Key key{text, cost.flops(), cost.bytes_read + cost.bytes_written};
    if (const auto seen = rows_.find(key); seen != rows_.end()) {
      for (const size_t row : seen->second) ++out_.kernels[row].calls;
      if (head_ && is_loss_grad(call.kind)) ++head_->calls;
      return run();
    }
    std::vector<size_t>& rows = rows_[key];
    rows.push_back(add(device, call, cost, text, queue, run));
    ProductWays* const ways = device.product_ways();
    if (ways == nullptr || call.tiles.deterministic || call[0].elements() == 0) return;
    if (is_loss_grad(call.kind)) {
      head_ = {call[0].rows(), loss_block(call), call[1].rows(), call[0].columns(), call[0].type, 1};
    }
    if (!has_loss_rows(call.kind)) return;
    KernelTime& beside = out_.kernels.emplace_back();
    rows.push_back(out_.kernels.size() - 1);
    beside.op = std::string(call.kind->name) + " without its products";
    beside.text = beside.op + " " + text.substr(text.find('('));
    beside.calls = 1;
    beside.bytes = loss_row_bytes(call);
    {
      const WaysGuard guard(*ways);
      ways->leave_out(true);
      beside.seconds = time(device, queue, run);
    }
    run();  // what goes on from here has the operator's results
  }

  // As the loss has them, on random numbers.
  void time_head(Device& device) {
    if (!head_) return;
    const HeadShape& head = *head_;
    const int64_t M = head.block, V = head.vocabulary, D = head.d_model;
    const Array table = random_array(device, head.type, {V, D}), x = random_array(device, head.type, {M, D}),
                forward = device.array(head.type, {V, D}, kHolder, Layout::packed_forward),
                backward = device.array(head.type, {V, D}, kHolder, Layout::packed_backward),
                logits = device.array(DType::f32, {M, V}, kHolder),
                dy = random_array(device, head.type, {M, V}), dx = device.array(head.type, {M, D}, kHolder),
                dw = device.array(DType::f32, {V, D}, kHolder);
    device.launch(op::pack(std::span(&table.tensor, 1), forward.tensor));
    device.launch(op::pack(std::span(&table.tensor, 1), backward.tensor));
    device.launch(op::fill(dw.tensor, {}));
    const int64_t blocks = (head.tokens + M - 1) / M;
    for (const Call& call : {op::matmul(x.tensor, forward.tensor, logits.tensor),
                             op::matmul_dx(dy.tensor, backward.tensor, dx.tensor),
                             op::matmul_dw(dy.tensor, x.tensor, dw.tensor, {.accumulate = true})}) {
      const size_t row = add(device, call, call.kind->cost(call), describe(call), Queue::compute,
                             [&] { device.launch(call); });
      out_.kernels[row].calls = blocks * head.calls;
    }
  }

  void time_copies(Device& device) {
    constexpr int64_t kMost = int64_t{1} << 30, kOfHost = int64_t{1} << 28;
    const int64_t bytes = device.memory_bytes() == 0 ? kOfHost : std::min(kMost, device.memory_bytes() / 4);
    const Array from = device.array(DType::u8, {bytes}, kHolder),
                to = device.array(DType::u8, {bytes}, kHolder);
    const double seconds = time(device, Queue::compute, [&] { device.copy(to.tensor, from.tensor); });
    out_.copy_bytes_per_s = 2 * static_cast<double>(bytes) / seconds;
  }

  KernelBench take(bool finite) {
    out_.finite = finite;
    out_.beyond_caches = options_.beyond_caches;
    std::stable_sort(out_.kernels.begin(), out_.kernels.end(), [](const KernelTime& a, const KernelTime& b) {
      return std::pair(a.kind, -a.seconds * static_cast<double>(a.calls)) <
             std::pair(b.kind, -b.seconds * static_cast<double>(b.calls));
    });
    return std::move(out_);
  }

 private:
  using Key = std::tuple<std::string, int64_t, int64_t>;

  // Of one launch, the median of the rounds after one that warms up.
  double time(Device& device, Queue queue, const std::function<void()>& run) const {
    return time(device, queue, run, options_.rounds, options_.each);
  }
  static double time(Device& device, Queue queue, const std::function<void()>& run, int count, Seconds each) {
    const auto seconds = [&](int launches) {
      const Event before = device.record(queue);
      for (int i = 0; i < launches; ++i) run();
      const Event after = device.record(queue);
      device.synchronize(after, kLongest);
      return std::max(device.elapsed(before, after).count() / launches, 1e-9);
    };
    run();
    const int launches = static_cast<int>(std::clamp(each.count() / seconds(1), 1.0, double{kMostLaunches}));
    std::vector<double> rounds(static_cast<size_t>(count));
    for (double& round : rounds) round = seconds(launches);
    return median(rounds);
  }

  // A row for it, and its place.
  size_t add(Device& device, const Call& call, const Cost& cost, const std::string& text, Queue queue,
             const std::function<void()>& run) {
    KernelTime row;
    row.kind = class_of(call, cost);
    row.op = call.kind->name;
    row.text = text;
    row.calls = 1;
    row.flops = product_flops(cost);
    row.bytes = static_cast<double>(cost.bytes_read + cost.bytes_written);
    row.seconds = time(device, queue, run);
    ProductWays* const ways = device.product_ways();
    if (row.kind == KernelClass::product && ways != nullptr && !call.tiles.deterministic && row.flops > 0)
      try_ways(row, *ways, device, queue, run);
    out_.kernels.push_back(std::move(row));
    return out_.kernels.size() - 1;
  }

  void try_ways(KernelTime& row, ProductWays& ways, Device& device, Queue queue,
                const std::function<void()>& run) const {
    const WaysGuard guard(ways);
    row.best_s = row.seconds;
    row.ways = 1;
    // A short look at each of them, and as long a one at the fastest as the program's choice has had.
    std::pair<double, int> fastest{row.seconds, -1};
    for (int nth = 0; nth < row.ways; ++nth) {
      ways.take(nth);
      try {
        fastest = std::min(fastest, {time(device, queue, run, 1, options_.each / 4), nth});
      } catch (const SystemError&) {
        if (nth == 0) return;  // the library has no answer without the program's wishes
        continue;              // offered, and not carried out
      }
      row.ways = ways.count();
    }
    if (fastest.second < 0) return;
    ways.take(fastest.second);
    row.best_s = std::min(row.best_s, time(device, queue, run));
  }

  const KernelBenchOptions& options_;
  KernelBench out_;
  std::map<Key, std::vector<size_t>> rows_;  // by operator: places in out_.kernels
  std::optional<HeadShape> head_;
};

}  // namespace

std::string_view name_of(KernelClass kind) {
  switch (kind) {
    case KernelClass::memory:
      return "memory";
    case KernelClass::product:
      return "product";
    case KernelClass::attention:
      return "attention";
    case KernelClass::fused:
      return "fused";
  }
  return "";
}

double KernelBench::share(const KernelTime& kernel) const {
  if (kernel.kind == KernelClass::memory) return kernel.bytes_per_s() / copy_bytes_per_s;
  return kernel.best_s > 0 ? kernel.best_s / kernel.seconds : 0;
}

bool KernelBench::judged(const KernelTime& kernel) const {
  return kernel.kind == KernelClass::memory ? kernel.bytes >= beyond_caches : kernel.ways > 1;
}

const KernelTime* KernelBench::worst(KernelClass kind) const {
  const KernelTime* out = nullptr;
  for (const KernelTime& kernel : kernels) {
    if (kernel.kind != kind || !judged(kernel)) continue;
    if (out == nullptr || share(kernel) < share(*out)) out = &kernel;
  }
  return out;
}

double KernelBench::attention_s(std::string_view op) const {
  for (const KernelTime& kernel : kernels) {
    if (kernel.op == op) return kernel.seconds;
  }
  return 0;
}

KernelBench bench_kernels(const config::RunConfig& run, const KernelBenchOptions& options,
                          const Plugins& plugins) {
  auto [world, device, products] = join_ranks(run, plugins);
  if (world->size() > 1) {
    throw UserError("bench kernels times one device, and " + std::to_string(world->size()) +
                    " ranks were started; start one, with a mesh of one");
  }
  check_memory(run, *world, *device, plugins);
  Bench bench(options);
  bool finite = false;
  // One recorder in front of the device for all that is timed, since events are counted there. It outlives
  // the program, which leaves its memory to what comes after the step.
  std::unique_ptr<Device> front = std::make_unique<RecordingDevice>(*device);
  auto& recorder = static_cast<RecordingDevice&>(*front);
  recorder.keep_records(false);
  {
    Engine engine = make_engine(run, std::move(world), std::move(front), plugins);
    StepProgram& program = *engine.program;
    program.initialise(run.train().seed());
    program.upload(host_batch(synthetic_batch(run, 0)), plugins.schedules.make(run.optim().schedule())(0));
    recorder.around_launches([&](const Call& call, Queue queue, const std::function<void()>& once) {
      bench.launch(recorder, call, queue, once);
    });
    program.step();
    engine.device->synchronize(program.marks().end, kLongest);
    const StepResult result = program.result(0);
    finite = std::isfinite(result.loss) && !result.skipped;
    recorder.around_launches(nullptr);
    front = std::move(engine.device);
  }
  bench.time_head(*front);
  bench.time_copies(*front);
  KernelBench out = bench.take(finite);
  out.remarks = front->remarks();
  return out;
}

}  // namespace toroid::train
