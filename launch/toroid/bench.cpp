#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/step/step_bench.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/verb.h"
#include "simulate/fit/machine_chip.h"
#include "train/machine/best_of.h"
#include "train/machine/collective_table.h"

namespace toroid::launch {
namespace {

struct BenchFlags {
  ConfigFlags config;
  int64_t steps = 7;
  std::string trace;
  bool json = false, operators = false, no_floor = false;
};

// What the chip `host` says of the step, beside it.
std::optional<train::Comparison> compare(const config::RunConfig& run, const train::StepBench& bench,
                                         const train::Plugins& plugins) {
  const auto predicted = train::predict_on_this_machine(run, plugins);
  if (!predicted) return std::nullopt;
  train::Comparison out;
  out.predicted = *predicted;
  out.measured.time = {bench.forward_s, bench.backward_s, bench.optimizer_s};
  for (const train::MemoryUse& rank : bench.memory)
    out.measured.bytes = std::max(out.measured.bytes, rank.used);
  out.steps = bench.steps;
  return out;
}

nlohmann::ordered_json to_json(const train::StepBench& bench, bool floor,
                               const std::optional<train::Comparison>& comparison) {
  nlohmann::ordered_json out;
  out["tokens_per_s"] = bench.tokens_per_s();
  out["median_s"] = bench.median_s;
  out["min_s"] = bench.min_s;
  out["forward_s"] = bench.forward_s;
  out["backward_s"] = bench.backward_s;
  out["optimizer_s"] = bench.optimizer_s;
  out["first_step_s"] = bench.first_step_s;
  const auto known = [](std::optional<double> value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  out["issue_s"] = known(bench.issue_s);
  out["exposed_s"] = bench.exposed_s;
  out["communication_s"] = bench.communication_s;
  out["overlap"] = known(bench.overlap);
  out["memory_checks"] = bench.memory_checks;
  out["wire_checks"] = bench.wire_checks;
  out["mfu"] = known(bench.mfu());
  out["floor_s"] = known(bench.floor_s());
  out["peak_rss_gb"] = bench.peak_rss_gb;
  out["allocated_gb"] = bench.allocated_gb;
  out["predicted_gb"] = static_cast<double>(bench.predicted.bytes_peak) / 1e9;
  out["loss"] = bench.loss;
  out["steps"] = bench.steps;
  out["tokens"] = bench.tokens;
  if (!bench.ramp.empty()) out["batch_ramp"] = {{"phases", bench.ramp}, {"timed", "last"}};
  out["ranks"] = bench.ranks;
  out["threads"] = bench.threads;
  out["model_flops"] = bench.model_flops;
  out["bf16_products"] = bench.bf16_products.empty() ? nlohmann::ordered_json(nullptr)
                                                     : nlohmann::ordered_json(bench.bf16_products);
  out["simulated_s"] = nullptr;
  out["simulated_gb"] = nullptr;
  if (comparison) {
    out["simulated_s"] = comparison->predicted.time.step_s();
    out["simulated_gb"] = comparison->predicted.bytes / 1e9;
  }
  for (const std::string& remark : bench.remarks) out["remarks"].push_back({{"remark", remark}});
  if (bench.peak_flops_per_s) out["peak_flops_per_s"] = *bench.peak_flops_per_s;
  if (!floor) return out;
  out["peak_flops_per_s"] = bench.floor.best_flops;
  out["bandwidth_bytes_per_s"] = bench.floor.bandwidth;
  out["rates_spread"] = bench.floor.spread;
  for (const train::FloorTerm& term : bench.floor.terms) {
    out["floor"].push_back(
        {{"term", term.name}, {"work", term.work}, {"rate", term.rate}, {"s", term.seconds()}});
  }
  return out;
}

void print_operators(const train::StepBench& bench) {
  std::printf("   calls        ms  floor ms   GFLOP/s     GB/s  phase      operator\n");
  double all = 0;
  bool faster = false;
  for (const train::OperatorTime& row : bench.operators) {
    const double floor = std::max(row.flops / bench.floor.best_flops, row.bytes / bench.floor.bandwidth);
    all += row.seconds;
    // What lies in a cache is faster than memory: then memory's bandwidth gives no floor.
    const bool known = bench.floor.best_flops > 0 && floor <= row.seconds;
    faster = faster || (bench.floor.best_flops > 0 && !known);
    const std::string floor_ms = known ? fmt::format("{:9.3f}", floor * 1e3) : "        -";
    std::printf("%8lld %9.3f %s %9.1f %8.2f  %-9s  %s\n", static_cast<long long>(row.count),
                row.seconds * 1e3, floor_ms.c_str(), row.flops / row.seconds / 1e9,
                row.bytes / row.seconds / 1e9, name_of(row.phase).data(), row.text.c_str());
  }
  std::printf("%8s %9.3f  of %.3f ms a step\n", "", all * 1e3, bench.median_s * 1e3);
  if (faster) {
    std::printf(
        "%8s a floor of \"-\": faster than the rates that were measured, its operands being in a cache\n",
        "");
  }
}

// A step that is faster than what was measured after it says that this was measured too low.
void print_floor(const train::StepBench& bench) {
  const train::Floor& floor = bench.floor;
  const auto seconds = bench.floor_s(), mfu = bench.mfu();
  std::printf("  ");
  if (seconds) {
    std::printf("floor %.3f s (%.2f x)", *seconds, bench.median_s / *seconds);
  } else {
    std::printf("no floor: the rates measured after the step give %.3f s, more than it took",
                floor.seconds());
  }
  if (mfu) {
    std::printf(", MFU %.1f %% of %.0f GFLOP/s\n", 100 * *mfu, floor.best_flops / 1e9);
  } else {
    std::printf(", no MFU: the step computes %.0f GFLOP/s, the best product measured after it %.0f\n",
                bench.flops_per_s() / 1e9, floor.best_flops / 1e9);
  }
  if (!seconds || !mfu || floor.spread > train::kAlikeRounds) {
    std::printf(
        "  the rounds of a rate differ by up to %.0f %%: other programs ran; measure again when they are "
        "done\n",
        100 * floor.spread);
  }
}

void print_text(const train::StepBench& bench, bool floor) {
  std::printf("%lld tokens a step, %d ranks of %d threads, %lld steps%s%s\n",
              static_cast<long long>(bench.tokens), bench.ranks, bench.threads,
              static_cast<long long>(bench.steps), bench.bf16_products.empty() ? "" : ", bf16 products ",
              bench.bf16_products.c_str());
  if (!bench.ramp.empty())
    std::printf("  batch.ramp: %s; steps of the last phase are timed\n", bench.ramp.c_str());
  std::printf("  median %.3f s (min %.3f): forward %.3f, backward %.3f, optimizer %.3f\n", bench.median_s,
              bench.min_s, bench.forward_s, bench.backward_s, bench.optimizer_s);
  if (bench.issue_s) {
    std::printf("  the host issues a step in %.4f s, %.1f %% of it\n", *bench.issue_s,
                100 * *bench.issue_s / bench.median_s);
  }
  if (const auto share = bench.mfu()) {
    std::printf("  MFU %.1f %% of %.1f TFLOP/s, by the data sheet\n", 100 * *share,
                *bench.peak_flops_per_s / 1e12);
  }
  for (const std::string& remark : bench.remarks) std::printf("  %s\n", remark.c_str());
  if (bench.ranks > 1) {
    std::printf("  communication %.3f s, %.3f s of it exposed", bench.communication_s, bench.exposed_s);
    std::printf(bench.overlap ? ", overlap %.1f %%\n" : "\n", 100 * bench.overlap.value_or(0));
  }
  if (bench.memory_checks > 0 || bench.wire_checks > 0) {
    std::printf("  of a step's processor time, checksums take: memory %.2f %%, wire %.2f %%\n",
                100 * bench.memory_checks, 100 * bench.wire_checks);
  }
  std::printf("  %.0f tokens/s, peak memory %.2f GB (%.2f GB of it allocated by the program), loss %.9g\n",
              bench.tokens_per_s(), bench.peak_rss_gb, bench.allocated_gb, bench.loss);
  std::fflush(stdout);
  train::print_memory(std::cout, bench.predicted, bench.used, bench.memory, bench.rank);
  std::cout << std::flush;
  if (!floor) return;
  print_floor(bench);
  for (const train::FloorTerm& term : bench.floor.terms) {
    std::printf("    %-38s %9.3f G at %9.1f G/s  %8.2f ms\n", term.name.c_str(), term.work / 1e9,
                term.rate / 1e9, term.seconds() * 1e3);
  }
}

ExitCode bench_step_verb(const BenchFlags& flags, const train::Plugins& plugins) {
  if (flags.steps < 1 || flags.steps > 100'000) {
    throw UserError("--steps is " + std::to_string(flags.steps) + ", but must be between 1 and 100,000");
  }
  config::Resolved resolved = load_config(flags.config);
  train::add_collective_table(resolved);
  train::StepBenchOptions options;
  options.steps = flags.steps;
  options.with_operators = flags.operators;
  // The floor is of a processor's rates.
  options.with_floor = !flags.no_floor && resolved.run.device() == config::RunConfig::CPU;
  options.trace = flags.trace;
  const train::StepBench bench = train::bench_step(resolved.run, options, plugins);
  if (bench.rank != 0) return ExitCode::done;
  options.with_floor = options.with_floor && bench.ranks == 1;
  const auto comparison = compare(resolved.run, bench, plugins);
  if (flags.json) {
    std::cout << to_json(bench, options.with_floor, comparison).dump() << std::endl;
  } else {
    print_text(bench, options.with_floor);
    if (comparison) train::print_comparison(std::cout, *comparison);
  }
  if (flags.operators) print_operators(bench);
  return ExitCode::done;
}

}  // namespace

void add_bench(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<BenchFlags>();
  CLI::App& app =
      verbs.add("bench step", "Time the training step on synthetic tokens: toroid bench step --config FILE",
                "Machine", [flags, &plugins] { return bench_step_verb(*flags, plugins); });
  add_config_flags(app, flags->config);
  app.add_option("--steps", flags->steps, "Timed steps, after one to warm up; 7 if not given")
      ->type_name("N");
  app.add_option("--trace", flags->trace,
                 "Record the steps that train.trace says to FILE, for ui.perfetto.dev")
      ->type_name("FILE");
  app.add_flag("--json", flags->json, "One line of JSON instead of text");
  app.add_flag("--ops", flags->operators, "Also a table of the operators with time, FLOPs, bytes and floor");
  app.add_flag("--no-floor", flags->no_floor,
               "Do not measure the machine's floor for this step (some ten seconds)");
}

}  // namespace toroid::launch
