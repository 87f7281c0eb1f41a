// A folder of reference numbers (golden/README.md): a tiny model, eight batches, and what transformers made
// of them.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/base/io/safetensors.h"
#include "core/device/device.h"
#include "train/step/step_program.h"

namespace toroid::golden {

// Folders under TOROID_GOLDEN_DIR, or under the project's own copy.
std::vector<Path> case_directories();
// How a suite over these folders names its tests.
std::string case_name(const ::testing::TestParamInfo<Path>& info);

struct Values {
  std::vector<float> values;
  std::vector<int64_t> shape;
};
Values read_values(const SafetensorsFile& file, const std::string& name);
std::vector<int32_t> read_ints(const SafetensorsFile& file, const std::string& name);

struct Case {
  explicit Case(const Path& directory);

  DecoderConfig config;
  SafetensorsModel model;
  SafetensorsFile expected;
  int64_t steps = 0, sequences = 0, tokens = 0;
  std::vector<int32_t> ids, targets, positions, starts;  // [steps, sequences, tokens]

  train::HostBatch batch(int64_t step) const;
  std::vector<int64_t> target_counts;  // [steps]
};

// AdamW and clipping as make_golden.py has them; weights loaded from the case.
std::unique_ptr<train::StepProgram> make_program(Device& device, ZeroGroups groups, const Case& golden,
                                                 train::StepOptions options);

std::vector<float> to_host(Device& device, const Tensor& tensor);

}  // namespace toroid::golden
