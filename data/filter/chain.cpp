#include "data/filter/chain.h"

#include <utility>

namespace toroid {

FilterCounts& FilterCounts::operator+=(const FilterCounts& other) {
  for (const auto& [reason, documents] : other.dropped) dropped[reason] += documents;
  for (const auto& [reason, documents] : other.noted) noted[reason] += documents;
  return *this;
}

void FilterChain::add(const FilterChain& after) {
  filters_.insert(filters_.end(), after.filters_.begin(), after.filters_.end());
}

bool FilterChain::apply(Document& document, FilterCounts& counts) const {
  for (const auto& [name, filter] : filters_) {
    Verdict verdict = filter->apply(document);
    for (std::string& note : verdict.notes) ++counts.noted[{name, std::move(note)}];
    if (verdict.drop.empty()) continue;
    ++counts.dropped[{name, std::move(verdict.drop)}];
    return false;
  }
  return true;
}

std::string FilterChain::identity() const {
  std::string all;
  for (const auto& [name, filter] : filters_) {
    const std::string one = filter->identity();
    if (!one.empty()) all += name + " " + std::to_string(one.size()) + ":" + one + "\n";
  }
  return all;
}

}  // namespace toroid
