// A chain: order, counts, many threads.
#include "data/filter/chain.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace toroid {
namespace {

// Adds its letter, notes that, and drops texts of a length.
class Letter final : public Filter {
 public:
  Letter(char letter, size_t dropped_length) : letter_(letter), dropped_length_(dropped_length) {}
  Verdict apply(Document& document) const override {
    document.text += letter_;
    return {document.text.size() == dropped_length_ ? "length" : "", {"added"}};
  }
  std::string identity() const override { return letter_ == 'b' ? "list 7" : ""; }

 private:
  char letter_;
  size_t dropped_length_;
};

FilterChain letters() {
  FilterChain first, second;
  first.add({"a", std::make_shared<Letter>('a', 2)});
  second.add({"b", std::make_shared<Letter>('b', 5)});
  second.add({"c", std::make_shared<Letter>('c', 5)});
  first.add(second);
  return first;
}

TEST(FilterChain, DocumentsGoThroughInOrderUntilOneDropsThem) {
  const FilterChain chain = letters();
  FilterCounts counts;
  Document kept{"", "1"}, first{"x", "2"}, last{"xy", "3"};
  EXPECT_TRUE(chain.apply(kept, counts));
  EXPECT_EQ(kept.text, "abc");
  EXPECT_FALSE(chain.apply(first, counts));
  EXPECT_EQ(first.text, "xa");
  EXPECT_FALSE(chain.apply(last, counts));
  EXPECT_EQ(last.text, "xyabc");
  using Counts = std::map<FilterReason, int64_t>;
  EXPECT_EQ(counts.dropped, (Counts{{{"a", "length"}, 1}, {{"c", "length"}, 1}}));
  EXPECT_EQ(counts.noted, (Counts{{{"a", "added"}, 3}, {{"b", "added"}, 2}, {{"c", "added"}, 2}}));
  FilterCounts twice = counts;
  twice += counts;
  EXPECT_EQ(twice.dropped.at({"a", "length"}), 2);
  EXPECT_EQ(twice.noted.at({"a", "added"}), 6);
}

TEST(FilterChain, ItsIdentityIsThatOfFiltersThatReadMore) {
  EXPECT_EQ(letters().identity(), "b 6:list 7\n");
  EXPECT_EQ(FilterChain().identity(), "");
}

TEST(FilterChain, OneChainServesManyThreads) {
  const FilterChain chain = letters();
  std::vector<FilterCounts> counts(4);
  {
    std::vector<std::jthread> threads;
    threads.reserve(counts.size());
    for (FilterCounts& mine : counts) {
      threads.emplace_back([&] {
        for (size_t i = 0; i < 2000; ++i) {
          Document document{std::string(i % 4, 'x'), "id"};
          chain.apply(document, mine);
        }
      });
    }
  }
  for (const FilterCounts& mine : counts) {
    EXPECT_EQ(mine, counts[0]);
    EXPECT_EQ(mine.dropped.at({"c", "length"}), 500);
  }
}

}  // namespace
}  // namespace toroid
