// Source code: as text, with its blank space kept.
#pragma once

#include <memory>

#include "core/base/io/file.h"
#include "data/source/source.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

std::unique_ptr<Source> make_code_source(const config::SourceConfig& config, const Path& path);

}  // namespace toroid
