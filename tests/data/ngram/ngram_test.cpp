#include "data/ngram/ngram.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"

namespace toroid {
namespace {

using Documents = std::vector<std::vector<int32_t>>;

DocumentStream stream(Documents documents) {
  return [documents = std::move(documents), next = size_t{0}](std::vector<int32_t>& ids) mutable {
    if (next == documents.size()) return false;
    ids = documents[next++];
    return true;
  };
}

const Documents& training() {
  static const Documents all = {{2, 4, 5, 6, 1}, {2, 4, 5, 4, 5, 1}, {2, 7, 5, 6, 1}, {2, 4, 6, 1}};
  return all;
}

TEST(Ngram, UnigramIsAddOne) {
  const NgramEntropy found = ngram_entropy(stream(training()), stream({{2, 5}}), 8);
  EXPECT_EQ(found.training_tokens, 16);
  EXPECT_EQ(found.validation_tokens, 1);
  EXPECT_DOUBLE_EQ(found.unigram, -std::log((4 + 1) / (16.0 + 8)));  // 5 stands four times
}

TEST(Ngram, ProbabilitiesAddUpToOne) {
  for (int32_t context = 0; context < 8; ++context) {
    double unigram = 0, bigram = 0;
    for (int32_t next = 0; next < 8; ++next) {
      const NgramEntropy found = ngram_entropy(stream(training()), stream({{context, next}}), 8);
      unigram += std::exp(-found.unigram);
      bigram += std::exp(-found.bigram);
    }
    EXPECT_NEAR(unigram, 1, 1e-12);
    EXPECT_NEAR(bigram, 1, 1e-12) << context;
  }
}

// Worked by hand: pairs 24:3 45:3 56:2 61:3 54:1 51:1 27:1 75:1 46:1, so n1 = 5, n2 = 1, D = 5/7, 9 distinct.
// Distinct predecessors: 4:{2,5} 5:{4,7} 6:{5,4} 1:{6,5} 7:{2}, so n1 = 1, n2 = 4, D' = 1/9, five tokens
// seen.
TEST(Ngram, BigramIsInterpolatedKneserNey) {
  const double low = (2 - 1 / 9.0) / 9 + (1 / 9.0) * 5 / 9 / 8;
  const double expected = (3 - 5 / 7.0) / 4 + (5 / 7.0) * 2 / 4 * low;  // p(4 | 2)
  const NgramEntropy found = ngram_entropy(stream(training()), stream({{2, 4}}), 8);
  EXPECT_NEAR(found.bigram, -std::log(expected), 1e-12);
}

TEST(Ngram, WhatFollowsIsEasierThanWhatIsThere) {
  Documents alternating;
  for (int i = 0; i < 50; ++i) alternating.push_back({2, 4, 5, 4, 5, 4, 5, 4, 5, 1});
  const NgramEntropy found = ngram_entropy(stream(alternating), stream({alternating[0]}), 8);
  EXPECT_LT(found.bigram, found.unigram - 0.5);
}

TEST(Ngram, RefusesNothingAndStrangers) {
  EXPECT_THROW(ngram_entropy(stream({}), stream({{2, 4}}), 8), UserError);
  EXPECT_THROW(ngram_entropy(stream(training()), stream({}), 8), UserError);
  EXPECT_THROW(ngram_entropy(stream({{2, 8}}), stream({{2, 4}}), 8), UserError);
  EXPECT_THROW(ngram_entropy(stream(training()), stream({{2, -1}}), 8), UserError);
}

}  // namespace
}  // namespace toroid
