#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "core/base/text.h"
#include "core/device/cpu/bandwidth.h"
#include "core/device/cpu/bf16_products.h"
#include "core/device/cpu/host_info.h"
#include "launch/toroid/verb.h"
#include "train/engine/cuda/gpu_report.h"
#include "train/engine/engine.h"
#include "train/machine/best_of.h"
#include "train/machine/machine_figures.h"
#include "train/machine/operator_bench.h"
#include "train/machine/product_rate.h"

namespace toroid::launch {
namespace {

struct DoctorFlags {
  int64_t threads = 0;
  bool quick = false;
};

// One line: what was found, what it should be, and what to do where it is not.
void line(const char* what, const std::string& found, bool good, const std::string& remedy) {
  std::printf("%-4s %-18s %s\n", good ? "ok" : "!", what, found.c_str());
  if (!good) std::printf("     %-18s -> %s\n", "", remedy.c_str());
}

bool program_exists(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const Path candidate = Path(rest.substr(0, colon)) / name;
    if (is_reachable(candidate)) return true;
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return false;
}

// Bytes free on the file system that holds `directory`; -1 where it cannot be asked.
int64_t free_bytes(const Path& directory) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0) return -1;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

void look_at_system(const HostInfo& host) {
  line("cores", std::to_string(host.cores) + " (" + printable(host.cpu) + ")", host.cores >= 2,
       "should be at least 2: one computes while the other loads data and communicates");
  line("instruction set", best_isa(host), host.avx512_bf16 || host.amx_bf16,
       "should be AVX-512 bf16 or AMX: without them bf16 is computed as fp32; train.precision: FP32 is as "
       "fast here");
  constexpr int64_t kGigabyte = 1'000'000'000;
  line("memory", human_bytes(host.memory_available) + " available of " + human_bytes(host.memory_total),
       host.memory_available >= 4 * kGigabyte,
       "should be at least 4 GB for configs/bench_b1; `toroid train --dry-run` tells what a config needs");

  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  line("open files", std::to_string(files.rlim_cur), files.rlim_cur >= 1024,
       "should be at least 1024, or 16 for each rank on this host: ulimit -n 65536");
  const int64_t shared = free_bytes("/dev/shm");
  line("shared memory", shared < 0 ? "no /dev/shm" : human_bytes(shared) + " free in /dev/shm",
       shared >= kGigabyte,
       "should be at least 1 GB, 4 MB for each rank and more for gathered weights: start the container with "
       "a larger "
       "--shm-size, or mount -o remount,size=8G /dev/shm");
  const int64_t disk = free_bytes(".");
  line("disk", disk < 0 ? "unknown" : human_bytes(disk) + " free here", disk >= 10 * kGigabyte,
       "should be at least 10 GB: a checkpoint takes 12 bytes a parameter and two or more are kept; give "
       "--out on a "
       "larger disk");
  const bool mpi = program_exists("mpirun");
  line("MPI", mpi ? "mpirun found" : "no mpirun", mpi,
       "needed for several ranks only: apt-get install openmpi-bin libopenmpi-dev, and build again");
}

// Whoever has none misses nothing, unless he means to train on them.
void look_at_gpus() {
  const train::GpuReport report = train::look_at_gpus();
  if (!report.why_none.empty()) {
    line("GPUs", "none (" + report.versions + ")", true, "");
    std::printf("     %-18s %s; rates of GPUs and NCCL between them are not measured\n", "",
                report.why_none.c_str());
    return;
  }
  line("GPUs", std::to_string(report.gpus.size()) + " (" + report.versions + ")", true, "");
  for (size_t i = 0; i < report.gpus.size(); ++i) {
    const train::GpuReport::One& gpu = report.gpus[i];
    const std::string what = "GPU " + std::to_string(i);
    line(what.c_str(),
         printable(gpu.name) + ", " + human_bytes(gpu.free) + " free of " + human_bytes(gpu.total),
         gpu.why_not.empty(), printable(gpu.why_not, 500));
    if (!gpu.why_not.empty()) continue;
    std::printf("     %-18s products bf16 %.1f, fp32 %.1f TFLOP/s; copies read and write %.2f TB/s\n", "",
                gpu.bf16_flops_per_s / 1e12, gpu.fp32_flops_per_s / 1e12, gpu.copy_bytes_per_s / 1e12);
  }
  line("attention on GPUs", report.attention, true, "");
  if (!report.peers.empty()) line("between GPUs", report.peers, true, "");
  const bool several = report.gpus.size() > 1;
  if (!report.nccl.empty() || several)
    line("NCCL", report.nccl.empty() ? "none" : report.nccl, report.why_not_nccl.empty() || !several,
         printable(report.why_not_nccl, 500));
  if (report.gather_bytes_per_s > 0) {
    std::printf("     %-18s over each GPU's links: all_gather %.1f, reduce_scatter %.1f GB/s\n", "",
                report.gather_bytes_per_s / 1e9, report.reduce_bytes_per_s / 1e9);
  }
}

// How bf16 operands are multiplied here, and why.
void choose_products(config::MachineFigures& figures) {
  const cpu::RegisterRates rates = cpu::measure_register_rates();
  const std::string way(name_of(cpu::fastest_products()));
  figures.set_bf16_products(way);
  figures.set_register_bf16_flops_per_s(rates.bf16);
  figures.set_register_fp32_flops_per_s(rates.fp32);
  const std::string bf16 = rates.bf16 > 0 ? fmt::format("bf16 dot products {:.0f}", rates.bf16 / 1e9)
                                          : std::string("no bf16 dot products");
  line("bf16 products",
       way + fmt::format(" (of a core, in registers: {}, fp32 {:.0f} GFLOP/s)", bf16, rates.fp32 / 1e9), true,
       "");
}

struct ProductShape {
  DType type;
  int64_t m, n, k;
  std::unique_ptr<train::ProductTimer> timer;
  train::BestOf forward, input_gradient, weight_gradient;
};

void measure(config::MachineFigures& figures, int threads, bool quick) {
  choose_products(figures);
  const auto device = train::alone(train::Plugins().cpu(), threads, cpu::fastest_products());
  const int rounds = quick ? 3 : 4, repetitions = quick ? 1 : 3;
  std::printf(
      "\nproducts on %d threads, GFLOP/s (forward, input gradient, weight gradient), best of %d rounds\n",
      threads, rounds);
  std::fflush(stdout);
  std::vector<ProductShape> shapes;
  for (const DType type : {DType::bf16, DType::f32}) {
    for (const auto& [m, n, k] :
         {std::array<int64_t, 3>{4096, 1024, 768}, {2048, 6144, 768}, {2048, 768, 3072}, {512, 32768, 768}}) {
      shapes.push_back(
          {type, m, n, k, std::make_unique<train::ProductTimer>(*device, m, n, k, type), {}, {}, {}});
    }
  }
  // What disturbs the machine for some seconds then touches one round of everything.
  train::BestOf bf16, fp32, bandwidth;
  for (int round = 0; round < rounds; ++round) {
    double best_bf16 = 0, best_fp32 = 0;
    for (ProductShape& s : shapes) {
      const train::ProductRates rates = s.timer->round(repetitions);
      s.forward.add(rates.forward);
      s.input_gradient.add(rates.input_gradient);
      s.weight_gradient.add(rates.weight_gradient);
      double& best = s.type == DType::bf16 ? best_bf16 : best_fp32;
      best = std::max({best, rates.forward, rates.input_gradient, rates.weight_gradient});
    }
    bf16.add(best_bf16);
    fp32.add(best_fp32);
    bandwidth.add(measure_triad(threads, int64_t{128} << 20, repetitions));
  }
  for (ProductShape& s : shapes) {
    s.timer.reset();
    std::printf("     %-4s [%5lld, %5lld] x [%5lld, %5lld]  %8.0f %8.0f %8.0f\n",
                std::string(name_of(s.type)).c_str(), static_cast<long long>(s.m),
                static_cast<long long>(s.k), static_cast<long long>(s.k), static_cast<long long>(s.n),
                s.forward.best() / 1e9, s.input_gradient.best() / 1e9, s.weight_gradient.best() / 1e9);
    auto& product = *figures.add_product();
    product.set_m(s.m);
    product.set_n(s.n);
    product.set_k(s.k);
    product.set_type(std::string(name_of(s.type)));
    product.set_flops_per_s(s.forward.best());
  }
  figures.set_bf16_flops_per_s(bf16.best());
  figures.set_fp32_flops_per_s(fp32.best());
  figures.set_bandwidth_bytes_per_s(bandwidth.best());
  figures.set_bf16_spread(bf16.spread());
  figures.set_fp32_spread(fp32.spread());
  figures.set_bandwidth_spread(bandwidth.spread());
  std::printf("     memory bandwidth (triad) %.1f GB/s\n\n", figures.bandwidth_bytes_per_s() / 1e9);
  const double ratio = bf16.best() / fp32.best();
  const bool native = cpu::fastest_products() == Bf16Products::native;
  line(
      "product rates",
      fmt::format("bf16 {:.0f}, fp32 {:.0f} GFLOP/s ({:.1f} x)", bf16.best() / 1e9, fp32.best() / 1e9, ratio),
      ratio >= (native ? 1.5 : 0.85),
      native ? "bf16 should be at least 1.5 times fp32 by bf16 instructions; is another program running?"
             : "bf16 should be about as fast as fp32, which it is widened to; is another program running?");
}

// Whether the machine was idle, as far as its rounds tell.
void look_at_rounds(const config::MachineFigures& figures) {
  const double worst = std::max(
      {figures.bf16_spread(), figures.fp32_spread(), figures.bandwidth_spread(), figures.op_spread()});
  line("rounds",
       fmt::format("differ by {:.0f} % (bf16), {:.0f} % (fp32), {:.0f} % (memory), {:.0f} % (steps)",
                   100 * figures.bf16_spread(), 100 * figures.fp32_spread(), 100 * figures.bandwidth_spread(),
                   100 * figures.op_spread()),
       worst <= train::kAlikeRounds,
       "should be at most 10 %: other programs ran, and the peaks may be too low; run `toroid doctor` again "
       "when "
       "they are done");
}

// For the chip `host` (docs/simulator.md). --quick leaves out what most configs on this machine do not ask.
void measure_operators(config::MachineFigures& figures, int threads, bool quick) {
  std::printf("operators of a step: timing small models\n");
  std::fflush(stdout);
  const auto add = [&](DType type, int on_threads, int repetitions) {
    const train::MeasuredOperators measured = train::measure_operators(type, on_threads, repetitions);
    figures.set_op_spread(std::max(figures.op_spread(), measured.spread));
    for (const auto& [kind, figure] : measured.figures)
      train::add_operator(figures, kind, type, on_threads, figure);
  };
  add(DType::bf16, threads, quick ? 2 : 4);
  if (quick) return;
  add(DType::f32, threads, 2);
  if (threads == 1) return;
  add(DType::bf16, 1, 2);
  add(DType::f32, 1, 1);
}

ExitCode doctor(const DoctorFlags& flags) {
  if (flags.threads < 0 || flags.threads > 4096) {
    throw UserError("--threads is " + std::to_string(flags.threads) + ", but must be between 1 and 4096");
  }
  const HostInfo host = host_info();
  config::TrainConfig train;
  train.set_threads(flags.threads);
  const int threads = train::compute_threads(train);
  config::MachineFigures figures;
  figures.set_cpu(host.cpu);
  figures.set_cores(host.cores);
  figures.set_threads(threads);
  figures.set_isa(best_isa(host));
  figures.set_memory_bytes(host.memory_total);
  look_at_system(host);
  look_at_gpus();
  measure(figures, threads, flags.quick);
  measure_operators(figures, threads, flags.quick);
  look_at_rounds(figures);
  train::write_machine_figures(figures);
  std::printf("\nwritten to %s\n", printable(train::machine_figures_path().string()).c_str());
  return ExitCode::done;
}

}  // namespace

void add_doctor(Verbs& verbs) {
  const auto flags = std::make_shared<DoctorFlags>();
  CLI::App& app = verbs.add("doctor", "Look at this machine, measure it, and say what to mend", "Machine",
                            [flags] { return doctor(*flags); });
  app.add_option("--threads", flags->threads,
                 "Threads to measure with; OMP_NUM_THREADS or all cores if not given")
      ->type_name("N");
  app.add_flag("--quick", flags->quick, "Fewer repetitions, and only what bf16 on all threads takes");
}

}  // namespace toroid::launch
