// A batch, a function of the seed, the position in the data, its size and the skip list: never of threads,
// ranks, resuming, or the batches before it. A position counts the sequences that training has taken,
// whatever the steps were that took them, so that a run whose batch changes neither repeats nor leaves out a
// sequence. Sequence k of those taken has the k-th global index that is not left out
// (data/batch/skip_list.h).
//
// Packing: a source is the stream of its documents, each `bos text eos`, cut every T tokens. Token i's target
// is token i + 1 of the stream where both are of the same document, across the cut too (one token more than T
// is read), and masked where the document ends. So every token of a document but its bos is a target exactly
// once in an epoch and no target crosses a document's end. Positions and document starts restart at each
// document and at each cut, since attention does not reach over a cut. The last sequence of an epoch is
// filled up with pad, masked, as a document of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/batch/skip_list.h"

namespace toroid {

// Row-major [sequences, tokens].
struct Batch {
  int64_t sequences = 0;  // in the order of their global indices; G of an optimizer step
  int64_t tokens = 0;     // T, each
  std::vector<int32_t> ids;
  std::vector<int32_t> targets;          // -1: masked
  std::vector<int32_t> positions;        // 0 at each document and each cut
  std::vector<int32_t> document_starts;  // index in the sequence of the first token of the token's document
  std::map<std::string, std::vector<float>>
      operands;              // further numbers of each token, for objectives that ask
  int64_t target_count = 0;  // targets that are not -1
  int64_t target_bytes = 0;  // UTF-8 bytes of the text that the targets stand for (bits per byte)
};

// Which documents a sequence was cut from.
struct DocumentSpan {
  int64_t first_token = 0, tokens = 0;  // within the sequence
  int64_t document = 0;                 // within the shard
  int64_t document_token = 0;           // of the document's tokens, the first that is in the sequence
  std::string name;
  uint64_t hash = 0;
};

struct SequenceProvenance {
  int64_t global_index = 0;  // after skips
  std::string source;
  int64_t epoch = 0, sequence = 0;  // of the source
  std::vector<DocumentSpan> documents;
};

// Every method that is const may be called from any thread.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The `count` sequences that are taken after `position` of them.
  virtual Batch batch(int64_t position, int64_t count) const = 0;
  // Sequences of the documents that are never trained on; 0 where there are none.
  virtual int64_t validation_sequences() const = 0;
  virtual Batch validation(int64_t first, int64_t count) const = 0;
  virtual std::vector<SequenceProvenance> provenance(int64_t position, int64_t count) const = 0;
  // Leaves out these ranges from now on, in place of those of before.
  virtual void skip(const SkipList& skips) = 0;
  // Hash of everything that decides which sequence a global index has; a checkpoint stores it and resuming
  // refuses another one.
  virtual uint64_t fingerprint() const = 0;
  // What fingerprint() was while the size of a step's batch went into it: older checkpoints hold that.
  virtual uint64_t fingerprint_with_batch(int64_t global_sequences) const = 0;
};

// Uniform random tokens without documents' ends, for `bench step` and tests: each sequence is one document.
struct SyntheticTokens {
  int64_t tokens_per_sequence = 1;
  int32_t vocab = 2;
  uint64_t seed = 0;
  int64_t validation_sequences = 0;
  std::vector<std::string> operands = {};  // each uniform in [0, 1)
};
std::unique_ptr<BatchSource> synthetic_batches(const SyntheticTokens& tokens);

}  // namespace toroid
