#include "data/ngram/ngram.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

// Counts of pairs of ids, by linear probing: a tenth of the memory of std::unordered_map.
class PairCounts {
 public:
  PairCounts() : slots_(1 << 16) {}

  void add(int32_t first, int32_t second) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot& slot = find(slots_, key_of(first, second));
    if (slot.count == 0) {
      slot.key = key_of(first, second);
      ++used_;
    }
    ++slot.count;
  }

  int64_t count(int32_t first, int32_t second) { return find(slots_, key_of(first, second)).count; }

  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.count > 0)
        visit(static_cast<int32_t>(slot.key >> 32), static_cast<int32_t>(slot.key), slot.count);
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    int64_t count = 0;
  };

  static uint64_t key_of(int32_t first, int32_t second) {
    return static_cast<uint64_t>(static_cast<uint32_t>(first)) << 32 | static_cast<uint32_t>(second);
  }

  static Slot& find(std::vector<Slot>& slots, uint64_t key) {
    const size_t mask = slots.size() - 1;
    uint64_t mixed = key * 0x9e3779b97f4a7c15ULL;
    mixed ^= mixed >> 32;
    size_t at = mixed & mask;
    while (slots[at].count != 0 && slots[at].key != key) at = (at + 1) & mask;
    return slots[at];
  }

  void grow() {
    std::vector<Slot> larger(2 * slots_.size());
    for (const Slot& slot : slots_) {
      if (slot.count != 0) find(larger, slot.key) = slot;
    }
    slots_.swap(larger);
  }

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace

// Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999), section 3.
NgramEntropy ngram_entropy(const DocumentStream& training, const DocumentStream& validation, int32_t vocab) {
  const auto v_count = static_cast<size_t>(vocab);
  const auto at = [v_count](int32_t id) {
    if (id < 0 || static_cast<size_t>(id) >= v_count) {
      throw UserError("token id " + std::to_string(id) + " is not below the vocabulary of " +
                      std::to_string(v_count));
    }
    return static_cast<size_t>(id);
  };
  std::vector<int64_t> unigram(v_count);  // as a target
  std::vector<int64_t> context(v_count);  // as what comes before a target
  PairCounts pairs;
  NgramEntropy result;
  std::vector<int32_t> ids;
  while (training(ids)) {
    for (size_t i = 1; i < ids.size(); ++i) {
      ++unigram[at(ids[i])];
      ++context[at(ids[i - 1])];
      pairs.add(ids[i - 1], ids[i]);
      ++result.training_tokens;
    }
  }
  if (result.training_tokens == 0) throw UserError("there are no training tokens to count");

  std::vector<int64_t> followers(v_count), predecessors(v_count);  // distinct ones
  int64_t distinct = 0, once = 0, twice = 0;
  pairs.for_each([&](int32_t first, int32_t second, int64_t count) {
    ++followers[static_cast<size_t>(first)];
    ++predecessors[static_cast<size_t>(second)];
    ++distinct;
    once += count == 1 ? 1 : 0;
    twice += count == 2 ? 1 : 0;
  });
  const auto discount_of = [](int64_t n1, int64_t n2) {
    return n1 == 0 ? 0.5 : static_cast<double>(n1) / static_cast<double>(n1 + 2 * n2);
  };
  const double discount = discount_of(once, twice);
  // The lowest order counts the distinct predecessors of a token, discounted likewise towards 1 / V.
  int64_t seen = 0, seen_once = 0, seen_twice = 0;
  for (const int64_t count : predecessors) {
    seen += count > 0 ? 1 : 0;
    seen_once += count == 1 ? 1 : 0;
    seen_twice += count == 2 ? 1 : 0;
  }
  const double low_discount = discount_of(seen_once, seen_twice);
  const double uniform_share =
      low_discount * static_cast<double>(seen) / static_cast<double>(distinct) / static_cast<double>(vocab);

  double unigram_sum = 0, bigram_sum = 0;
  while (validation(ids)) {
    for (size_t i = 1; i < ids.size(); ++i) {
      const size_t before = at(ids[i - 1]), now = at(ids[i]);
      unigram_sum -= std::log(static_cast<double>(unigram[now] + 1) /
                              (static_cast<double>(result.training_tokens) + static_cast<double>(vocab)));
      const double low = std::max(static_cast<double>(predecessors[now]) - low_discount, 0.0) /
                             static_cast<double>(distinct) +
                         uniform_share;
      double probability = low;
      if (context[before] > 0) {
        const auto total = static_cast<double>(context[before]);
        const auto count = static_cast<double>(pairs.count(ids[i - 1], ids[i]));
        probability = std::max(count - discount, 0.0) / total +
                      discount * static_cast<double>(followers[before]) / total * low;
      }
      bigram_sum -= std::log(probability);
      ++result.validation_tokens;
    }
  }
  if (result.validation_tokens == 0)
    throw UserError("there are no validation tokens to measure the entropy of");
  result.unigram = unigram_sum / static_cast<double>(result.validation_tokens);
  result.bigram = bigram_sum / static_cast<double>(result.validation_tokens);
  return result;
}

}  // namespace toroid
