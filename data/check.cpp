#include "data/check.h"

#include <algorithm>
#include <set>
#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "data/batch/skip_list.h"
#include "data/data.pb.h"
#include "data/filter/registry.h"
#include "data/tokenizer/train_tokenizer.h"

namespace toroid::data {
namespace {

constexpr int64_t kMostPieces = int64_t{1} << 21;
constexpr int64_t kMostMegabytes = 2000;  // a document is one string with 32-bit lengths in several formats

bool is_name(const std::string& name) {
  const auto allowed = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), allowed);
}

// CustomSourceConfig or CustomFilterConfig.
template <class Custom>
void check_custom(const std::string& path, const Custom& custom) {
  if (custom.name().empty()) throw UserError(path + ".name is not set");
  std::set<std::string> keys;
  for (const config::CustomParameter& parameter : custom.parameter()) {
    if (parameter.key().empty()) throw UserError(path + ".parameter has an entry without a key");
    if (!keys.insert(parameter.key()).second) {
      throw UserError(path + ".parameter \"" + printable(parameter.key()) + "\" is given twice");
    }
  }
}

void check_source(const std::string& path, const config::SourceConfig& source) {
  if (!is_name(source.name())) {
    throw UserError(path + ".name is \"" + printable(source.name()) +
                    "\", but it names files: 1 to 100 letters, digits, '-' and '_'");
  }
  if (source.kind_case() == config::SourceConfig::KIND_NOT_SET) {
    throw UserError(path + " (" + source.name() +
                    ") has neither format nor custom; set one, such as format: TEXT");
  }
  if (source.has_custom()) {
    check_custom(path + ".custom", source.custom());
  } else if (source.path().empty()) {
    throw UserError(path + ".path (of " + source.name() + ") is not set");
  }
  check_range(path + ".weight", source.weight(), 0.0, 1e12);
  check_range(path + ".maximum_megabytes", source.maximum_megabytes(), int64_t{1}, kMostMegabytes);
  if (source.has_format() && source.format() == config::SourceConfig::JSONL &&
      source.jsonl().text_field().empty()) {
    throw UserError(path + ".jsonl.text_field is empty");
  }
}

void check_filters(const config::DataConfig& data) {
  const FilterRegistry builtin = builtin_filters();
  for (int s = 0; s < data.source_size(); ++s) {
    for (int f = 0; f < data.source(s).filter_size(); ++f) {
      const config::FilterConfig& filter = data.source(s).filter(f);
      const std::string path = filter_path(s, f);
      if (filter.has_custom()) {
        check_custom(path + ".custom", filter.custom());
      } else {
        (void)builtin.make(filter, path);  // which checks its values
      }
    }
  }
}

void check_tokenizer(const config::TokenizerConfig& tokenizer) {
  if (tokenizer.has_model()) {
    if (tokenizer.model().empty()) throw UserError("data.tokenizer.model is empty; give the path of a model");
    return;
  }
  if (!tokenizer.has_train()) {
    throw UserError("data.tokenizer has neither model nor train; set one, such as train { vocab: 8192 }");
  }
  const config::TrainTokenizerConfig& train = tokenizer.train();
  check_trained_vocab(train.vocab());
  check_range("data.tokenizer.train.vocab", int64_t{train.vocab()}, int64_t{1}, kMostPieces);
  check_range("data.tokenizer.train.input_megabytes", train.input_megabytes(), 1e-3, 1e4);
}

void check_skip(const std::string& path, const config::SkipRange& skip) {
  check_range(path + ".first", skip.has_first(), skip.first(), int64_t{0}, SkipList::kMostIndex - 1);
  check_range(path + ".last", skip.has_last(), skip.last(), skip.first() + 1, SkipList::kMostIndex);
}

}  // namespace

std::string filter_path(int source, int filter) {
  return "data.source[" + std::to_string(source) + "].filter[" + std::to_string(filter) + "]";
}

void check(const config::DataConfig& data) {
  if (data.directory().empty()) throw UserError("data.directory is not set");
  check_tokenizer(data.tokenizer());
  if (data.source_size() == 0) throw UserError("data has no source; add source { name path format }");
  std::set<std::string> names;
  double weights = 0;
  for (int i = 0; i < data.source_size(); ++i) {
    const std::string path = "data.source[" + std::to_string(i) + "]";
    check_source(path, data.source(i));
    if (!names.insert(data.source(i).name()).second) {
      throw UserError(path + ".name is \"" + data.source(i).name() +
                      "\" again; each source has its own name");
    }
    weights += data.source(i).weight();
  }
  check_filters(data);
  if (!(weights > 0)) throw UserError("the weights of all data.source add up to 0, but one must be above 0");
  check_range("data.validation_fraction", data.validation_fraction(), 0.0, 0.99);
  check_range("data.minimum_document_bytes", int64_t{data.minimum_document_bytes()}, int64_t{0},
              int64_t{1} << 30);
  check_range("data.threads", int64_t{data.threads()}, int64_t{0}, int64_t{4096});
  for (int i = 0; i < data.skip_size(); ++i) check_skip("data.skip[" + std::to_string(i) + "]", data.skip(i));
}

}  // namespace toroid::data
