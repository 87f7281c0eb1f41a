#include "train/loop/data_position.h"

#include "core/base/error.h"
#include "core/base/text.h"
#include "data/batch/dataset.h"

namespace toroid::train {
namespace {

constexpr const char* kTokens = "tokens";
constexpr const char* kFingerprint = "sequence_fingerprint";
constexpr const char* kBatchFingerprint = "data_fingerprint";  // of older checkpoints: with the batch's size

// Older checkpoints do not count tokens; a run whose batch was always the same has taken so many.
int64_t tokens_of(const CheckpointState& state, const config::RunConfig& saved, const std::string& origin) {
  const auto counted = state.counters.find(kTokens);
  int64_t tokens = counted == state.counters.end() ? 0 : counted->second;
  const int64_t of_a_step = saved.batch().global_sequences() * saved.batch().tokens_per_sequence();
  const bool countable =
      counted != state.counters.end() || !__builtin_mul_overflow(state.step, of_a_step, &tokens);
  if (countable && tokens >= 0 && tokens <= SkipList::kMostIndex) return tokens;
  throw UserError(origin +
                  " says that it has seen more tokens than can be counted; it was not written by a run");
}

}  // namespace

DataPosition resumed_position(const CheckpointState& state, const config::RunConfig& saved,
                              const SkipList& wanted, const std::string& origin) {
  if (state.next_sequence > 2 * SkipList::kMostIndex) {  // beyond a range that ends at the last index
    throw UserError(origin + " stands at global sequence " + with_commas(state.next_sequence) +
                    ", which no run reaches; it was not written by a run");
  }
  std::vector<SkipList::Range> ranges;
  for (const SequenceRange& range : state.skipped) ranges.push_back({range.first, range.last});
  const SkipList recorded(ranges);
  const std::vector<SkipList::Range> added = wanted.beyond(recorded);
  if (!added.empty() && added.front().first < state.next_sequence) {
    const int64_t next = state.next_sequence;
    throw UserError("data.skip leaves out the global sequences " + toroid::to_text({added.front()}) +
                    ", but " + origin + " has been trained on all sequences before " + std::to_string(next) +
                    (state.skipped.empty() ? "" : " but for those that it left out") +
                    "; let what is added begin at " + std::to_string(next) +
                    " or later, or resume an earlier checkpoint");
  }
  DataPosition out;
  out.sequences = recorded.position(state.next_sequence);
  out.tokens = tokens_of(state, saved, origin);
  ranges.insert(ranges.end(), added.begin(), added.end());
  out.skips = SkipList(std::move(ranges));
  return out;
}

void record(const DataPosition& position, const BatchSource& source, CheckpointState& state) {
  state.next_sequence = position.next_index();
  for (const SkipList::Range& range : position.skips.ranges()) {
    state.skipped.push_back({range.first, range.last});
  }
  state.counters[kTokens] = position.tokens;
  state.texts[kFingerprint] = std::to_string(source.fingerprint());
}

bool same_sequences(const CheckpointState& state, const config::RunConfig& saved, const BatchSource& source) {
  const auto is = [&](const char* name, uint64_t fingerprint) {
    return state.texts.at(name) == std::to_string(fingerprint);
  };
  if (state.texts.contains(kFingerprint)) return is(kFingerprint, source.fingerprint());
  if (!state.texts.contains(kBatchFingerprint)) return true;
  return is(kBatchFingerprint, source.fingerprint_with_batch(saved.batch().global_sequences()));
}

}  // namespace toroid::train
