// Continues token sequences with a trained model, with a cache of keys and values or without.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "configs/run.pb.h"
#include "core/model/ends.h"
#include "core/model/layer.h"
#include "parallel/zero/zero.h"
#include "train/checkpoint/checkpoint.h"
#include "train/engine/plugins.h"

namespace toroid::train {

class Generator {
 public:
  // A model of `run` whose weights are undefined until load().
  Generator(Device& device, const config::RunConfig& run);
  // `part`: "master", or "ema" for the average.
  void load(CheckpointReader& checkpoint, const std::string& part);

  // Forgets all tokens and makes room for `capacity`.
  void start(int64_t capacity);
  int64_t length() const { return length_; }
  // Appends tokens and returns the logits [V] after the last of them.
  std::vector<float> extend(std::span<const int32_t> tokens);
  // Logits [tokens, V] without the cache: every token attends to the earlier ones of this call.
  std::vector<float> logits(std::span<const int32_t> tokens);

  Zero& zero() { return *zero_; }
  const DecoderConfig& config() const { return config_; }

 private:
  struct Operands;
  Operands operands(std::span<const int32_t> tokens, int64_t first);
  Array head(const Tensor& x);

  Device& device_;
  DecoderConfig config_;
  std::unique_ptr<Communicator> alone_;
  std::unique_ptr<UpdateRule> no_updates_;
  std::unique_ptr<Zero> zero_;
  Context context_;
  std::vector<Layer> layers_;
  std::vector<Array> caches_;  // keys, values of each layer
  std::vector<Cache> views_;
  int64_t length_ = 0;
};

}  // namespace toroid::train
