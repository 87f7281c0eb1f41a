#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "configs/run.pb.h"
#include "core/base/error.h"
#include "core/base/io/fresh_directory.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "core/model/decoder_config.h"
#include "data/tokenizer/tokenizer.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/convert.h"
#include "train/checkpoint/elements.h"
#include "train/config/load.h"
#include "train/huggingface/half.h"
#include "train/huggingface/inheritance.h"
#include "train/huggingface/model_config.h"
#include "train/huggingface/tokenizer_files.h"
#include "train/huggingface/transfer.h"

namespace toroid::huggingface {
namespace {

// Fills bytes [first, first + out.size()) of an exported tensor from elements of the checkpoint, fp32 or, of
// the average, bf16.
void read_as(CheckpointReader& reader, const CheckpointTensor& tensor, ElementType type, int64_t first,
             std::span<std::byte> out) {
  const int64_t size = element_bytes(type), start = first / size;
  std::vector<float> values(out.size() / static_cast<size_t>(size));
  read_elements(reader, tensor, start, values);
  if (type == ElementType::f32) {
    std::memcpy(out.data(), values.data(), out.size());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = type == ElementType::bf16 ? to_bf16(values[i]) : to_f16(values[i]);
    if (type == ElementType::f16 && std::isfinite(values[i]) && (bits & 0x7fff) == 0x7c00) {
      throw UserError("tensor " + in_quotes(tensor.name) + " has " + std::to_string(values[i]) +
                      " at element " + std::to_string(start + static_cast<int64_t>(i)) +
                      ", which F16 cannot hold; export as BF16 or F32");
    }
    std::memcpy(out.data() + 2 * i, &bits, 2);
  }
}

// The model's tensors in the order of the forward pass, which is the order that shards are filled in.
std::vector<CheckpointTensor> tensors_of(const CheckpointReader& reader, const DecoderConfig& decoder,
                                         const std::string& part) {
  std::vector<CheckpointTensor> tensors;
  for (const UnitSpec& unit : decoder_units(decoder)) {
    for (const TensorSpec& spec : unit.tensors) {
      const CheckpointTensor& tensor = reader.at(spec.name, part);
      std::vector<int64_t> shape;
      for (int i = 0; i < spec.shape.rank(); ++i) shape.push_back(spec.shape[i]);
      if (tensor.shape != shape || !is_number(tensor.type)) {
        throw UserError("the checkpoint " + in_quotes(reader.directory().string()) + " holds " +
                        in_quotes(spec.name) + " in another shape or type than its config asks for");
      }
      tensors.push_back(tensor);
    }
  }
  return tensors;
}

void write_weights(CheckpointReader& reader, const std::vector<CheckpointTensor>& tensors,
                   const ExportOptions& options) {
  std::vector<TensorSource> sources;
  for (const CheckpointTensor& tensor : tensors) {
    TensorSource source;
    source.name = tensor.name;
    source.type = options.type;
    source.shape = tensor.shape;
    source.fill = [&reader, &tensor, type = options.type](int64_t first, std::span<std::byte> out) {
      read_as(reader, tensor, type, first, out);
    };
    sources.push_back(std::move(source));
  }
  write_plain_model(options.out, std::move(sources), options.shard_bytes);
}

// The tokenizer's files: those that were imported as they came, the others made from the model.
std::map<std::string, std::string> texts_of(const Path& run, const Tokenizer* tokenizer, int64_t max_tokens) {
  std::map<std::string, std::string> texts = kept_files(run);
  if (tokenizer == nullptr) {
    if (texts.empty()) log::warn("the run has no tokenizer.model: only weights and config.json are exported");
    return texts;
  }
  texts["tokenizer.model"] = tokenizer->model_bytes();
  if (!texts.contains("tokenizer.json")) texts["tokenizer.json"] = tokenizer_json(*tokenizer);
  if (!texts.contains("tokenizer_config.json"))
    texts["tokenizer_config.json"] = tokenizer_config_json(*tokenizer, max_tokens);
  return texts;
}

}  // namespace

int64_t export_model(const ExportOptions& options) {
  FreshDirectory out(options.out);
  CheckpointReader reader(options.checkpoint);
  const std::string part = options.average ? "ema" : "master";
  const config::Resolved resolved =
      config::load_text(reader.state().config, (reader.directory() / "manifest.json").string() + " (config)");
  const config::ModelConfig& model = resolved.run.model();
  const int64_t max_tokens = resolved.run.batch().tokens_per_sequence();
  const Path run = run_of_checkpoint(options.checkpoint);
  const std::optional<Path> tokenizer_path = tokenizer_file(run, resolved.run);
  std::optional<Tokenizer> tokenizer;
  if (tokenizer_path) tokenizer = Tokenizer::load(*tokenizer_path);
  const Tokenizer* const known = tokenizer ? &*tokenizer : nullptr;
  std::map<std::string, std::string> texts = texts_of(run, known, max_tokens);
  texts["config.json"] = model_config_json(model, max_tokens, options.type, token_ids(model, known));
  const std::vector<CheckpointTensor> tensors = tensors_of(reader, decoder_config(model), part);

  make_directories(options.out);
  write_weights(reader, tensors, options);
  for (const auto& [name, text] : texts) write_file(options.out / name, text);
  out.keep();
  int64_t parameters = 0;
  for (const CheckpointTensor& tensor : tensors) parameters += tensor.elements;
  return parameters;
}

}  // namespace toroid::huggingface
