// What a format's documents go through before the filters that the config asks for.
#pragma once

#include "data/filter/chain.h"

namespace toroid::config {
class SourceConfig;
}

namespace toroid {

// Of text in whole files: `binary`.
void add_binary(const config::SourceConfig& config, FilterChain& chain);

// Of all text: `damage`, `line_ends` and, where the config says so, `terminal_escapes`.
void add_text_cleaning(const config::SourceConfig& config, FilterChain& chain);

}  // namespace toroid
