#include "tests/golden/golden_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/model/model.pb.h"
#include "optim/adamw.h"
#include "optim/optim.pb.h"
#include "train/huggingface/model_config.h"

namespace toroid::golden {

std::vector<Path> case_directories() {
  const char* from = std::getenv("TOROID_GOLDEN_DIR");
  const Path root = from != nullptr && *from != '\0' ? Path(from) : Path("tests/golden");
  std::vector<Path> found;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (std::filesystem::exists(entry.path() / "expected.safetensors")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string case_name(const ::testing::TestParamInfo<Path>& info) {
  std::string name = info.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
}

Values read_values(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.at(name);
  require(info.type == ElementType::f32, "golden values are fp32");
  Values out{std::vector<float>(static_cast<size_t>(info.elements())), info.shape};
  file.read(info, std::as_writable_bytes(std::span(out.values)));
  return out;
}

std::vector<int32_t> read_ints(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.at(name);
  require(info.type == ElementType::i64, "golden ids are int64");
  std::vector<int64_t> wide(static_cast<size_t>(info.elements()));
  file.read(info, std::as_writable_bytes(std::span(wide)));
  return {wide.begin(), wide.end()};
}

namespace {

// Parallel layers are a key of the cases' own, which an import refuses: no model of transformers has them.
DecoderConfig read_config(const Path& config_json) {
  auto json = nlohmann::json::parse(read_file(config_json, 1 << 20));
  const bool parallel = json.value("parallel_layers", false);
  json.erase("parallel_layers");
  config::ModelConfig model = huggingface::parse_model_config(json.dump(), config_json.string());
  model.set_parallel_layers(parallel);
  return decoder_config(model);
}

}  // namespace

Case::Case(const Path& directory) : model(directory), expected(directory / "expected.safetensors") {
  config = read_config(directory / "config.json");
  const SafetensorsFile batches(directory / "batches.safetensors");
  const auto& shape = batches.at("input_ids").shape;
  steps = shape[0], sequences = shape[1], tokens = shape[2];
  ids = read_ints(batches, "input_ids");
  targets = read_ints(batches, "targets");
  positions = read_ints(batches, "position_ids");
  const std::vector<int32_t> segments = read_ints(batches, "segment_ids");
  starts.resize(segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    const auto t = static_cast<int32_t>(i % static_cast<size_t>(tokens));
    starts[i] = t > 0 && segments[i] == segments[i - 1] ? starts[i - 1] : t;
  }
  const auto per_step = static_cast<size_t>(sequences * tokens);
  for (size_t s = 0; s < static_cast<size_t>(steps); ++s) {
    int64_t count = 0;
    for (size_t i = s * per_step; i < (s + 1) * per_step; ++i) count += targets[i] >= 0 ? 1 : 0;
    target_counts.push_back(count);
  }
}

train::HostBatch Case::batch(int64_t step) const {
  const auto per_step = static_cast<size_t>(sequences * tokens);
  const auto part = [&](const std::vector<int32_t>& all) {
    return std::span(all).subspan(static_cast<size_t>(step) * per_step, per_step);
  };
  return {part(ids), part(targets), part(positions), part(starts), target_counts[static_cast<size_t>(step)]};
}

std::unique_ptr<train::StepProgram> make_program(Device& device, ZeroGroups groups, const Case& golden,
                                                 train::StepOptions options) {
  options.tokens_per_sequence = golden.tokens;
  options.global_sequences = golden.sequences;
  options.decide.clip_norm = 1.0;
  config::OptimConfig optim;
  optim.mutable_adamw()->set_weight_decay(0.1);
  auto program =
      std::make_unique<train::StepProgram>(device, groups, golden.config, options, optim::make_adamw(optim));
  program->initialise(1);
  for (const NamedTensor& part : program->zero().parts()) {
    if (part.part != "master") continue;
    const auto& entry = golden.model.at(part.name);
    const Values values = read_values(*entry.file, part.name);
    const auto own =
        std::span(values.values)
            .subspan(static_cast<size_t>(part.first), static_cast<size_t>(part.tensor.elements()));
    device.write(part.tensor, std::as_bytes(own));
  }
  program->weights_changed();
  return program;
}

std::vector<float> to_host(Device& device, const Tensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  if (tensor.type == DType::f32) {
    device.read(tensor, std::as_writable_bytes(std::span(out)));
    return out;
  }
  require(tensor.type == DType::bf16, "values are read as fp32 or bf16");
  std::vector<uint16_t> bits(out.size());
  device.read(tensor, std::as_writable_bytes(std::span(bits)));
  std::transform(bits.begin(), bits.end(), out.begin(), from_bf16);
  return out;
}

}  // namespace toroid::golden
