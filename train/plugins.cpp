#include "train/plugins.h"

#include "core/device/cpu/cpu_kernels.h"

namespace toroid::train {

Plugins::Plugins() : cpu_kernels(make_cpu_kernels) {}

}  // namespace toroid::train
