// train.bf16_products: which of the two ways a run takes, and that all its ranks take the same.
#pragma once

#include "configs/run.pb.h"
#include "core/device/cpu/bf16_products.h"
#include "parallel/comm/world.h"
#include "train/config/load.h"

namespace toroid::train {

// The config's choice; where it is AUTO, what this machine does fast.
Bf16Products bf16_products(const config::TrainConfig& train);
config::TrainConfig::Bf16Products to_config(Bf16Products products);

// Replaces AUTO by what this machine does fast, with its origin, so that the resolved config says it. A run
// whose products are fp32 leaves AUTO: nothing depends on it.
void settle_bf16_products(config::Resolved& resolved);

// The first rank's choice, on all of them; blocks. UserError on a rank whose machine cannot take it.
Bf16Products agreed_bf16_products(World& world, const config::TrainConfig& train);

}  // namespace toroid::train
