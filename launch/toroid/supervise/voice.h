// What a job says on standard error, as far as a supervisor understands it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace toroid::launch {

class Voice {
 public:
  // Pieces of it, as they come.
  void hear(std::string_view text);

  // The step that the job goes on from, once it has said so.
  std::optional<int64_t> resumed() const { return resumed_; }
  // The sentence that says why it ended, and the rank that it or mpirun names as the cause.
  const std::string& sentence() const { return sentence_; }
  std::optional<int> rank() const { return rank_; }
  // The run directory is another job's: not wrong, but to be waited for.
  bool in_use() const { return in_use_; }
  int64_t bytes() const { return bytes_; }

 private:
  void line(std::string_view text);

  std::string open_;  // a line whose end has not come
  std::optional<int64_t> resumed_;
  std::string sentence_;
  std::optional<int> rank_;
  int rank_weight_ = 0;  // how much what named rank_ knows of it
  bool in_use_ = false;
  int64_t bytes_ = 0;
};

}  // namespace toroid::launch
