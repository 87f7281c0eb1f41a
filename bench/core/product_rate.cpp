// Rates of the kernels made of products at the shapes of B1 (4 x 1024 tokens), in GFLOP/s of the FLOPs that
// their operators charge; the best of a few runs. WIDENED and NATIVE are the two ways of multiplying bf16
// operands, FP32 is what WIDENED is held against.
// Usage: product_rate [threads [name part [WIDENED|NATIVE|FP32]]]
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/device/block.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/op/attention.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"

namespace {

using namespace toroid;

constexpr int64_t kTokens = 4096, kModel = 768, kFfn = 3072, kHeads = 6, kHeadDim = 128, kVocabulary = 32768;
constexpr int64_t kQkv = (kHeads + 2) * kHeadDim;

// On huge pages, as the device allocates.
std::unique_ptr<std::byte, void (*)(void*)> allocate(int64_t bytes) {
  constexpr size_t kPage = size_t{2} << 20;
  const size_t size = (static_cast<size_t>(bytes) + kPage) / kPage * kPage;
  void* memory = std::aligned_alloc(kPage, size);
  madvise(memory, size, MADV_HUGEPAGE);
  return {static_cast<std::byte*>(memory), std::free};
}

class Bench {
 public:
  Bench(int threads, std::string only, const std::string& way)
      : kernels_(way == "NATIVE"    ? make_cpu_kernels(threads, Bf16Products::native)
                 : way == "WIDENED" ? make_cpu_kernels(threads, Bf16Products::widened)
                                    : make_cpu_kernels(threads)),
        threads_(threads),
        only_(std::move(only)),
        operand_(way == "FP32" ? DType::f32 : DType::bf16) {}
  DType operand() const { return operand_; }

  Tensor make(DType type, Shape shape, Layout layout = Layout::plain, double spread = 0.05) {
    const int64_t bytes = kernels_->traits.packed_bytes(type, shape, layout);
    memory_.push_back(allocate(bytes));
    blocks_.push_back(std::make_unique<Block>());
    blocks_.back()->address = memory_.back().get();
    blocks_.back()->bytes = bytes;
    Tensor t{blocks_.back().get(), 0, type, layout, shape, shape.row_elements()};
    uint32_t state = 1;
    const int64_t count = bytes / bytes_of(type);
    for (int64_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      const float value = static_cast<float>((static_cast<double>(state) / 4294967296.0 - 0.5) * spread);
      if (type == DType::bf16) t.as<uint16_t>()[i] = to_bf16(value);
      if (type == DType::f32) t.as<float>()[i] = value;
      if (type == DType::i32) t.as<int32_t>()[i] = 0;
    }
    return t;
  }

  void run(const char* name, const Call& call, int times = 7) {
    if (std::string(name).find(only_) == std::string::npos) return;
    const Kernel* kernel = kernels_->find(*call.kind);
    LaunchContext context{.threads = threads_};
    const int64_t bytes = kernel->workspace_bytes == nullptr ? 0 : kernel->workspace_bytes(call, context);
    const auto workspace = allocate(bytes);
    context.workspace = workspace.get();
    double best = 1e30;
    for (int i = 0; i < times; ++i) {
      const auto start = std::chrono::steady_clock::now();
      kernel->run(call, context);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    const double flops = static_cast<double>(call.kind->cost(call).flops());
    std::printf("%-24s %8.2f ms %8.1f GFLOP/s  workspace %.1f MB\n", name, best * 1e3, flops / best * 1e-9,
                static_cast<double>(bytes) * 1e-6);
    std::fflush(stdout);
  }

 private:
  std::shared_ptr<DeviceKernels> kernels_;
  int threads_;
  std::string only_;
  DType operand_;
  std::vector<std::unique_ptr<std::byte, void (*)(void*)>> memory_;
  std::vector<std::unique_ptr<Block>> blocks_;
};

void time_weight(Bench& bench, const char* name, int64_t n, int64_t k) {
  const DType type = bench.operand(), f32 = DType::f32;
  const Tensor x = bench.make(type, {kTokens, k}), y = bench.make(type, {kTokens, n});
  const Tensor master = bench.make(f32, {n, k}), forward = bench.make(type, {n, k}, Layout::packed_forward),
               backward = bench.make(type, {n, k}, Layout::packed_backward);
  const std::string label = name;
  bench.run((label + " pack forward").c_str(), op::pack({&master, 1}, forward));
  bench.run((label + " pack backward").c_str(), op::pack({&master, 1}, backward));
  bench.run((label + " forward").c_str(), op::matmul(x, forward, y));
  bench.run((label + " dx").c_str(), op::matmul_dx(y, backward, x));
  bench.run((label + " dw").c_str(), op::matmul_dw(y, x, master, {false}));
  bench.run((label + " dw adding").c_str(), op::matmul_dw(y, x, master, {true}));
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : omp_get_max_threads();
  Bench bench(threads, argc > 2 ? argv[2] : "", argc > 3 ? argv[3] : "");
  const DType type = bench.operand(), f32 = DType::f32;
  time_weight(bench, "qkv", kQkv, kModel);
  time_weight(bench, "out", kModel, kHeads * kHeadDim);
  time_weight(bench, "gate_up", 2 * kFfn, kModel);
  time_weight(bench, "down", kModel, kFfn);

  const Tensor qkv = bench.make(type, {kTokens, kQkv}, Layout::plain, 4),
               d_qkv = bench.make(type, {kTokens, kQkv}), o = bench.make(type, {kTokens, kHeads * kHeadDim}),
               d_o = bench.make(type, {kTokens, kHeads * kHeadDim}), lse = bench.make(f32, {kHeads, kTokens}),
               starts = bench.make(DType::i32, {kTokens});
  const auto part = [](const Tensor& t, int64_t first, int64_t heads) {
    return t.slice_columns(first * kHeadDim, heads * kHeadDim);
  };
  const op::AttentionSpec spec{
      .sequences = 4, .heads = kHeads, .kv_heads = 1, .head_dim = kHeadDim, .scale = 0.088};
  bench.run("attention", op::attention(part(qkv, 0, kHeads), part(qkv, kHeads, 1), part(qkv, kHeads + 1, 1),
                                       starts, o, lse, spec));
  bench.run("attention_grad",
            op::attention_grad(d_o, part(qkv, 0, kHeads), part(qkv, kHeads, 1), part(qkv, kHeads + 1, 1), o,
                               lse, starts, part(d_qkv, 0, kHeads), part(d_qkv, kHeads, 1),
                               part(d_qkv, kHeads + 1, 1), spec));

  const Tensor h = bench.make(type, {kTokens, kModel}), dh = bench.make(type, {kTokens, kModel}),
               table = bench.make(type, {kVocabulary, kModel}, Layout::packed_forward),
               table_backward = bench.make(type, {kVocabulary, kModel}, Layout::packed_backward),
               d_table = bench.make(f32, {kVocabulary, kModel}), targets = bench.make(DType::i32, {kTokens}),
               scale = bench.make(f32, {1}), token_loss = bench.make(f32, {kTokens});
  for (const int64_t block : {512, 1024}) {
    const std::string tokens = " by " + std::to_string(block);
    bench.run(("loss" + tokens).c_str(), op::loss(h, table, targets, token_loss, {.block_tokens = block}), 3);
    bench.run(("loss_grad" + tokens).c_str(),
              op::loss_grad(h, table, table_backward, targets, scale, token_loss, dh, d_table,
                            {.block_tokens = block}),
              3);
  }
}
