// Filters one after the other, and how many documents each dropped, by reason.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "data/filter/filter.h"

namespace toroid {

struct FilterReason {
  std::string filter, reason;
  bool operator==(const FilterReason&) const = default;
  bool operator<(const FilterReason& other) const {
    return std::tie(filter, reason) < std::tie(other.filter, other.reason);
  }
};

// Documents, by filter and reason.
struct FilterCounts {
  std::map<FilterReason, int64_t> dropped;  // each document at most once
  std::map<FilterReason, int64_t> noted;    // kept or dropped, one document perhaps several times

  FilterCounts& operator+=(const FilterCounts& other);
  bool operator==(const FilterCounts&) const = default;
};

struct NamedFilter {
  std::string name;  // what its counts stand under
  std::shared_ptr<const Filter> filter;
};

// A value: copies share the filters, which nothing changes.
class FilterChain {
 public:
  void add(NamedFilter filter) { filters_.push_back(std::move(filter)); }
  void add(const FilterChain& after);

  // Whether every filter keeps the document, whose text they may have changed; what they say is counted. From
  // any thread.
  bool apply(Document& document, FilterCounts& counts) const;
  // Those of the filters that have one.
  std::string identity() const;

 private:
  std::vector<NamedFilter> filters_;
};

}  // namespace toroid
