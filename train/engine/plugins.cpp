#include "train/engine/plugins.h"

#include "configs/run.pb.h"
#include "core/device/cpu/cpu_kernels.h"

namespace toroid::train {

Plugins::Plugins()
    : cpu_kernels([](int threads, Bf16Products products) { return make_cpu_kernels(threads, products); }) {}

void Plugins::check(const config::RunConfig& run) const {
  (void)optimizers.make(run.optim());
  (void)schedules.make(run.optim().schedule());
}

}  // namespace toroid::train
