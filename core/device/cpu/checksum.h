// The checksum of bytes as fast as they are read (core/base/checksum.h).
#pragma once

#include "core/base/checksum.h"

namespace toroid::cpu {

Checksum checksum(std::span<const std::byte> bytes);

}  // namespace toroid::cpu
