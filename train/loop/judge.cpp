#include "train/loop/judge.h"

#include <algorithm>
#include <map>

namespace toroid::train {

std::optional<Verdict> judge(std::span<const Computed> results) {
  std::map<uint64_t, int> votes;
  std::map<int, std::vector<uint64_t>> by_rank;
  for (const Computed& each : results) {
    ++votes[each.result];
    by_rank[each.rank].push_back(each.result);
  }
  if (votes.size() <= 1) return std::nullopt;
  const auto fewer = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto most = std::max_element(votes.begin(), votes.end(), fewer);
  const auto as_many = std::count_if(votes.begin(), votes.end(),
                                     [&](const auto& vote) { return vote.second == most->second; });
  Verdict out;
  if (as_many > 1) {
    // Whoever contradicts itself is wrong; where nobody does, two ranks stand by different results.
    for (const auto& [rank, said] : by_rank) {
      if (std::count(said.begin(), said.end(), said[0]) != static_cast<int64_t>(said.size())) {
        out.ranks.push_back(rank);
      }
    }
    if (!out.ranks.empty()) return out;
    bool repeated = true;
    for (const auto& [rank, said] : by_rank) {
      out.ranks.push_back(rank);
      repeated = repeated && said.size() > 1;
    }
    if (repeated) out.lasting = true;
    return out;
  }
  bool again = false, right_again = false;
  for (const auto& [rank, said] : by_rank) {
    const auto wrong =
        std::count_if(said.begin(), said.end(), [&](uint64_t result) { return result != most->first; });
    if (wrong == 0) continue;
    out.ranks.push_back(rank);
    again = again || wrong > 1;
    right_again = right_again || (said.size() > 1 && wrong == 1);
  }
  if (again) {
    out.lasting = true;
  } else if (right_again) {
    out.lasting = false;
  }
  return out;
}

}  // namespace toroid::train
