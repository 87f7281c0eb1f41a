// toroid bench collectives: times every way of carrying out a collective on ranks that it starts itself.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/range.h"
#include "core/base/text.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/verb.h"
#include "parallel/comm/world.h"
#include "parallel/mesh/mesh.h"
#include "train/machine/collective_bench.h"
#include "train/machine/collective_table.h"

namespace toroid::launch {
namespace {

constexpr const char* kSizes = "4K,64K,1M,4M,16M,64M,256M";
constexpr int64_t kMostRanks = 1024;

struct BenchCollectivesFlags {
  ConfigFlags config;
  MpiJob job;
  std::string shape = "1x2", sizes = kSizes;
  int64_t rounds = 5;
  bool json = false, write = false;
};

// All of `text` as a number, or UserError.
int64_t number_in(std::string_view text, const std::string& flag, const std::string& what) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) {
    throw UserError(flag + " holds " + in_quotes(text) + ", which is not " + what);
  }
  return value;
}

schedule::GroupShape parse_shape(const std::string& text) {
  const size_t x = text.find('x');
  const std::string what = "a shape such as 2x4";
  const int64_t rows = number_in(std::string_view(text).substr(0, x), "--shape", what);
  const int64_t columns =
      x == std::string::npos ? 1 : number_in(std::string_view(text).substr(x + 1), "--shape", what);
  check_range("--shape's rows", rows, 1, kMostRanks);
  check_range("--shape's columns", columns, 1, kMostRanks);
  check_range("--shape's ranks", rows * columns, 2, kMostRanks);
  return {static_cast<int>(rows), static_cast<int>(columns)};
}

std::vector<int64_t> parse_sizes(const std::string& text) {
  std::vector<int64_t> sizes;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    std::string_view word = std::string_view(text).substr(at, end - at);
    int64_t unit = 1;
    if (!word.empty()) {
      if (word.back() == 'K') unit = int64_t{1} << 10;
      if (word.back() == 'M') unit = int64_t{1} << 20;
      if (word.back() == 'G') unit = int64_t{1} << 30;
    }
    if (unit > 1) word.remove_suffix(1);
    const int64_t value = number_in(word, "--sizes", "a number of bytes such as 4096, 64K or 16M");
    check_range("--sizes", value, 1, (int64_t{64} << 30) / unit);
    sizes.push_back(value * unit);
    at = end + 1;
  }
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

std::string short_size(int64_t bytes) {
  for (const auto& [unit, letter] : {std::pair{30, "G"}, {20, "M"}, {10, "K"}}) {
    if (bytes >= int64_t{1} << unit && bytes % (int64_t{1} << unit) == 0)
      return std::to_string(bytes >> unit) + letter;
  }
  return std::to_string(bytes);
}

const char* library_of(const train::CollectiveBench& bench) {
  return bench.on_gpus ? "NCCL" : "MPI";
}

nlohmann::ordered_json to_json(const train::CollectiveBench& bench) {
  nlohmann::ordered_json out;
  out["ranks"] = bench.ranks;
  out["ranks_per_host"] = bench.ranks_per_host;
  out["library"] = library_of(bench);
  for (const train::CollectiveRow& row : bench.rows) {
    nlohmann::ordered_json line;
    line["operation"] = schedule::name(row.operation);
    line["bytes"] = row.bytes;
    for (const train::MethodTime& time : row.times) line["s"][std::string(name(time.method))] = time.median_s;
    line["library_s"] = row.library_s > 0 ? nlohmann::ordered_json(row.library_s) : nullptr;
    if (row.copy_rate > 0) line["copy_bytes_per_s"] = row.copy_rate;
    if (row.sum_rate > 0) line["sum_bytes_per_s"] = row.sum_rate;
    const double bound = bench.bound_s(row);
    line["bound_s"] = bound > 0 ? nlohmann::ordered_json(bound) : nullptr;
    out["rows"].push_back(std::move(line));
  }
  return out;
}

void print_library(const train::CollectiveBench& bench) {
  std::printf("%-14s %10s %10s\n", "", "array", library_of(bench));
  for (const train::CollectiveRow& row : bench.rows) {
    std::printf("%-14s %10s %10.2f\n", std::string(schedule::name(row.operation)).c_str(),
                short_size(row.bytes).c_str(), static_cast<double>(row.bytes) / row.library_s / 1e9);
  }
}

void print_text(const train::CollectiveBench& bench) {
  std::printf("%d ranks, %d of a host; array bytes / time in GB/s (fp32, medians)\n", bench.ranks,
              bench.ranks_per_host);
  if (bench.on_gpus) return print_library(bench);
  std::printf(
      "copy bound: against the GB/s that all ranks at once read and write, copying or adding as many\n"
      "arrays as there are ranks, each on its own, in turn with the ways (copy, sum)\n");
  const train::CollectiveRow* before = nullptr;
  for (const train::CollectiveRow& row : bench.rows) {
    if (before == nullptr || before->operation != row.operation) {
      std::printf("\n%-14s", std::string(schedule::name(row.operation)).c_str());
      for (const train::MethodTime& time : row.times)
        std::printf(" %18s", std::string(name(time.method)).c_str());
      std::printf(" %9s  best: MPI's  copy bound (copy, sum)\n", "MPI");
    }
    before = &row;
    std::printf("%-14s", short_size(row.bytes).c_str());
    const auto rate = [&](double seconds) { return static_cast<double>(row.bytes) / seconds / 1e9; };
    for (const train::MethodTime& time : row.times) std::printf(" %18.2f", rate(time.median_s));
    const double best = row.best().median_s;
    if (row.library_s > 0) {
      std::printf(" %9.2f  %11.2f x", rate(row.library_s), row.library_s / best);
    } else {
      std::printf(" %9s  %13s", "-", "-");
    }
    // What stays in the caches is not bound by memory.
    if (row.copy_rate > 0) {
      std::printf(" %9.0f %% (%.1f, %.1f)\n", 100 * bench.bound_s(row) / best, row.copy_rate / 1e9,
                  row.sum_rate / 1e9);
    } else {
      std::printf(" %11s\n", "-");
    }
  }
}

// Without a config: of `--shape`, on processors.
std::optional<config::RunConfig> config_of(const BenchCollectivesFlags& flags) {
  if (!flags.config.file.empty()) return load_config(flags.config).run;
  if (flags.config.overrides.empty()) return std::nullopt;
  throw UserError("--set " + in_quotes(flags.config.overrides[0]) +
                  " changes a config, but there is none; give --config FILE");
}

schedule::GroupShape shape_of(const BenchCollectivesFlags& flags,
                              const std::optional<config::RunConfig>& run) {
  if (!run) return parse_shape(flags.shape);
  const mesh::Mesh mesh(run->mesh());
  const schedule::GroupShape shape = mesh.shape(mesh::Axis::data);
  check_range("the ranks of the data axis", shape.size(), 2, kMostRanks);
  return shape;
}

ExitCode run_rank(const BenchCollectivesFlags& flags, const train::CollectiveBenchOptions& options,
                  const train::DeviceMaker& maker) {
  const train::CollectiveBench bench = train::bench_collectives(options, maker);
  if (bench.rank != 0) return ExitCode::done;
  if (flags.json) {
    std::cout << to_json(bench).dump() << std::endl;
  } else {
    print_text(bench);
  }
  if (!flags.write) return ExitCode::done;
  const Path path = train::collective_table_path();
  train::write_collective_table(path, bench.winners(), bench.times(), bench.ranks_per_host);
  if (!flags.json) std::cout << "\nwritten to " << printable(path.string()) << std::endl;
  return ExitCode::done;
}

ExitCode bench_collectives_verb(const BenchCollectivesFlags& flags, const train::Plugins& plugins) {
  check_range("--rounds", flags.rounds, 1, 1000);
  const auto run = config_of(flags);
  const train::DeviceMaker& maker = run ? plugins.device(*run) : plugins.cpu();
  if (flags.write && run && run->device() == config::RunConfig::CUDA) {
    throw UserError(
        "--write keeps the best ways of processors, but device is CUDA, whose collectives all go over NCCL; "
        "leave it out");
  }
  train::CollectiveBenchOptions options;
  options.shape = shape_of(flags, run);
  options.sizes = parse_sizes(flags.sizes);
  options.rounds = static_cast<int>(flags.rounds);
  if (launched_ranks() > 1) return run_rank(flags, options, maker);
  std::vector<std::string> arguments{"bench", "collectives"};
  if (flags.config.file.empty()) {
    arguments.insert(arguments.end(), {"--shape", flags.shape});
  } else {
    arguments.insert(arguments.end(), {"--config", flags.config.file});
    for (const std::string& set : flags.config.overrides) arguments.insert(arguments.end(), {"--set", set});
  }
  arguments.insert(arguments.end(), {"--sizes", flags.sizes, "--rounds", std::to_string(flags.rounds)});
  if (flags.json) arguments.push_back("--json");
  if (flags.write) arguments.push_back("--write");
  MpiJob job = flags.job;
  job.ranks = options.shape.size();
  return static_cast<ExitCode>(run_job(job, arguments));
}

}  // namespace

void add_bench_collectives(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<BenchCollectivesFlags>();
  CLI::App& app = verbs.add("bench collectives",
                            "Time the ways of each collective, and remember the best: toroid bench "
                            "collectives --shape 1x4 --write",
                            "Machine", [flags, &plugins] { return bench_collectives_verb(*flags, plugins); });
  add_config_flags(app, flags->config);
  app.add_option("--shape", flags->shape,
                 "Ranks as rows x columns; the config's data axis where there is a config")
      ->type_name("RxC")
      ->capture_default_str();
  app.add_option("--sizes", flags->sizes, "Bytes of the whole array: gathered, or before scattering")
      ->type_name("LIST")
      ->capture_default_str();
  app.add_option("--rounds", flags->rounds, "Timed rounds, in each of which all ways take turns")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--hosts", flags->job.hosts,
                 "Hosts and their ranks, such as a:2,b:2; this machine if not given")
      ->type_name("LIST");
  app.add_flag("--json", flags->json, "One line of JSON instead of text");
  app.add_flag("--write", flags->write, "Keep the winners where training finds them (docs/parallelism.md)");
}

}  // namespace toroid::launch
