// What `toroid --version` prints.
#pragma once

#include <string>

namespace toroid::launch {

// Version, build type, compiler, commit where it is known, and the libraries built in.
std::string version_text();

}  // namespace toroid::launch
