// engine_logits CHECKPOINT OUT.safetensors: the engine's fp32 logits for a fixed sequence of tokens, for
// transformers_check.py to compare with those of the exported model.
#include <iostream>

#include "core/base/error.h"
#include "core/base/io/safetensors.h"
#include "core/base/random.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/load.h"
#include "train/generate/generator.h"

namespace toroid {
namespace {

void write_logits(const Path& checkpoint_path, const Path& out) {
  CheckpointReader checkpoint(checkpoint_path);
  const std::string fp32 = "train.precision=FP32";
  const config::RunConfig run =
      config::load_text(checkpoint.state().config, "checkpoint", std::span(&fp32, 1)).run;
  CpuDevice device(make_cpu_kernels(1));
  train::Generator generator(device, run);
  generator.load(checkpoint, "master");

  constexpr int64_t kTokens = 29;
  const int64_t vocab = run.model().vocab();
  const RandomKey key = random_key(1, Purpose::synthetic, "engine_logits");
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kTokens; ++i) {
    ids.push_back(static_cast<int32_t>(uniform(key, static_cast<uint64_t>(i)) * static_cast<float>(vocab)));
  }
  const std::vector<float> logits = generator.logits(ids);
  const std::vector<int64_t> wide(ids.begin(), ids.end());
  TensorSource id_source, logit_source;
  id_source.name = "input_ids";
  id_source.type = ElementType::i64;
  id_source.shape = {1, kTokens};
  id_source.bytes = std::as_bytes(std::span(wide));
  logit_source.name = "logits";
  logit_source.shape = {1, kTokens, vocab};
  logit_source.bytes = std::as_bytes(std::span(logits));
  write_safetensors(out, {id_source, logit_source});
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    toroid::write_logits(argv[1], argv[2]);
  } catch (const toroid::Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  }
  return 0;
}
