#include "simulate/answer/dispatch.h"

#include <algorithm>

namespace toroid::train {

Seconds dispatch_time(int64_t hosts) {
  constexpr double kFewHosts = 16, kFewSeconds = 2.3e-3, kManyHosts = 512, kManySeconds = 35e-3;
  constexpr double kPerHost = (kManySeconds - kFewSeconds) / (kManyHosts - kFewHosts);
  return Seconds(std::max(0.0, kFewSeconds + kPerHost * (static_cast<double>(hosts) - kFewHosts)));
}

Seconds exposed_dispatch(Dispatch how, int64_t hosts, Seconds step) {
  switch (how) {
    case Dispatch::none:
      return Seconds(0);
    case Dispatch::parallel:
      return std::max(Seconds(0), dispatch_time(hosts) - step);
    case Dispatch::sequential:
      return dispatch_time(hosts);
  }
  return Seconds(0);
}

}  // namespace toroid::train
