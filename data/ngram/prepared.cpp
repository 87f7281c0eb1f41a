#include "core/base/error.h"
#include "data/ngram/ngram.h"
#include "data/shard/shard.h"
#include "data/tokenizer/tokenizer.h"

namespace toroid {
namespace {

// The documents of several shards, one after another.
class Documents {
 public:
  Documents(const Path& directory, const std::vector<std::string>& sources, Split split,
            const Tokenizer& tokenizer) {
    for (const std::string& source : sources) {
      const Path prefix = shard_prefix(directory, source, split);
      if (read_shard_manifest(prefix).documents == 0) continue;
      shards_.emplace_back(prefix, tokenizer.vocab_size(), tokenizer.hash(), ShardCheck::sizes);
    }
  }

  bool next(std::vector<int32_t>& ids) {
    while (shard_ < shards_.size() && document_ == shards_[shard_].documents()) {
      ++shard_;
      document_ = 0;
    }
    if (shard_ == shards_.size()) return false;
    const ShardReader& shard = shards_[shard_];
    const int64_t first = shard.document_start(document_);
    ids.resize(static_cast<size_t>(shard.document_start(document_ + 1) - first));
    shard.read(first, ids);
    ++document_;
    return true;
  }

 private:
  std::vector<ShardReader> shards_;
  size_t shard_ = 0;
  int64_t document_ = 0;
};

}  // namespace

NgramEntropy prepared_entropy(const Path& directory, const std::vector<std::string>& sources) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_path(directory));
  Documents training(directory, sources, Split::train, tokenizer);
  Documents validation(directory, sources, Split::validation, tokenizer);
  return ngram_entropy([&](std::vector<int32_t>& ids) { return training.next(ids); },
                       [&](std::vector<int32_t>& ids) { return validation.next(ids); },
                       tokenizer.vocab_size());
}

}  // namespace toroid
