#include "core/device/cpu/host_info.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>

namespace toroid {
namespace {

// "name : value" or "name: value" lines; the first of each name.
std::map<std::string, std::string> read_fields(const char* path) {
  std::map<std::string, std::string> fields;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) {
      if (!fields.empty() && line.empty()) break;  // /proc/cpuinfo: one processor says it for all
      continue;
    }
    const size_t name_end = line.find_last_not_of(" \t", colon == 0 ? 0 : colon - 1);
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    fields.emplace(line.substr(0, name_end + 1), value == std::string::npos ? "" : line.substr(value));
  }
  return fields;
}

// A number in a file of the cgroup file system; `none` where it is absent or "max".
int64_t read_number(const char* path, int64_t none) {
  std::ifstream in(path);
  int64_t value = 0;
  return in >> value ? value : none;
}

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

int64_t kibibytes(const std::map<std::string, std::string>& fields, const char* name) {
  const auto found = fields.find(name);
  return found == fields.end() ? 0 : 1024 * std::strtoll(found->second.c_str(), nullptr, 10);
}

// A container's limit, version 2 or 1 of the file system.
int64_t memory_limit() {
  const int64_t limit = read_number("/sys/fs/cgroup/memory.max", kUnlimited);
  return std::min(limit, read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", kUnlimited));
}

int64_t memory_used_of_limit() {
  const int64_t used = read_number("/sys/fs/cgroup/memory.current", -1);
  return used >= 0 ? used : read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes", 0);
}

// Page cache counts as used there, though it gives way.
int64_t reclaimable_of_limit() {
  std::ifstream in("/sys/fs/cgroup/memory.stat");
  int64_t sum = 0;
  std::string name;
  for (int64_t value = 0; in >> name >> value;) {
    if (name == "inactive_file" || name == "active_file") sum += value;
  }
  return sum;
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

int64_t cache_bytes(int name) {
  return std::max<int64_t>(0, sysconf(name));
}

}  // namespace

int64_t available_memory() {
  const int64_t of_machine = kibibytes(read_fields("/proc/meminfo"), "MemAvailable");
  const int64_t limit = memory_limit();
  if (limit == kUnlimited) return of_machine;
  const int64_t of_limit = limit - memory_used_of_limit() + reclaimable_of_limit();
  return std::clamp<int64_t>(of_limit, 0, of_machine);
}

HostInfo host_info() {
  HostInfo host;
  const auto fields = read_fields("/proc/cpuinfo");
  if (const auto found = fields.find("model name"); found != fields.end()) host.cpu = found->second;
  // The kernel lists a flag only where it also saves the registers behind it.
  std::set<std::string> flags;
  if (const auto found = fields.find("flags"); found != fields.end()) {
    std::istringstream words(found->second);
    for (std::string word; words >> word;) flags.insert(word);
  }
  const auto has = [&](const char* flag) { return flags.count(flag) > 0; };
  host.avx2 = has("avx2") && has("fma");
  host.avx512 = has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl") && has("avx512cd");
  host.avx512_bf16 = host.avx512 && has("avx512_bf16");
  host.amx_bf16 = has("amx_bf16") && has("amx_tile");
  host.cores = usable_cores();
  host.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE);
  host.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE);
  host.l3_bytes = cache_bytes(_SC_LEVEL3_CACHE_SIZE);
  host.memory_total = std::min(kibibytes(read_fields("/proc/meminfo"), "MemTotal"), memory_limit());
  host.memory_available = available_memory();
  return host;
}

std::string best_isa(const HostInfo& host) {
  if (host.amx_bf16) return "AMX";
  if (host.avx512_bf16) return "AVX-512 bf16";
  if (host.avx512) return "AVX-512";
  return host.avx2 ? "AVX2" : "baseline";
}

}  // namespace toroid
