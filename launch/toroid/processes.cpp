#include "launch/toroid/processes.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>

namespace toroid::launch {
namespace {

namespace fs = std::filesystem;

std::optional<pid_t> process_id_of(const std::string& text) {
  pid_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return out;
}

struct Stat {
  pid_t process = 0, parent = 0;
  char state = 'R';
};

std::vector<Stat> all_processes() {
  std::vector<Stat> out;
  std::error_code error;
  for (fs::directory_iterator each("/proc", error), end; !error && each != end; each.increment(error)) {
    const auto process = process_id_of(each->path().filename().string());
    if (!process) continue;
    std::ifstream file(each->path() / "stat");  // "pid (name) state parent ...", the name being anything
    std::string text;
    std::getline(file, text);
    const size_t at = text.rfind(')');
    if (at == std::string::npos) continue;
    Stat stat;
    stat.process = *process;
    std::istringstream rest(text.substr(at + 1));
    if (rest >> stat.state >> stat.parent) out.push_back(stat);
  }
  return out;
}

std::optional<int> rank_of(pid_t process) {
  constexpr std::string_view kName = "OMPI_COMM_WORLD_RANK=";
  std::ifstream file("/proc/" + std::to_string(process) + "/environ", std::ios::binary);
  for (std::string variable; std::getline(file, variable, '\0');) {
    if (variable.starts_with(kName)) return process_id_of(variable.substr(kName.size()));
  }
  return std::nullopt;
}

}  // namespace

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> out;
  for (const Stat& each : all_processes()) {
    if (each.parent == parent) out.push_back(each.process);
  }
  return out;
}

std::vector<RankProcess> ranks_below(pid_t ancestor) {
  const std::vector<Stat> all = all_processes();
  std::map<pid_t, pid_t> parents;
  for (const Stat& each : all) parents[each.process] = each.parent;
  const auto descends = [&](pid_t process) {
    for (size_t depth = 0; depth < all.size(); ++depth) {
      const auto found = parents.find(process);
      if (found == parents.end() || found->second <= 1) return false;
      process = found->second;
      if (process == ancestor) return true;
    }
    return false;
  };
  std::vector<RankProcess> out;
  for (const Stat& each : all) {
    if (!descends(each.process)) continue;
    if (const auto rank = rank_of(each.process)) out.push_back({*rank, each.process, each.state});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
  return out;
}

std::string describe_stopped(const std::vector<RankProcess>& ranks) {
  std::string out;
  for (const RankProcess& rank : ranks) {
    if (rank.state != 'T' && rank.state != 't') continue;
    out += (out.empty() ? "" : ", ") + ("rank " + std::to_string(rank.rank)) + " (process " +
           std::to_string(rank.process) + ")";
  }
  return out.empty() ? "" : out + " stopped by a signal";
}

}  // namespace toroid::launch
