#include "train/generate/generator.h"

#include <numeric>

#include "core/base/error.h"
#include "train/engine/snapshot.h"

namespace toroid::train {
namespace {

// Weights that are only read.
class NoUpdates final : public UpdateRule {
 public:
  std::vector<std::string> states(const UpdatedTensor&) const override { return {}; }
  void update(Device&, const StepScalars&, const Tensor&, const Tensor&, std::span<const Tensor>,
              const UpdatedTensor&) const override {
    throw InternalError("a generator does not train");
  }
};

}  // namespace

// One call's tokens on the device.
struct Generator::Operands {
  Array ids, positions, starts;
  Microbatch batch;
  RopeTables tables;
};

Generator::Generator(Device& device, const config::RunConfig& run)
    : device_(device),
      config_(decoder_config(run.model())),
      alone_(make_group_of_one()),
      no_updates_(std::make_unique<NoUpdates>()),
      context_{device,
               *alone_,
               run.train().precision() == config::TrainConfig::FP32 ? DType::f32 : DType::bf16,
               {},
               Phase::forward} {
  ZeroOptions options;
  options.compute = context_.compute;
  options.training = false;
  zero_ = std::make_unique<Zero>(device_, decoder_units(config_), *no_updates_, options, alone(*alone_));
  layers_.reserve(static_cast<size_t>(config_.layers));
  for (int64_t l = 0; l < config_.layers; ++l) layers_.emplace_back(config_, l);
}

void Generator::load(CheckpointReader& checkpoint, const std::string& part) {
  restore_weights(device_, *zero_, checkpoint, part);
}

void Generator::start(int64_t capacity) {
  caches_.clear();
  views_.clear();
  length_ = 0;
  const Shape shape{capacity, config_.kv_heads * config_.head_dim};
  for (size_t l = 0; l < layers_.size(); ++l) {
    caches_.push_back(context_.array(shape, "cache"));
    caches_.push_back(context_.array(shape, "cache"));
    views_.push_back({caches_[2 * l].tensor, caches_[2 * l + 1].tensor, capacity, 0});
  }
}

Generator::Operands Generator::operands(std::span<const int32_t> tokens, int64_t first) {
  for (const int32_t id : tokens) {
    if (id < 0 || id >= config_.vocab) {
      throw UserError("token id " + std::to_string(id) + " is not below the model's vocabulary of " +
                      std::to_string(config_.vocab) + "; the tokenizer belongs to another model");
    }
  }
  const auto count = static_cast<int64_t>(tokens.size());
  Operands out;
  const auto put = [&](std::span<const int32_t> values) {
    Array array = device_.array(DType::i32, {count}, "batch");
    device_.write(array.tensor, std::as_bytes(values), Queue::compute);
    return array;
  };
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(first));
  out.ids = put(tokens);
  out.positions = put(positions);
  out.starts = put(std::vector<int32_t>(tokens.size(), 0));
  out.batch.sequences = 1;
  out.batch.tokens = count;
  out.batch.ids = out.ids.tensor;
  out.batch.positions = out.positions.tensor;
  out.batch.starts = out.starts.tensor;
  out.tables = make_rope_tables(context_, config_, out.batch);
  return out;
}

Array Generator::head(const Tensor& x) {
  const int head = static_cast<int>(config_.layers) + 1;
  const PackedMatrix& table = zero_->weights(config_.tied_head ? 0 : head).packs[0];
  return head_logits(context_, config_, zero_->weights(head), table, x);
}

std::vector<float> Generator::extend(std::span<const int32_t> tokens) {
  require(!tokens.empty(), "a sequence is extended by at least one token");
  const Operands now = operands(tokens, length_);
  Array flow = embed_forward(context_, config_, zero_->weights(0), now.batch);
  for (size_t l = 0; l < layers_.size(); ++l) {
    flow = layers_[l].extend(context_, zero_->weights(static_cast<int>(l) + 1), now.batch, std::move(flow),
                             views_[l]);
  }
  length_ += static_cast<int64_t>(tokens.size());
  const Array result = head(flow.tensor.slice_rows(now.batch.tokens - 1, 1));
  std::vector<float> out(static_cast<size_t>(config_.vocab));
  device_.read(result.tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

std::vector<float> Generator::logits(std::span<const int32_t> tokens) {
  const Operands now = operands(tokens, 0);
  Array flow = embed_forward(context_, config_, zero_->weights(0), now.batch);
  for (size_t l = 0; l < layers_.size(); ++l) {
    Saved saved;
    flow = layers_[l].forward(context_, zero_->weights(static_cast<int>(l) + 1), now.batch, std::move(flow),
                              saved, Keep());
  }
  const Array result = head(flow.tensor);
  std::vector<float> out(static_cast<size_t>(result.tensor.elements()));
  device_.read(result.tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

}  // namespace toroid::train
