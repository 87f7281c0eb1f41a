// toroid bench kernels: how near each operator of a step comes to what its device can do.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/step/kernel_bench.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/verb.h"
#include "train/machine/collective_table.h"

namespace toroid::launch {
namespace {

using train::KernelBench;
using train::KernelClass;
using train::KernelTime;

struct BenchKernelsFlags {
  ConfigFlags config;
  int64_t rounds = 5;
  double beyond_caches = 120;  // MB
  bool json = false;
};

nlohmann::ordered_json to_json(const KernelBench& bench) {
  nlohmann::ordered_json out;
  out["copy_bytes_per_s"] = bench.copy_bytes_per_s;
  out["finite"] = bench.finite;
  for (const std::string& remark : bench.remarks) out["remarks"].push_back({{"remark", remark}});
  for (const KernelClass kind : {KernelClass::memory, KernelClass::product}) {
    const KernelTime* const worst = bench.worst(kind);
    const std::string name = "worst_" + std::string(name_of(kind));
    out[name] = worst == nullptr ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(worst->text);
    out[name + "_share"] =
        worst == nullptr ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(bench.share(*worst));
  }
  out["attention_forward_s"] = bench.attention_s("attention");
  out["attention_backward_s"] = bench.attention_s("attention_grad");
  for (const KernelTime& kernel : bench.kernels) {
    nlohmann::ordered_json row{{"class", name_of(kernel.kind)},
                               {"op", kernel.op},
                               {"text", kernel.text},
                               {"calls", kernel.calls},
                               {"s", kernel.seconds}};
    if (kernel.kind == KernelClass::memory) {
      row["bytes"] = kernel.bytes;
      row["bytes_per_s"] = kernel.bytes_per_s();
    } else {
      row["flops"] = kernel.flops;
      row["flops_per_s"] = kernel.flops_per_s();
    }
    if (kernel.ways > 0) {
      row["best_s"] = kernel.best_s;
      row["ways"] = kernel.ways;
    }
    if (const double share = bench.share(kernel); share > 0) row["share"] = share;
    row["judged"] = bench.judged(kernel);
    out["kernels"].push_back(std::move(row));
  }
  return out;
}

void print_text(const KernelBench& bench) {
  std::printf("a copy reads and writes %.1f GB/s\n", bench.copy_bytes_per_s / 1e9);
  if (!bench.finite)
    std::printf("  the step did not stay finite: its numbers are not those of a run, and times may differ\n");
  for (const std::string& remark : bench.remarks) std::printf("  %s\n", remark.c_str());
  std::optional<KernelClass> before;
  for (const KernelTime& kernel : bench.kernels) {
    const bool memory = kernel.kind == KernelClass::memory;
    if (before != kernel.kind)
      std::printf("%-9s calls    ms each  %s   share  operator\n", name_of(kernel.kind).data(),
                  memory ? "   GB/s" : "TFLOP/s");
    before = kernel.kind;
    const double share = bench.share(kernel);
    std::printf("%15lld %10.4f %8.2f  ", static_cast<long long>(kernel.calls), kernel.seconds * 1e3,
                memory ? kernel.bytes_per_s() / 1e9 : kernel.flops_per_s() / 1e12);
    if (share > 0 && bench.judged(kernel)) {
      std::printf("%5.1f %%  %s\n", 100 * share, kernel.text.c_str());
    } else {
      std::printf("      -  %s\n", kernel.text.c_str());
    }
  }
  std::printf(
      "share: of the copy's rate, where at least %g MB move (less may lie in a cache); of the fastest way "
      "that the library offers for a product\n",
      bench.beyond_caches / 1e6);
}

ExitCode bench_kernels_verb(const BenchKernelsFlags& flags, const train::Plugins& plugins) {
  if (flags.rounds < 1 || flags.rounds > 1000) {
    throw UserError("--rounds is " + std::to_string(flags.rounds) + ", but must be between 1 and 1000");
  }
  config::Resolved resolved = load_config(flags.config);
  train::add_collective_table(resolved);
  train::KernelBenchOptions options;
  options.rounds = static_cast<int>(flags.rounds);
  if (!(flags.beyond_caches >= 0 && flags.beyond_caches <= 1e6)) {
    throw UserError("--beyond-caches is " + std::to_string(flags.beyond_caches) +
                    ", but must be between 0 and 1,000,000");
  }
  options.beyond_caches = flags.beyond_caches * 1e6;
  const KernelBench bench = train::bench_kernels(resolved.run, options, plugins);
  if (flags.json) {
    std::cout << to_json(bench).dump() << std::endl;
  } else {
    print_text(bench);
  }
  return ExitCode::done;
}

}  // namespace

void add_bench_kernels(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<BenchKernelsFlags>();
  CLI::App& app = verbs.add(
      "bench kernels", "Time each operator of a step alone on its device: toroid bench kernels --config FILE",
      "Machine", [flags, &plugins] { return bench_kernels_verb(*flags, plugins); });
  add_config_flags(app, flags->config);
  app.add_option("--rounds", flags->rounds, "Rounds, whose median counts; 5 if not given")->type_name("N");
  app.add_option("--beyond-caches", flags->beyond_caches,
                 "MB that an operator moves at least to be held against the copy rate; 120 if not given")
      ->type_name("MB");
  app.add_flag("--json", flags->json, "One line of JSON instead of text");
}

}  // namespace toroid::launch
