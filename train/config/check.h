// The checks of the batch and of the training loop of their own configs.
#pragma once

namespace toroid::config {
class BatchConfig;
class TrainConfig;
}  // namespace toroid::config

namespace toroid::train {

// Each throws UserError with the first value out of bounds.
void check(const config::BatchConfig& batch);
void check(const config::TrainConfig& train);

}  // namespace toroid::train
