#include "data/batch/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/text.h"
#include "data/batch/packing.h"
#include "data/data.pb.h"
#include "data/mixture/mixture.h"
#include "data/prepare/prepare.h"
#include "data/shard/shard.h"

namespace toroid {
namespace {

// Larger shards are trusted by their sizes: reading them whole would hold up every start.
constexpr int64_t kHashedBytes = int64_t{2} << 30;

ShardReader open_shard(const Path& prefix, int32_t vocab, uint64_t tokenizer_hash) {
  const bool small = read_shard_manifest(prefix).bin.bytes <= kHashedBytes;
  return ShardReader(prefix, vocab, tokenizer_hash, small ? ShardCheck::hashes : ShardCheck::sizes);
}

std::vector<double> weights_of(const std::vector<DatasetSource>& sources) {
  std::vector<double> weights;
  for (const DatasetSource& source : sources) weights.push_back(source.weight);
  return weights;
}

class Dataset : public BatchSource {
 public:
  Dataset(const Path& directory, const std::vector<DatasetSource>& sources, const BatchShape& shape,
          const SkipList& skips)
      : shape_(shape), skips_(skips), mixture_(weights_of(sources)) {
    if (shape.tokens_per_sequence <= 0) {
      throw UserError("a sequence needs at least one token, but " +
                      std::to_string(shape.tokens_per_sequence) + " are asked for");
    }
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_path(directory));
    if (tokenizer.vocab_size() > shape.vocab) {
      throw UserError("the tokenizer has " + std::to_string(tokenizer.vocab_size()) +
                      " pieces, but the model's vocabulary is " + std::to_string(shape.vocab) +
                      "; set model.vocab to at least the tokenizer's");
    }
    pad_ = std::max(tokenizer.special().pad, 0);
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) text_bytes_.push_back(tokenizer.text_bytes(id));
    tokenizer_hash_ = tokenizer.hash();
    for (size_t i = 0; i < sources.size(); ++i) add_source(directory, sources[i], tokenizer.vocab_size());
  }

  Batch batch(int64_t position, int64_t count) const override {
    Batch batch = empty_batch(count, shape_.tokens_per_sequence);
    for (int64_t i = 0; i < count; ++i) {
      const Place place = place_of(position + i);
      pack_sequence(*place.source->train, place.sequence, pad_, row_of(batch, i));
    }
    count_targets(batch);
    return batch;
  }

  int64_t validation_sequences() const override {
    int64_t sum = 0;
    for (const Source& source : sources_) sum += source.validation_sequences;
    return sum;
  }

  Batch validation(int64_t first, int64_t count) const override {
    require(first >= 0 && count >= 0 && first + count <= validation_sequences(),
            "validation sequences that are read exist");
    Batch batch = empty_batch(count, shape_.tokens_per_sequence);
    int64_t before = 0;  // sequences of the sources passed
    int64_t row = 0;
    for (const Source& source : sources_) {
      for (; row < count && first + row < before + source.validation_sequences; ++row) {
        pack_sequence(*source.validation, first + row - before, pad_, row_of(batch, row));
      }
      before += source.validation_sequences;
    }
    count_targets(batch);
    return batch;
  }

  std::vector<SequenceProvenance> provenance(int64_t position, int64_t count) const override {
    std::vector<SequenceProvenance> all;
    for (int64_t i = 0; i < count; ++i) {
      const Place place = place_of(position + i);
      all.push_back({place.global_index, place.source->name, place.epoch, place.sequence,
                     packed_documents(*place.source->train, place.sequence, shape_.tokens_per_sequence)});
    }
    return all;
  }

  void skip(const SkipList& skips) override { skips_ = skips; }

  uint64_t fingerprint() const override { return fingerprint_after("packed sequences 1"); }
  uint64_t fingerprint_with_batch(int64_t global_sequences) const override {
    return fingerprint_after("packed batches 1|" + std::to_string(global_sequences));
  }

 private:
  uint64_t fingerprint_after(std::string text) const {
    const auto add = [&text](const auto& value) { text += '|' + std::to_string(value); };
    add(shape_.tokens_per_sequence);
    add(shape_.seed);
    add(tokenizer_hash_);
    for (size_t i = 0; i < sources_.size(); ++i) {
      text += '|' + sources_[i].name;
      add(mixture_.weight(static_cast<int>(i)));
      add(sources_[i].train ? sources_[i].train->manifest().bin.hash : 0);
      add(sources_[i].train ? sources_[i].train->manifest().idx.hash : 0);
    }
    return XXH3_64bits(text.data(), text.size());
  }

  struct Source {
    std::string name;
    std::optional<ShardReader> train, validation;
    int64_t train_sequences = 0, validation_sequences = 0;
  };

  struct Place {
    const Source* source;
    int64_t global_index, epoch, sequence;
  };

  void add_source(const Path& directory, const DatasetSource& given, int32_t vocab) {
    Source& source = sources_.emplace_back();
    source.name = given.name;
    const Path train = shard_prefix(directory, given.name, Split::train);
    if (mixture_.weight(static_cast<int>(sources_.size() - 1)) > 0) {
      if (read_shard_manifest(train).documents == 0) {
        throw UserError("source '" + printable(given.name) +
                        "' has no training documents; give it weight 0 or take it out");
      }
      source.train.emplace(open_shard(train, vocab, tokenizer_hash_));
      source.train_sequences = packed_sequences(*source.train, shape_.tokens_per_sequence);
    }
    const Path validation = shard_prefix(directory, given.name, Split::validation);
    if (read_shard_manifest(validation).documents > 0) {
      source.validation.emplace(open_shard(validation, vocab, tokenizer_hash_));
      source.validation_sequences = packed_sequences(*source.validation, shape_.tokens_per_sequence);
    }
  }

  Place place_of(int64_t position) const {
    require(position >= 0, "a position is not negative");
    const int64_t index = skips_.index(position);
    const Mixture::Place place = mixture_.place(index);
    const Source& source = sources_[static_cast<size_t>(place.source)];
    const int64_t epoch = place.ordinal / source.train_sequences;
    const Permutation permutation(
        random_key(shape_.seed, Purpose::shuffle, source.name, static_cast<uint64_t>(epoch)),
        static_cast<uint64_t>(source.train_sequences));
    const auto sequence = permutation(static_cast<uint64_t>(place.ordinal % source.train_sequences));
    return {&source, index, epoch, static_cast<int64_t>(sequence)};
  }

  void count_targets(Batch& batch) const {
    for (const int32_t target : batch.targets) {
      if (target < 0) continue;
      ++batch.target_count;
      batch.target_bytes += text_bytes_[static_cast<size_t>(target)];
    }
  }

  BatchShape shape_;
  SkipList skips_;
  Mixture mixture_;
  std::vector<Source> sources_;
  std::vector<int32_t> text_bytes_;  // of each id
  int32_t pad_ = 0;
  uint64_t tokenizer_hash_ = 0;
};

}  // namespace

std::unique_ptr<BatchSource> open_dataset(const Path& directory, const std::vector<DatasetSource>& sources,
                                          const BatchShape& shape, const SkipList& skips) {
  return std::make_unique<Dataset>(directory, sources, shape, skips);
}

std::unique_ptr<BatchSource> open_dataset(const config::DataConfig& config, const BatchShape& shape) {
  const PreparedManifest manifest = check_prepared(config);
  std::vector<DatasetSource> sources;
  for (int i = 0; i < config.source_size(); ++i) {
    const config::SourceConfig& source = config.source(i);
    const bool missing =
        source.may_be_missing() && manifest.sources.at(static_cast<size_t>(i)).train.documents == 0;
    sources.push_back({source.name(), missing ? 0 : source.weight()});
  }
  return open_dataset(Path(config.directory()), sources, shape, skip_list(config));
}

SkipList skip_list(const config::DataConfig& config) {
  std::vector<SkipList::Range> ranges;
  for (const config::SkipRange& range : config.skip()) ranges.push_back({range.first(), range.last()});
  return SkipList(std::move(ranges));
}

Tokenizer open_tokenizer(const config::DataConfig& config) {
  const Path file = tokenizer_path(config.directory());
  if (!is_present(file)) {
    throw UserError("'" + printable(config.directory(), 4096) +
                    "' holds no tokenizer.model; run `toroid prepare` with this config first");
  }
  return Tokenizer::load(file);
}

}  // namespace toroid
