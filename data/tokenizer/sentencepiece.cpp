#include "data/tokenizer/sentencepiece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <unordered_map>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {

class SentencePieceModel::State {
 public:
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceModel::SentencePieceModel(std::string_view model, const std::string& name)
    : state_(std::make_unique<State>()) {
  const auto status = state_->processor.LoadFromSerializedProto(model);
  if (!status.ok()) {
    throw UserError("tokenizer model '" + printable(name, 4096) +
                    "' is refused by SentencePiece: " + printable(status.message(), 300));
  }
}

SentencePieceModel::~SentencePieceModel() = default;

void SentencePieceModel::encode(std::string_view text, std::vector<int>& ids) const {
  ids.clear();
  const auto status = state_->processor.Encode(text, &ids);
  if (!status.ok()) throw InternalError(std::string("SentencePiece cannot encode: ") + status.message());
}

namespace {

class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::function<bool(std::string&)>& next_line) : next_line_(next_line) { Next(); }
  bool done() const override { return done_; }
  void Next() override { done_ = !next_line_(line_); }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::function<bool(std::string&)>& next_line_;
  std::string line_;
  bool done_ = false;
};

}  // namespace

TrainedModel train_sentencepiece(const std::vector<std::pair<std::string, std::string>>& settings,
                                 const std::function<bool(std::string& line)>& next_line) {
  Lines lines(next_line);
  TrainedModel trained;
  const std::unordered_map<std::string, std::string> arguments(settings.begin(), settings.end());
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &lines, &trained.bytes);
  if (!status.ok()) return {"", status.ToString()};
  return trained;
}

}  // namespace toroid
