// A small run for the checkpoint tests: two tensors in four parts, filled with numbers that depend on the
// step.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "train/checkpoint/checkpoint.h"

namespace toroid {

struct SmallRun {
  explicit SmallRun(int64_t step, int64_t rows = 40) : rows_(rows) {
    state.step = step;
    state.config = "model { d_model: 10 }  # from a file\n";
    state.next_sequence = step * 16;
    state.skipped = {{3, 9}};
    state.counters = {{"updates", step - 1}, {"skipped_steps", 1}};
    state.scalars = {{"z_mean", 0.1 * static_cast<double>(step)}, {"z_deviation", 1e300 * 1e10}};
    state.texts = {{"tokenizer", "abc"}};
    for (const char* part : {"master", "exp_avg", "exp_avg_sq", "ema"}) {
      for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"}) {
        const int64_t count = std::strcmp(name, "model.norm.weight") == 0 ? 10 : rows_ * 10;
        std::vector<float> values(static_cast<size_t>(count));
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] = static_cast<float>(step) + static_cast<float>(i) * 0.25F + static_cast<float>(part[0]);
        }
        storage_.push_back(std::move(values));
        slices.push_back(
            {.name = name,
             .part = part,
             .global_shape = count == 10 ? std::vector<int64_t>{10} : std::vector<int64_t>{rows_, 10},
             .offset = 0,
             .elements = count,
             .data = std::as_bytes(std::span(storage_.back())),
             .type = ElementType::f32});
      }
    }
  }

  // True where every tensor comes back bit for bit.
  bool matches(CheckpointReader& reader) const {
    if (reader.state().step != state.step || reader.state().config != state.config) return false;
    for (const TensorSlice& slice : slices) {
      std::vector<std::byte> back(slice.data.size());
      reader.read(slice.name, slice.part, 0, back);
      if (std::memcmp(back.data(), slice.data.data(), back.size()) != 0) return false;
    }
    return true;
  }

  CheckpointState state;
  std::vector<TensorSlice> slices;

 private:
  int64_t rows_;
  std::vector<std::vector<float>> storage_;  // its elements' buffers stay put when it grows
};

}  // namespace toroid
