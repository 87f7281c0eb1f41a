// Prose: a directory of text files, or one file; a document each.
#pragma once

#include <memory>

#include "core/base/io/file.h"
#include "data/source/source.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

std::unique_ptr<Source> make_text_source(const config::SourceConfig& config, const Path& path);

}  // namespace toroid
