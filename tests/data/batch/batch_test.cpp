// Packing, order and provenance of batches, against a plain reading of the rules in data/batch/batch.h.
#include "data/batch/batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/error.h"
#include "data/batch/skip_list.h"
#include "tests/data/batch/prepared.h"

namespace toroid {
namespace {

constexpr int64_t kTokens = 32, kSequences = 6;
const BatchShape kShape{kTokens, 1000, 5};

const Prepared& prepared() {
  static const Prepared three({40, 25, 60});
  return three;
}

struct Sequence {
  std::vector<int32_t> ids, targets, positions, starts;
  auto operator<=>(const Sequence&) const = default;
};

// The sequences of a source's epoch in the order of its stream, token by token.
std::vector<Sequence> plain_sequences(const std::vector<std::vector<int32_t>>& documents, int64_t tokens) {
  std::vector<Sequence> all;
  int32_t run = 0, start = 0, last_document = -1;
  const auto add = [&](int32_t id, int32_t target, int32_t document) {
    if (all.empty() || static_cast<int64_t>(all.back().ids.size()) == tokens) {
      all.emplace_back();
      last_document = -1;
    }
    Sequence& s = all.back();
    if (document != last_document) {
      run = 0;
      start = static_cast<int32_t>(s.ids.size());
      last_document = document;
    }
    s.ids.push_back(id);
    s.targets.push_back(target);
    s.positions.push_back(run++);
    s.starts.push_back(start);
  };
  for (size_t d = 0; d < documents.size(); ++d) {
    for (size_t i = 0; i < documents[d].size(); ++i) {
      add(documents[d][i], i + 1 < documents[d].size() ? documents[d][i + 1] : -1, static_cast<int32_t>(d));
    }
  }
  while (static_cast<int64_t>(all.back().ids.size()) < tokens)
    add(0, -1, static_cast<int32_t>(documents.size()));
  return all;
}

Sequence sequence_of(const Batch& batch, int64_t row) {
  const auto part = [&](const std::vector<int32_t>& all) {
    return std::vector<int32_t>(all.begin() + row * batch.tokens, all.begin() + (row + 1) * batch.tokens);
  };
  return {part(batch.ids), part(batch.targets), part(batch.positions), part(batch.document_starts)};
}

void expect_same(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.document_starts, b.document_starts);
  EXPECT_EQ(a.target_count, b.target_count);
  EXPECT_EQ(a.target_bytes, b.target_bytes);
}

TEST(Batch, EachEpochHasEachSequenceOfASourceOnce) {
  const auto source = prepared().open(kShape);
  std::map<std::string, std::vector<std::vector<int64_t>>>
      order;  // source -> epoch -> sequences as they came
  std::map<std::string, std::vector<Sequence>> expected;
  for (size_t s = 0; s < 3; ++s) {
    expected["source" + std::to_string(s)] = plain_sequences(prepared().documents(s, Split::train), kTokens);
  }
  for (int64_t step = 0; step < 300; ++step) {
    const Batch batch = source->batch(step * kSequences, kSequences);
    const auto provenance = source->provenance(step * kSequences, kSequences);
    ASSERT_EQ(provenance.size(), static_cast<size_t>(kSequences));
    for (int64_t i = 0; i < kSequences; ++i) {
      const SequenceProvenance& from = provenance[static_cast<size_t>(i)];
      EXPECT_EQ(from.global_index, step * kSequences + i);
      const auto& sequences = expected.at(from.source);
      ASSERT_LT(static_cast<size_t>(from.sequence), sequences.size());
      ASSERT_EQ(sequence_of(batch, i), sequences[static_cast<size_t>(from.sequence)]) << from.source;
      auto& epochs = order[from.source];
      epochs.resize(std::max(epochs.size(), static_cast<size_t>(from.epoch + 1)));
      epochs[static_cast<size_t>(from.epoch)].push_back(from.sequence);
    }
  }
  for (const auto& [name, epochs] : order) {
    ASSERT_GE(epochs.size(), 3u) << name;
    for (size_t epoch = 0; epoch < epochs.size(); ++epoch) {
      const std::set<int64_t> distinct(epochs[epoch].begin(), epochs[epoch].end());
      EXPECT_EQ(distinct.size(), epochs[epoch].size()) << name;
      if (epoch + 1 < epochs.size()) {
        EXPECT_EQ(distinct.size(), expected[name].size()) << name;
      }
    }
    EXPECT_NE(epochs[0], epochs[1]) << "each epoch has its own order";
  }
}

TEST(Batch, SourcesComeByWeight) {
  const auto source = prepared().open(kShape);
  std::map<std::string, int> taken;
  for (int64_t step = 0; step < 100; ++step) {
    for (const auto& from : source->provenance(step * kSequences, kSequences)) ++taken[from.source];
  }
  EXPECT_NEAR(taken["source0"], 100, 1);
  EXPECT_NEAR(taken["source1"], 200, 1);
  EXPECT_NEAR(taken["source2"], 300, 1);
}

TEST(Batch, NoTargetCrossesADocumentAndCountsAreRight) {
  const auto source = prepared().open(kShape);
  for (int64_t step = 0; step < 20; ++step) {
    const Batch batch = source->batch(step * kSequences, kSequences);
    int64_t valid = 0, bytes = 0;
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] < 0) continue;
      ++valid;
      bytes += prepared().tokenizer().text_bytes(batch.targets[i]);
      EXPECT_NE(batch.ids[i], prepared().tokenizer().special().eos);
      EXPECT_NE(batch.targets[i], prepared().tokenizer().special().bos);
      if ((i + 1) % kTokens != 0) {
        EXPECT_EQ(batch.targets[i], batch.ids[i + 1]);
      }
    }
    EXPECT_EQ(batch.target_count, valid);
    EXPECT_EQ(batch.target_bytes, bytes);
  }
}

TEST(Batch, DependsOnSeedAndPositionAlone) {
  const auto a = prepared().open(kShape), b = prepared().open(kShape);
  for (int64_t at = 300; at > 0; at -= 41) expect_same(a->batch(at, kSequences), b->batch(at, kSequences));
  BatchShape other = kShape;
  other.seed = 6;
  EXPECT_NE(prepared().open(other)->batch(0, kSequences).ids, a->batch(0, kSequences).ids);
  EXPECT_NE(prepared().open(other)->fingerprint(), a->fingerprint());
  EXPECT_EQ(b->fingerprint(), a->fingerprint());
}

// Batches of any sizes, one after another, have every sequence once and in order.
TEST(Batch, SizesDoNotMatter) {
  const auto source = prepared().open(kShape);
  const Batch whole = source->batch(0, 40);
  int64_t position = 0;
  for (const int64_t count : {6, 1, 8, 2, 3, 16, 4}) {
    const Batch part = source->batch(position, count);
    ASSERT_EQ(part.sequences, count);
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(sequence_of(part, i), sequence_of(whole, position + i)) << position + i;
      EXPECT_EQ(source->provenance(position, count)[static_cast<size_t>(i)].global_index, position + i);
    }
    position += count;
  }
  EXPECT_EQ(position, 40);
}

// What a checkpoint stores of the data, and what older ones have, which counted the batch in.
TEST(Batch, FingerprintsAreOfTheSequencesAndNotOfTheBatch) {
  const auto source = prepared().open(kShape);
  BatchShape longer = kShape;
  longer.tokens_per_sequence = 2 * kTokens;
  EXPECT_NE(prepared().open(longer)->fingerprint(), source->fingerprint());
  EXPECT_NE(source->fingerprint_with_batch(4), source->fingerprint_with_batch(8));
  EXPECT_NE(source->fingerprint_with_batch(4), source->fingerprint());
  SkipList skips;
  skips.add(3, 5);
  EXPECT_EQ(prepared().open(kShape, skips)->fingerprint(), source->fingerprint());
}

TEST(Batch, ValidationHasEveryHeldOutTokenOnce) {
  const auto source = prepared().open(kShape);
  const int64_t count = source->validation_sequences();
  std::vector<Sequence> expected;
  int64_t tokens = 0;
  for (size_t s = 0; s < 3; ++s) {
    const auto& documents = prepared().documents(s, Split::validation);
    for (Sequence& sequence : plain_sequences(documents, kTokens)) expected.push_back(std::move(sequence));
    for (const auto& ids : documents) tokens += static_cast<int64_t>(ids.size()) - 1;
  }
  ASSERT_EQ(count, static_cast<int64_t>(expected.size()));
  int64_t targets = 0, bytes = 0;
  for (int64_t first = 0; first < count; first += 4) {
    const Batch batch = source->validation(first, std::min<int64_t>(4, count - first));
    for (int64_t i = 0; i < batch.sequences; ++i) {
      EXPECT_EQ(sequence_of(batch, i), expected[static_cast<size_t>(first + i)]);
    }
    targets += batch.target_count;
    bytes += batch.target_bytes;
  }
  EXPECT_EQ(targets, tokens);
  EXPECT_EQ(bytes, prepared().text_bytes(Split::validation));
}

TEST(Batch, ProvenanceNamesTheDocuments) {
  const auto source = prepared().open(kShape);
  const Batch batch = source->batch(3 * kSequences, kSequences);
  const auto provenance = source->provenance(3 * kSequences, kSequences);
  for (int64_t i = 0; i < kSequences; ++i) {
    const Sequence sequence = sequence_of(batch, i);
    const SequenceProvenance& from = provenance[static_cast<size_t>(i)];
    for (const DocumentSpan& span : from.documents) {
      const auto s = static_cast<size_t>(from.source.back() - '0');
      const auto& ids = prepared().documents(s, Split::train)[static_cast<size_t>(span.document)];
      for (int64_t k = 0; k < span.tokens; ++k) {
        EXPECT_EQ(sequence.ids[static_cast<size_t>(span.first_token + k)],
                  ids[static_cast<size_t>(span.document_token + k)]);
      }
      EXPECT_TRUE(span.name.starts_with(from.source + "/")) << span.name;
    }
  }
}

TEST(Batch, SkippedSequencesAreLeftOut) {
  SkipList skips;
  skips.add(10, 22);
  const auto all = prepared().open(kShape), some = prepared().open(kShape, skips);
  expect_same(all->batch(0, 6), some->batch(0, 6));
  const Batch first = some->batch(6, 6), plain = all->batch(6, 6), later = all->batch(18, 6);
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(sequence_of(first, i), sequence_of(plain, i));  // 6 .. 9
  for (int64_t i = 4; i < 6; ++i) EXPECT_EQ(sequence_of(first, i), sequence_of(later, i));  // 22, 23
  expect_same(some->batch(12, 6), all->batch(24, 6));
  EXPECT_EQ(some->provenance(12, 6)[0].global_index, 24);
  some->skip({});
  expect_same(some->batch(12, 6), all->batch(12, 6));
}

TEST(SkipList, CountsAroundItsRanges) {
  SkipList skips;
  EXPECT_EQ(skips.index(7), 7);
  skips.add(5, 8);
  skips.add(20, 25);
  skips.add(7, 10);
  skips.add(3, 3);
  ASSERT_EQ(skips.ranges().size(), 2u);
  std::vector<int64_t> found;
  for (int64_t k = 0; k < 20; ++k) found.push_back(skips.index(k));
  std::vector<int64_t> expected;
  for (int64_t i = 0; expected.size() < 20; ++i) {
    if ((i < 5 || i >= 10) && (i < 20 || i >= 25)) expected.push_back(i);
  }
  EXPECT_EQ(found, expected);
  for (int64_t k = 0; k < 20; ++k) EXPECT_EQ(skips.position(skips.index(k)), k);
  EXPECT_EQ(skips.position(7), 5) << "5 and 6 are left out";
  EXPECT_FALSE(skips.range_of(4) || skips.range_of(10) || skips.range_of(25));
  EXPECT_EQ(skips.range_of(9), (SkipList::Range{5, 10}));
  EXPECT_EQ(skips.range_of(20), (SkipList::Range{20, 25}));
  EXPECT_EQ(to_text(skips.ranges()), "5 to 9 and 20 to 24");
  EXPECT_THROW(skips.add(-1, 3), UserError);
  EXPECT_THROW(skips.add(4, 3), UserError);
  EXPECT_THROW(skips.add(4, SkipList::kMostIndex + 1), UserError);
}

TEST(SkipList, TellsWhatAnotherDoesNotLeaveOut) {
  using Ranges = std::vector<SkipList::Range>;
  const SkipList one(Ranges{{30, 40}, {0, 10}}), two(Ranges{{2, 4}, {8, 33}, {50, 60}});
  EXPECT_EQ(one.beyond(two), (Ranges{{0, 2}, {4, 8}, {33, 40}}));
  EXPECT_EQ(two.beyond(one), (Ranges{{10, 30}, {50, 60}}));
  EXPECT_TRUE(one.beyond(one).empty());
  EXPECT_EQ(one.beyond({}), one.ranges());
  EXPECT_TRUE(SkipList().beyond(one).empty());
}

// As many ranges as a config can hold are no more work than sorting them.
TEST(SkipList, HoldsManyRanges) {
  std::vector<SkipList::Range> ranges;
  for (int64_t i = 200'000; i > 0; --i) ranges.push_back({3 * i, 3 * i + 1});
  const SkipList skips(std::move(ranges));
  EXPECT_EQ(skips.ranges().size(), 200'000u);
  EXPECT_EQ(skips.index(2), 2);
  EXPECT_EQ(skips.index(3), 4);
  EXPECT_EQ(skips.index(400'002), 600'002);
}

TEST(Dataset, RefusesWhatDoesNotFit) {
  BatchShape small = kShape;
  small.vocab = 600;
  EXPECT_THROW(prepared().open(small), UserError);
  BatchShape none = kShape;
  none.tokens_per_sequence = 0;
  EXPECT_THROW(prepared().open(none), UserError);
  EXPECT_THROW(open_dataset(prepared().directory(), {{"nobody", 1}}, kShape), UserError);
  EXPECT_THROW(open_dataset("/nowhere", {{"source0", 1}}, kShape), UserError);
}

TEST(Dataset, ASourceWithoutTrainingDocumentsIsNamed) {
  const Prepared empty(std::vector<int>{7, 0});
  try {
    empty.open(kShape);
    FAIL() << "nothing was said";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("source1"), std::string::npos) << error.what();
  }
  // With weight 0 its shard is not asked for documents.
  EXPECT_NO_THROW(open_dataset(empty.directory(), {{"source0", 1}, {"source1", 0}}, kShape));
}

TEST(Synthetic, IsOneDocumentASequence) {
  const auto source = synthetic_batches({16, 50, 1, 3});
  const Batch batch = source->batch(8, 4);
  EXPECT_EQ(batch.target_count, 64);
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    EXPECT_GE(batch.ids[i], 0);
    EXPECT_LT(batch.ids[i], 50);
    EXPECT_EQ(batch.document_starts[i], 0);
    EXPECT_EQ(batch.positions[i], static_cast<int32_t>(i % 16));
    if (i % 16 != 15) {
      EXPECT_EQ(batch.targets[i], batch.ids[i + 1]);
    }
  }
  expect_same(batch, synthetic_batches({16, 50, 1, 0})->batch(8, 4));
  EXPECT_NE(batch.ids, source->batch(12, 4).ids);
  EXPECT_EQ(source->validation_sequences(), 3);
  EXPECT_EQ(source->validation(1, 2).sequences, 2);
  EXPECT_NE(source->validation(0, 1).ids, source->batch(0, 1).ids);
  SkipList skips;
  skips.add(9, 11);
  source->skip(skips);
  EXPECT_EQ(source->provenance(8, 2)[1].global_index, 11);
  EXPECT_EQ(source->batch(9, 1).ids, synthetic_batches({16, 50, 1, 0})->batch(11, 1).ids);
}

}  // namespace
}  // namespace toroid
