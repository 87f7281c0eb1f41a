// Where a document is, for messages about it.
#pragma once

#include <string>

#include "core/base/text.h"
#include "data/document.h"

namespace toroid {

inline std::string place_of(const Document& document) {
  return document.place.empty() ? "document " + in_quotes(document.id, 4096) : document.place;
}

}  // namespace toroid
