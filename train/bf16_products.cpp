#include "train/bf16_products.h"

#include "core/base/error.h"

namespace toroid::train {

using config::TrainConfig;

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

TrainConfig::Bf16Products to_config(Bf16Products products) {
  return products == Bf16Products::native ? TrainConfig::NATIVE : TrainConfig::WIDENED;
}

void settle_bf16_products(config::Resolved& resolved) {
  TrainConfig& train = *resolved.run.mutable_train();
  if (train.bf16_products() != TrainConfig::AUTO || train.precision() != TrainConfig::BF16) return;
  if (resolved.run.device() != config::RunConfig::CPU) return;
  train.set_bf16_products(to_config(bf16_products(train)));
  resolved.origins["train.bf16_products"] = "AUTO, what this processor does fast";
}

Bf16Products agreed_bf16_products(World& world, const TrainConfig& train) {
  const std::string mine(name_of(bf16_products(train))), agreed = world.from_first(mine);
  TrainConfig::Bf16Products products = TrainConfig::AUTO;
  if (!TrainConfig::Bf16Products_Parse(agreed, &products) || products == TrainConfig::AUTO)
    throw InternalError("how bf16 products are computed did not arrive");
  const bool native = products == TrainConfig::NATIVE;
  if (native && !cpu::has_native_products() && world.rank() > 0) {
    throw UserError(
        "rank " + std::to_string(world.rank()) +
        "'s processor has no bf16 instructions, and the first rank's bf16 products are NATIVE; set "
        "train.bf16_products: WIDENED for unlike processors");
  }
  return native ? Bf16Products::native : Bf16Products::widened;
}

}  // namespace toroid::train
