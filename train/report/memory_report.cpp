#include "train/report/memory_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <set>
#include <utility>

#include "core/base/text.h"

namespace toroid::train {
namespace {

std::string row(const std::string& name, double predicted, double used) {
  const auto text = [](double bytes) { return human_bytes(static_cast<int64_t>(bytes)); };
  return fmt::format("  {:<20} {:>12} {:>12}  ", name, text(predicted), text(used)) +
         (used > 0 ? fmt::format("{:+7.1f} %\n", 100 * (predicted / used - 1)) : "\n");
}

}  // namespace

std::vector<MemoryUse> exchange_memory(World& world, const Statistics& predicted, const Statistics& used) {
  const std::array<double, 2> mine{static_cast<double>(predicted.bytes_peak),
                                   static_cast<double>(used.bytes_peak)};
  const std::vector<double> said = world.exchange().numbers(mine, "memory");
  std::vector<MemoryUse> out;
  for (size_t at = 0; at < said.size(); at += mine.size()) out.push_back({said[at], said[at + 1]});
  return out;
}

void print_memory(std::ostream& out, const Statistics& predicted, const Statistics& used,
                  const std::vector<MemoryUse>& ranks, int rank) {
  std::set<std::string> names;
  for (const auto* part : {&predicted, &used}) {
    for (const auto& [holder, bytes] : part->peak_by_holder) {
      if (bytes > 0) names.insert(holder);
    }
  }
  const auto bytes_of_holder = [](const Statistics& from, const std::string& holder) {
    const auto found = from.peak_by_holder.find(holder);
    return found == from.peak_by_holder.end() ? 0.0 : static_cast<double>(found->second);
  };
  std::vector<std::string> holders(names.begin(), names.end());
  std::stable_sort(holders.begin(), holders.end(), [&](const std::string& a, const std::string& b) {
    return bytes_of_holder(used, a) > bytes_of_holder(used, b);
  });
  out << fmt::format("memory of rank {:<5}    predicted         used\n", rank);
  for (const std::string& holder : holders) {
    out << row(holder, bytes_of_holder(predicted, holder), bytes_of_holder(used, holder));
  }
  const MemoryUse& own = ranks[static_cast<size_t>(rank)];
  out << row("in all", own.predicted, own.used);
  if (ranks.size() < 2) return;
  const auto most = std::max_element(ranks.begin(), ranks.end(),
                                     [](const auto& a, const auto& b) { return a.used < b.used; });
  out << row("most, by rank " + std::to_string(most - ranks.begin()), most->predicted, most->used);
}

std::string largest_holders(const std::map<std::string, int64_t>& by_holder) {
  std::vector<std::pair<int64_t, std::string>> holders;
  holders.reserve(by_holder.size());
  for (const auto& [holder, bytes] : by_holder) holders.emplace_back(bytes, holder);
  std::sort(holders.rbegin(), holders.rend());
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(3, holders.size()); ++i)
    text += (text.empty() ? "" : ", ") + holders[i].second + " " + human_bytes(holders[i].first);
  return text;
}

}  // namespace toroid::train
