#include "data/filter/gopher_repetition.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/base/range.h"
#include "data/filter/characters.h"
#include "data/filter/filter.pb.h"

namespace toroid {
namespace {

constexpr size_t kFirstTop = 2, kFirstDuplicate = 5;  // words of the shortest runs

// Counts by 64-bit hash, in one flat table: documents of a million words are looked through nine times.
class HashCounts {
 public:
  explicit HashCounts(size_t most) : slots_(std::bit_ceil(2 * most + 1)) {}

  void clear() { std::fill(slots_.begin(), slots_.end(), Slot{}); }
  // One more of this hash; returns how many there are now.
  uint32_t add(uint64_t hash) {
    Slot& slot = find(hash);
    slot.hash = hash;
    return ++slot.count;
  }
  uint32_t count(uint64_t hash) { return find(hash).count; }

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t count = 0;  // 0: free
  };

  Slot& find(uint64_t hash) {
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].count > 0 && slots_[at].hash != hash) at = (at + 1) & (slots_.size() - 1);
    return slots_[at];
  }

  std::vector<Slot> slots_;
};

// Words in a row, such that a run of them is one piece of memory.
class WordRow {
 public:
  WordRow(std::span<const std::string_view> words, std::string_view between) : between_(between.size()) {
    begin_.reserve(words.size() + 1);
    for (const std::string_view word : words) {
      begin_.push_back(all_.size());
      all_.append(word).append(between);
    }
    begin_.push_back(all_.size());
  }

  size_t words() const { return begin_.size() - 1; }
  std::string_view run(size_t first, size_t n) const {
    const size_t begin = begin_[first], end = begin_[first + n] - between_;
    return std::string_view(all_).substr(begin, end - begin);
  }

 private:
  size_t between_;
  std::string all_;
  std::vector<size_t> begin_;
};

uint64_t hash_of(std::string_view run) {
  return XXH3_64bits(run.data(), run.size());
}

int64_t top_run(const WordRow& row, size_t n, HashCounts& counts) {
  if (row.words() < n) return 0;
  counts.clear();
  std::vector<uint64_t> hashes;
  hashes.reserve(row.words() - n + 1);
  for (size_t i = 0; i + n <= row.words(); ++i) {
    hashes.push_back(hash_of(row.run(i, n)));
    counts.add(hashes.back());
  }
  size_t best = 0;
  uint32_t most = 0;
  for (size_t i = 0; i < hashes.size(); ++i) {
    const uint32_t count = counts.count(hashes[i]);
    if (count > most) best = i, most = count;
  }
  return characters(row.run(best, n)) * int64_t{most};
}

int64_t duplicate_runs(const WordRow& row, size_t n, HashCounts& counts) {
  counts.clear();
  int64_t repeated = 0;
  for (size_t i = 0; i + n <= row.words();) {
    const std::string_view run = row.run(i, n);
    const bool is_new = counts.add(hash_of(run)) == 1;
    if (!is_new) repeated += characters(run);
    i += is_new ? 1 : n;
  }
  return repeated;
}

// `text` cut at runs of at least `newlines` of them.
Repeats repeats(std::string_view text, size_t newlines) {
  Repeats out;
  std::unordered_set<std::string_view> seen;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = text.find('\n', begin), after = end;
    while (end != std::string_view::npos) {
      after = std::min(text.find_first_not_of('\n', end), text.size());
      if (after - end >= newlines) break;
      end = text.find('\n', after);
    }
    const std::string_view piece = text.substr(begin, end == std::string_view::npos ? end : end - begin);
    ++out.all;
    if (!seen.insert(piece).second) {
      ++out.repeated;
      out.repeated_characters += characters(piece);
    }
    if (end == std::string_view::npos) break;
    begin = after;
  }
  return out;
}

struct RepetitionRule {
  const char* name;  // the field's, which is also the reason that is counted
  double (config::GopherRepetitionFilter::*limit)() const;
  double (*found)(const RepetitionCounts&);
};

template <size_t n>
double found_top(const RepetitionCounts& counts) {
  return share(counts.top[n - kFirstTop], counts.characters);
}

template <size_t n>
double found_duplicate(const RepetitionCounts& counts) {
  return share(counts.duplicate[n - kFirstDuplicate], counts.characters);
}

using RepetitionLimits = config::GopherRepetitionFilter;

// In the order in which they are asked: the first that fails is the reason.
constexpr RepetitionRule kRules[] = {
    {"duplicate_paragraphs", &RepetitionLimits::duplicate_paragraphs,
     [](const RepetitionCounts& c) { return share(c.paragraphs.repeated, c.paragraphs.all); }},
    {"duplicate_paragraph_characters", &RepetitionLimits::duplicate_paragraph_characters,
     [](const RepetitionCounts& c) { return share(c.paragraphs.repeated_characters, c.characters); }},
    {"duplicate_lines", &RepetitionLimits::duplicate_lines,
     [](const RepetitionCounts& c) { return share(c.lines.repeated, c.lines.all); }},
    {"duplicate_line_characters", &RepetitionLimits::duplicate_line_characters,
     [](const RepetitionCounts& c) { return share(c.lines.repeated_characters, c.characters); }},
    {"top_2_gram", &RepetitionLimits::top_2_gram, found_top<2>},
    {"top_3_gram", &RepetitionLimits::top_3_gram, found_top<3>},
    {"top_4_gram", &RepetitionLimits::top_4_gram, found_top<4>},
    {"duplicate_5_grams", &RepetitionLimits::duplicate_5_grams, found_duplicate<5>},
    {"duplicate_6_grams", &RepetitionLimits::duplicate_6_grams, found_duplicate<6>},
    {"duplicate_7_grams", &RepetitionLimits::duplicate_7_grams, found_duplicate<7>},
    {"duplicate_8_grams", &RepetitionLimits::duplicate_8_grams, found_duplicate<8>},
    {"duplicate_9_grams", &RepetitionLimits::duplicate_9_grams, found_duplicate<9>},
    {"duplicate_10_grams", &RepetitionLimits::duplicate_10_grams, found_duplicate<10>},
};

class GopherRepetition final : public Filter {
 public:
  explicit GopherRepetition(RepetitionLimits limits) : limits_(std::move(limits)) {}

  Verdict apply(Document& document) const override {
    if (document.text.empty()) return {};  // repeats nothing; data.minimum_document_bytes drops it
    const RepetitionCounts counts = count_repetition(document.text, words_of(document.text));
    for (const RepetitionRule& rule : kRules) {
      if (rule.found(counts) > (limits_.*rule.limit)()) return {rule.name};
    }
    return {};
  }

 private:
  RepetitionLimits limits_;
};

}  // namespace

RepetitionCounts count_repetition(std::string_view text, std::span<const std::string_view> words) {
  RepetitionCounts counts;
  counts.characters = characters(text);
  counts.paragraphs = repeats(without_spaces(text), 2);
  counts.lines = repeats(text, 1);
  HashCounts table(words.size());
  const WordRow spaced(words, " ");
  for (size_t i = 0; i < counts.top.size(); ++i) counts.top[i] = top_run(spaced, kFirstTop + i, table);
  const WordRow joined(words, "");
  for (size_t i = 0; i < counts.duplicate.size(); ++i) {
    counts.duplicate[i] = duplicate_runs(joined, kFirstDuplicate + i, table);
  }
  return counts;
}

std::unique_ptr<Filter> make_gopher_repetition_filter(const config::FilterConfig& config,
                                                      const std::string& path) {
  const RepetitionLimits& limits = config.gopher_repetition();
  for (const RepetitionRule& rule : kRules)
    check_range(path + "." + rule.name, (limits.*rule.limit)(), 0.0, 1.0);
  return std::make_unique<GopherRepetition>(limits);
}

}  // namespace toroid
