// A prepared directory with small shards whose documents are known.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/batch/dataset.h"
#include "data/shard/shard.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/data/tokenizer/small_tokenizer.h"

namespace toroid {

class Prepared {
 public:
  // Source i has documents[i] documents, of which every seventh is held out.
  explicit Prepared(const std::vector<int>& documents) : tokenizer_(small_tokenizer(700)) {
    write_file(tokenizer_path(directory_.path()), tokenizer_.model_bytes());
    Encoder encoder(tokenizer_);
    for (size_t s = 0; s < documents.size(); ++s) {
      const std::string name = "source" + std::to_string(s);
      std::map<Split, std::unique_ptr<ShardWriter>> writers;
      for (const Split split : {Split::train, Split::validation}) {
        writers[split] = std::make_unique<ShardWriter>(shard_prefix(directory_.path(), name, split),
                                                       tokenizer_.vocab_size(), tokenizer_.hash());
      }
      for (int d = 0; d < documents[s]; ++d) {
        const Split split = d % 7 == 6 ? Split::validation : Split::train;
        const std::string text = sample_text(s * 1000 + static_cast<uint64_t>(d), d * 5 % 60);
        std::vector<int32_t> ids;
        encoder.encode_document(text, ids);
        writers[split]->add(ids, {name + "/" + std::to_string(d), static_cast<uint64_t>(d),
                                  static_cast<int64_t>(text.size())});
        documents_[{s, split}].push_back(ids);
        text_bytes_[split] += static_cast<int64_t>(text.size());
      }
      for (auto& [split, writer] : writers) writer->finish();
      sources_.push_back({name, 1.0 + static_cast<double>(s)});
    }
  }

  std::unique_ptr<BatchSource> open(const BatchShape& shape, const SkipList& skips = {}) const {
    return open_dataset(directory_.path(), sources_, shape, skips);
  }

  const Path& directory() const { return directory_.path(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  std::vector<DatasetSource>& sources() { return sources_; }
  const std::vector<std::vector<int32_t>>& documents(size_t source, Split split) const {
    return documents_.at({source, split});
  }
  int64_t text_bytes(Split split) const { return text_bytes_.at(split); }

 private:
  TemporaryDirectory directory_;
  Tokenizer tokenizer_;
  std::vector<DatasetSource> sources_;
  std::map<std::pair<size_t, Split>, std::vector<std::vector<int32_t>>> documents_;
  std::map<Split, int64_t> text_bytes_;
};

}  // namespace toroid
