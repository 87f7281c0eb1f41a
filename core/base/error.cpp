#include "core/base/error.h"

#include <system_error>

namespace toroid {

SystemError::SystemError(const std::string& message, int error_number)
    : Error(ExitCode::system_error, message + ": " + std::generic_category().message(error_number)) {}

}  // namespace toroid
