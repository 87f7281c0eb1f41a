// The checks of the batch, of the training loop and of rehearsed faults of their own configs.
#pragma once

namespace toroid::config {
class BatchConfig;
class FaultsConfig;
class TrainConfig;
}  // namespace toroid::config

namespace toroid::train {

// Each throws UserError with the first value out of bounds.
void check(const config::BatchConfig& batch);
void check(const config::TrainConfig& train);
void check(const config::FaultsConfig& faults);

}  // namespace toroid::train
