#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "configs/run.pb.h"
#include "core/base/error.h"
#include "core/base/io/fresh_directory.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "core/model/decoder_config.h"
#include "data/tokenizer/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/load.h"
#include "train/huggingface/half.h"
#include "train/huggingface/inheritance.h"
#include "train/huggingface/model_config.h"
#include "train/huggingface/transfer.h"

namespace toroid::huggingface {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::vector<int64_t> dims(const Shape& shape) {
  std::vector<int64_t> all;
  for (int i = 0; i < shape.rank(); ++i) all.push_back(shape[i]);
  return all;
}

std::string place(const SafetensorsModel::Entry& entry) {
  return in_quotes(entry.file->path().string()) + ": tensor " + in_quotes(entry.tensor->name);
}

// Bytes [first, first + out.size()) of the tensor as fp32, every element finite.
void read_as_f32(const SafetensorsModel::Entry& entry, int64_t first, std::span<std::byte> out) {
  const int64_t size = element_bytes(entry.tensor->type), count = static_cast<int64_t>(out.size()) / 4;
  const int64_t start = first / 4;
  std::vector<std::byte> raw(static_cast<size_t>(count * size));
  entry.file->read(*entry.tensor, raw, start * size);
  for (int64_t i = 0; i < count; ++i) {
    float value = 0;
    if (size == 4) {
      std::memcpy(&value, raw.data() + i * 4, 4);
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, raw.data() + i * 2, 2);
      value = entry.tensor->type == ElementType::bf16 ? from_bf16(bits) : from_f16(bits);
    }
    if (!std::isfinite(value)) {
      throw UserError(place(entry) + " has " + (std::isnan(value) ? "NaN" : "an infinity") + " at element " +
                      std::to_string(start + i) + "; weights must be finite");
    }
    std::memcpy(out.data() + i * 4, &value, 4);
  }
}

// Elements [first, first + out.size()) of a tensor of floats.
void read_numbers(const SafetensorsModel::Entry& entry, int64_t first, std::span<double> out) {
  const int64_t size = element_bytes(entry.tensor->type);
  std::vector<std::byte> raw(out.size() * static_cast<size_t>(size));
  entry.file->read(*entry.tensor, raw, first * size);
  const auto number = [&raw](size_t i, auto kind) {
    std::memcpy(&kind, raw.data() + i * sizeof kind, sizeof kind);
    return kind;
  };
  for (size_t i = 0; i < out.size(); ++i) {
    switch (entry.tensor->type) {
      case ElementType::f64:
        out[i] = number(i, double{});
        break;
      case ElementType::f32:
        out[i] = number(i, float{});
        break;
      case ElementType::bf16:
        out[i] = from_bf16(number(i, uint16_t{}));
        break;
      default:
        out[i] = from_f16(number(i, uint16_t{}));
    }
  }
}

bool is_float(ElementType type) {
  return type == ElementType::f64 || type == ElementType::f32 || type == ElementType::bf16 ||
         type == ElementType::f16;
}

// A head stored beside the embedding it is tied to, as some tools do, is passed over where it holds the same
// numbers, whatever their types.
bool same_values(const SafetensorsModel::Entry& a, const SafetensorsModel::Entry& b) {
  if (a.tensor->shape != b.tensor->shape || !is_float(a.tensor->type) || !is_float(b.tensor->type))
    return false;
  std::vector<double> left(size_t{1} << 17), right(left.size());
  for (int64_t at = 0; at < a.tensor->elements(); at += static_cast<int64_t>(left.size())) {
    const size_t n = std::min(left.size(), static_cast<size_t>(a.tensor->elements() - at));
    read_numbers(a, at, std::span(left).first(n));
    read_numbers(b, at, std::span(right).first(n));
    if (!std::equal(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(n), right.begin())) return false;
  }
  return true;
}

// What modules of transformers compute from their config and have stored at times: tables of RoPE, under the
// names of all its versions, and the factor of the embedding.
bool is_buffer(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  return last.ends_with("inv_freq") || last == "cos_cached" || last == "sin_cached" || last == "embed_scale";
}

std::vector<TensorSlice> slices_of(const SafetensorsModel& weights, const DecoderConfig& decoder) {
  std::vector<TensorSlice> slices;
  std::set<std::string, std::less<>> known;
  for (const UnitSpec& unit : decoder_units(decoder)) {
    for (const TensorSpec& spec : unit.tensors) {
      // Where two tensors share their memory some writers keep the first by name, which is the head.
      const bool by_head = spec.name == kEmbedding && decoder.tied_head &&
                           !weights.tensors().contains(spec.name) && weights.tensors().contains(kHead);
      const SafetensorsModel::Entry entry = weights.at(by_head ? kHead : spec.name);
      const std::vector<int64_t> shape = dims(spec.shape);
      if (entry.tensor->shape != shape) {
        throw UserError(place(entry) + " has shape " + shape_text(entry.tensor->shape) +
                        ", but config.json asks for " + shape_text(shape));
      }
      const ElementType type = entry.tensor->type;
      if (type != ElementType::f32 && type != ElementType::bf16 && type != ElementType::f16) {
        throw UserError(place(entry) + " has the dtype " + std::string(element_type_name(type)) +
                        ", but weights are read from F32, BF16 or F16");
      }
      known.insert(entry.tensor->name);
      slices.push_back(
          {.name = spec.name,
           .part = "master",
           .global_shape = shape,
           .offset = 0,
           .elements = spec.shape.elements(),
           .data = {},
           .type = ElementType::f32,
           .fill = [entry](int64_t first, std::span<std::byte> out) { read_as_f32(entry, first, out); }});
    }
  }
  for (const auto& [name, entry] : weights.tensors()) {
    if (known.contains(name) || is_buffer(name)) continue;
    if (name == kHead && decoder.tied_head) {
      if (same_values(entry, weights.at(kEmbedding))) continue;
      throw UserError(place(entry) +
                      " differs from the embedding, but config.json ties the two; set tie_word_embeddings to "
                      "false there to import the head as well");
    }
    throw UserError(place(entry) + " is not part of the model that config.json describes");
  }
  return slices;
}

// A complete config, so that `generate`, `export` and `init_from` read an imported run as they read any
// other.
config::Resolved run_config(const config::ModelConfig& model, int64_t max_tokens) {
  config::RunConfig run;
  *run.mutable_model() = model;
  run.mutable_batch()->set_tokens_per_sequence(max_tokens);
  run.mutable_batch()->set_global_sequences(1);
  run.mutable_train()->set_steps(1);
  run.mutable_optim()->mutable_schedule()->mutable_constant()->set_peak(1e-4);
  std::string text;
  google::protobuf::TextFormat::PrintToString(run, &text);
  config::Resolved resolved = config::load_text(text, "config.json");
  for (auto& [path, origin] : resolved.origins) {
    if (!origin.starts_with("config.json")) continue;
    // The lines are of the text above, which nobody sees; and what trains is no part of a config.json.
    origin =
        path.starts_with("model.") || path == "batch.tokens_per_sequence" ? "config.json" : "toroid import";
  }
  return resolved;
}

}  // namespace

int64_t import_model(const ImportOptions& options) {
  FreshDirectory out(options.out);
  int64_t max_tokens = 0;
  config::ModelConfig model = read_model_config(options.model / "config.json", &max_tokens);
  std::string tokenizer_bytes;
  if (const auto file = tokenizer_file(options.model, {})) {
    const Tokenizer tokenizer = Tokenizer::load(*file);
    if (tokenizer.vocab_size() > model.vocab()) {
      throw UserError(in_quotes(file->string()) + " has " + std::to_string(tokenizer.vocab_size()) +
                      " pieces, but vocab_size in config.json is only " + std::to_string(model.vocab()));
    }
    tokenizer_bytes = tokenizer.model_bytes();
  } else {
    fill_token_ids(model);
    log::warn("{} has no tokenizer.model: the imported model knows ids only",
              in_quotes(options.model.string()));
  }
  const SafetensorsModel weights(options.model);
  const std::vector<TensorSlice> slices = slices_of(weights, decoder_config(model));
  const config::Resolved resolved = run_config(model, max_tokens);

  CheckpointState state;
  state.config = config::to_text(resolved);
  state.counters = {{"updates", 0}};
  save_checkpoint(options.out, state, slices, 1);
  if (!tokenizer_bytes.empty()) write_file(options.out / "tokenizer.model", tokenizer_bytes);
  keep_files(options.model, options.out);
  write_file(options.out / "config.textproto", state.config);
  out.keep();
  int64_t parameters = 0;
  for (const TensorSlice& slice : slices) parameters += slice.elements;
  return parameters;
}

}  // namespace toroid::huggingface
