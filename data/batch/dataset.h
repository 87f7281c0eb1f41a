// Batches from the token shards that `toroid prepare` made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "data/batch/batch.h"
#include "data/batch/skip_list.h"
#include "data/tokenizer/tokenizer.h"

namespace toroid::config {
class DataConfig;
}

namespace toroid {

struct BatchShape {
  int64_t tokens_per_sequence = 1;
  int32_t vocab = 0;  // the model's; at least the tokenizer's
  uint64_t seed = 0;
};

struct DatasetSource {
  std::string name;
  double weight = 1;  // share of the training tokens; weights need not add up to one
};

// Sources are mixed by weight (data/mixture/mixture.h); each epoch of a source is a keyed permutation of its
// sequences. Validation: the sources' validation streams, one after another.
std::unique_ptr<BatchSource> open_dataset(const Path& directory, const std::vector<DatasetSource>& sources,
                                          const BatchShape& shape, const SkipList& skips = {});

// The same with the directory, names, weights and skipped ranges of a config. UserError where `toroid
// prepare` has not run.
std::unique_ptr<BatchSource> open_dataset(const config::DataConfig& config, const BatchShape& shape);

// data.skip
SkipList skip_list(const config::DataConfig& config);

// The tokenizer of the prepared directory.
Tokenizer open_tokenizer(const config::DataConfig& config);

}  // namespace toroid
