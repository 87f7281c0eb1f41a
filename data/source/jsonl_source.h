// JSONL: a document a line, an object with its text in one field.
#pragma once

#include <memory>

#include "core/base/io/file.h"
#include "data/source/source.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

std::unique_ptr<Source> make_jsonl_source(const config::SourceConfig& config, const Path& path);

}  // namespace toroid
