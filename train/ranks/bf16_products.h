// train.bf16_products: which of the two ways a run takes, and that all its ranks take the same.
#pragma once

#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/cpu/bf16_products.h"
#include "train/config/load.h"

namespace toroid::train {

class Meeting;

// The config's choice; where it is AUTO, what this machine does fast. Asks for the instruction set: not
// before the ranks have settled theirs.
Bf16Products bf16_products(const config::TrainConfig& train);

// The first rank's choice, on all of them; blocks. Once the ranks have settled on instructions, what one of
// them can take all can. Where products are fp32 it is WIDENED, which asks for no instructions.
Bf16Products agreed_bf16_products(Meeting& ranks, const config::TrainConfig& train);
// From what each rank says it would take.
Bf16Products first_ranks_products(const std::vector<std::string>& said);

// The config, and its text, with `products` in the place of AUTO, so that what is stored says it. A run whose
// products are fp32 leaves AUTO: nothing depends on it.
void settle_bf16_products(config::RunConfig& run, std::string& text, Bf16Products products);
// The same of a config on this machine alone, with the value's origin.
void settle_bf16_products(config::Resolved& resolved);

}  // namespace toroid::train
