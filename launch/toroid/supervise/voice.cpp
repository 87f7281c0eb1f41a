#include "launch/toroid/supervise/voice.h"

#include <charconv>

#include "core/base/text.h"

namespace toroid::launch {
namespace {

constexpr size_t kLongestLine = 4096;

// The number right after `before`.
std::optional<int64_t> number_after(std::string_view text, std::string_view before) {
  const size_t at = text.find(before);
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + before.size());
  int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || out < 0) return std::nullopt;
  return out;
}

// The rank of "rank N (data 1, model 0) is gone": the last one before those words.
std::optional<int64_t> rank_before(std::string_view text, std::string_view words) {
  const size_t at = text.find(words);
  if (at == std::string_view::npos) return std::nullopt;
  const size_t begin = text.rfind("rank ", at);
  return begin == std::string_view::npos ? std::nullopt : number_after(text.substr(begin), "rank ");
}

// That of "process 7 (rank N (data 1, model 0)) is stopped by a signal".
std::optional<int64_t> stopped_rank(std::string_view text) {
  const size_t words = text.find(" is stopped by a signal"), begin = text.rfind(" process ", words);
  if (words == std::string_view::npos || begin == std::string_view::npos) return std::nullopt;
  return number_after(text.substr(begin, words - begin), " (rank ");
}

}  // namespace

void Voice::hear(std::string_view text) {
  bytes_ += static_cast<int64_t>(text.size());
  for (const char c : text) {
    if (c != '\n') {
      if (open_.size() < kLongestLine) open_ += c;
      continue;
    }
    line(open_);
    open_.clear();
  }
}

void Voice::line(std::string_view text) {
  if (const auto step = number_after(text, "resumed step ")) resumed_ = *step;
  // What the ranks found out of each other, and what mpirun found out of a rank that a signal ended.
  const auto names = [&](std::optional<int64_t> rank, int weight) {
    if (!rank || weight <= rank_weight_) return;
    rank_ = static_cast<int>(*rank);
    rank_weight_ = weight;
  };
  names(number_after(text, "process rank "), 4);
  names(rank_before(text, ") is gone"), 3);
  names(number_after(text, "not arrived: rank "), 3);
  // Who has begun a call ahead of its device, as with GPUs, is not late for it.
  names(stopped_rank(text), 3);
  // Of two ranks that do different things neither is named: one of several is.
  if (text.find("mismatched collectives") != std::string_view::npos &&
      text.find(" where ranks ") != std::string_view::npos)
    names(number_after(text, ": rank "), 3);

  constexpr std::string_view kOurs = "toroid: ", kMpirun = "mpirun noticed that process rank";
  constexpr std::string_view kWarning = "warning: ";
  // Of several ranks that end at once the words may come before the sentences.
  const bool ours = text.starts_with(kOurs) && !text.substr(kOurs.size()).starts_with(kWarning);
  while (text.starts_with(kOurs)) text.remove_prefix(kOurs.size());
  if (text.find(" is in use by process ") != std::string_view::npos) in_use_ = true;
  // The first one: what follows is what came of it. A rank's own word counts more than mpirun's.
  if (ours && (sentence_.empty() || sentence_.starts_with(kMpirun))) {
    sentence_ = printable(text, 1000);
  } else if (text.starts_with(kMpirun) && sentence_.empty()) {
    sentence_ = printable(text, 1000);
  }
}

}  // namespace toroid::launch
