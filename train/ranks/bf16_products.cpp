#include "train/ranks/bf16_products.h"

#include "core/base/error.h"
#include "train/ranks/meeting.h"

namespace toroid::train {

using config::TrainConfig;

namespace {

constexpr const char* kOrigin = "AUTO: what the first rank's processor does fast";

TrainConfig::Bf16Products to_config(Bf16Products products) {
  return products == Bf16Products::native ? TrainConfig::NATIVE : TrainConfig::WIDENED;
}

bool is_open(const config::RunConfig& run) {
  return run.train().bf16_products() == TrainConfig::AUTO && run.train().precision() == TrainConfig::BF16 &&
         run.device() == config::RunConfig::CPU;
}

}  // namespace

Bf16Products bf16_products(const TrainConfig& train) {
  switch (train.bf16_products()) {
    case TrainConfig::NATIVE:
      return Bf16Products::native;
    case TrainConfig::WIDENED:
      return Bf16Products::widened;
    case TrainConfig::AUTO:
      break;
  }
  return cpu::fastest_products();
}

Bf16Products agreed_bf16_products(Meeting& ranks, const TrainConfig& train) {
  const bool exact = train.precision() == TrainConfig::FP32;
  const std::string mine(name_of(exact ? Bf16Products::widened : bf16_products(train)));
  // Whatever the precision, since the ranks have not compared their configs yet.
  return first_ranks_products(ranks.exchange(mine, "how bf16 operands are multiplied"));
}

Bf16Products first_ranks_products(const std::vector<std::string>& said) {
  for (const Bf16Products products : {Bf16Products::native, Bf16Products::widened}) {
    if (said.at(0) == name_of(products)) return products;
  }
  throw PeerError(
      "rank 0 says of its bf16 products what this program does not know; start all ranks from one build");
}

void settle_bf16_products(config::RunConfig& run, std::string& text, Bf16Products products) {
  if (!is_open(run)) return;
  run.mutable_train()->set_bf16_products(to_config(products));
  // config::to_text() writes a value a line, so that no text within a value begins one.
  const std::string open = "\n  bf16_products: AUTO";
  const size_t at = text.find(open);
  if (at == std::string::npos) return;
  text.replace(at, text.find('\n', at + 1) - at,
               "\n  bf16_products: " + std::string(name_of(products)) + "  # " + kOrigin);
}

void settle_bf16_products(config::Resolved& resolved) {
  if (!is_open(resolved.run)) return;
  resolved.run.mutable_train()->set_bf16_products(to_config(bf16_products(resolved.run.train())));
  resolved.origins["train.bf16_products"] = kOrigin;
}

}  // namespace toroid::train
