#include <google/protobuf/text_format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "core/base/text.h"
#include "core/device/cpu/bandwidth.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/host_info.h"
#include "launch/verb.h"
#include "train/bench/operator_bench.h"
#include "train/bench/product_rate.h"
#include "train/engine.h"
#include "train/host_figures.h"

namespace toroid::launch {
namespace {

struct Flags {
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

void measure(config::HostFigures& figures, int threads, bool quick) {
  CpuDevice device(make_cpu_kernels(threads));
  const int repetitions = quick ? 3 : 10;
  std::printf("\nproducts on %d threads, GFLOP/s (forward, input gradient, weight gradient)\n", threads);
  struct Shape3 {
    int64_t m, n, k;
  };
  for (const DType type : {DType::bf16, DType::f32}) {
    double best = 0;
    for (const Shape3& s : {Shape3{4096, 1024, 768}, Shape3{2048, 6144, 768}, Shape3{2048, 768, 3072},
                            Shape3{512, 32768, 768}}) {
      const auto rates = train::measure_products(device, s.m, s.n, s.k, type, repetitions);
      std::printf("     %-4s [%5lld, %5lld] x [%5lld, %5lld]  %8.0f %8.0f %8.0f\n",
                  std::string(name_of(type)).c_str(), static_cast<long long>(s.m),
                  static_cast<long long>(s.k), static_cast<long long>(s.k), static_cast<long long>(s.n),
                  rates.forward / 1e9, rates.input_gradient / 1e9, rates.weight_gradient / 1e9);
      best = std::max({best, rates.forward, rates.input_gradient, rates.weight_gradient});
      auto& product = *figures.add_product();
      product.set_m(s.m);
      product.set_n(s.n);
      product.set_k(s.k);
      product.set_type(std::string(name_of(type)));
      product.set_flops_per_s(rates.forward);
    }
    (type == DType::bf16 ? figures.set_bf16_flops_per_s(best) : figures.set_fp32_flops_per_s(best));
  }
  figures.set_bandwidth_bytes_per_s(measure_triad(threads, int64_t{128} << 20, quick ? 3 : 10));
  std::printf("     memory bandwidth (triad) %.1f GB/s\n\n", figures.bandwidth_bytes_per_s() / 1e9);
  const double ratio = figures.bf16_flops_per_s() / figures.fp32_flops_per_s();
  char text[96];
  std::snprintf(text, sizeof text, "bf16 %.0f, fp32 %.0f GFLOP/s (%.1f x)", figures.bf16_flops_per_s() / 1e9,
                figures.fp32_flops_per_s() / 1e9, ratio);
  line("product rates", text, ratio >= 1.5,
       "bf16 should be at least 1.5 times fp32 on a machine with bf16 instructions; is another program "
       "running?");
}

// For the chip `host` (docs/simulator.md). --quick leaves out what most configs on this machine do not ask.
void measure_operators(config::HostFigures& figures, int threads, bool quick) {
  std::printf("operators of a step: timing small models\n");
  std::fflush(stdout);
  const auto add = [&](DType type, int on_threads, int repetitions) {
    for (const auto& [kind, figure] : train::measure_operators(type, on_threads, repetitions))
      train::add_operator(figures, kind, type, on_threads, figure);
  };
  add(DType::bf16, threads, quick ? 2 : 4);
  if (quick) return;
  add(DType::f32, threads, 2);
  if (threads == 1) return;
  add(DType::bf16, 1, 2);
  add(DType::f32, 1, 1);
}

ExitCode doctor(const Flags& flags) {
  if (flags.threads < 0 || flags.threads > 4096) {
    throw UserError("--threads is " + std::to_string(flags.threads) + ", but must be between 1 and 4096");
  }
  const HostInfo host = host_info();
  config::TrainConfig train;
  train.set_threads(flags.threads);
  const int threads = train::compute_threads(train);
  config::HostFigures figures;
  figures.set_cpu(host.cpu);
  figures.set_cores(host.cores);
  figures.set_threads(threads);
  figures.set_isa(best_isa(host));
  figures.set_memory_bytes(host.memory_total);
  look_at_system(host);
  measure(figures, threads, flags.quick);
  measure_operators(figures, threads, flags.quick);
  std::string text;
  google::protobuf::TextFormat::PrintToString(figures, &text);
  const Path path = train::host_figures_path();
  make_directories(path.parent_path());
  write_file(path, "# Measured by `toroid doctor`.\n" + text);
  std::printf("\nwritten to %s\n", printable(path.string()).c_str());
  return ExitCode::done;
}

}  // namespace

void add_doctor(Verbs& verbs) {
  const auto flags = std::make_shared<Flags>();
  CLI::App& app = verbs.add("doctor", "Look at this machine, measure it, and say what to mend", "Machine",
                            [flags] { return doctor(*flags); });
  app.add_option("--threads", flags->threads,
                 "Threads to measure with; OMP_NUM_THREADS or all cores if not given")
      ->type_name("N");
  app.add_flag("--quick", flags->quick, "Fewer repetitions, and only what bf16 on all threads takes");
}

}  // namespace toroid::launch
