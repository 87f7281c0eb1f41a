// This rank's own device failed: its peers see no more of it than that this rank ends.
#pragma once

#include "core/base/error.h"

namespace toroid {

class DeviceError : public SystemError {
 public:
  using SystemError::SystemError;
};

}  // namespace toroid
