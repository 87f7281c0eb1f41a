// HTML: a document a page, its text as a reader sees it.
#pragma once

#include <memory>

#include "core/base/io/file.h"
#include "data/source/source.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

std::unique_ptr<Source> make_html_source(const config::SourceConfig& config, const Path& path);

}  // namespace toroid
