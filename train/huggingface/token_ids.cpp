#include "train/huggingface/token_ids.h"

#include "core/model/model.pb.h"
#include "data/tokenizer/tokenizer.h"
#include "train/huggingface/family.h"

namespace toroid::huggingface {

void fill_token_ids(config::ModelConfig& model) {
  config::ModelConfig::TokenIds& ids = *model.mutable_token_ids();
  if (!ids.has_bos()) ids.set_bos(kDefaultBos);
  if (!ids.has_pad()) ids.set_pad(kDefaultPad);
  if (ids.eos_size() == 0) ids.add_eos(kDefaultEos);
}

TokenIds token_ids(const config::ModelConfig& model, const Tokenizer* tokenizer) {
  const config::ModelConfig::TokenIds& imported = model.token_ids();
  const SpecialIds special = tokenizer != nullptr ? tokenizer->special() : SpecialIds{};
  const auto some = [](int64_t id) { return id < 0 ? std::nullopt : std::optional(id); };
  TokenIds ids;
  ids.bos = some(imported.has_bos() ? imported.bos() : special.bos);
  ids.pad = some(imported.has_pad() ? imported.pad() : special.pad);
  if (imported.eos_size() == 0) {
    if (special.eos >= 0) ids.eos.push_back(special.eos);
    return ids;
  }
  for (const int64_t eos : imported.eos()) {
    if (eos >= 0) ids.eos.push_back(eos);
  }
  return ids;
}

}  // namespace toroid::huggingface
