// The one door to SentencePiece. Its headers declare a namespace absl of their own and its library carries an
// older protobuf, so they are seen by sentencepiece.cpp alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace toroid {

// Constant after construction; encode may be called from any thread.
class SentencePieceModel {
 public:
  // `model` must have passed check_model; UserError naming `name` where SentencePiece refuses it all the
  // same.
  SentencePieceModel(std::string_view model, const std::string& name);
  ~SentencePieceModel();
  SentencePieceModel(const SentencePieceModel&) = delete;
  SentencePieceModel& operator=(const SentencePieceModel&) = delete;

  // Replaces `ids` by the ids of `text`.
  void encode(std::string_view text, std::vector<int>& ids) const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

struct TrainedModel {
  std::string bytes;    // serialized; "" where SentencePiece would not train
  std::string refusal;  // its reason then, in words of its own and with options that Toroid does not have
};

// `next_line` sets a line that stays valid until its next call, or returns false.
TrainedModel train_sentencepiece(const std::vector<std::pair<std::string, std::string>>& settings,
                                 const std::function<bool(std::string& line)>& next_line);

}  // namespace toroid
