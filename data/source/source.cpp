#include "data/source/source.h"

#include <utility>

namespace toroid {

SourceCounts& SourceCounts::operator+=(const SourceCounts& other) {
  files += other.files;
  file_bytes += other.file_bytes;
  documents += other.documents;
  skipped_links += other.skipped_links;
  skipped_special += other.skipped_special;
  dropped_not_json += other.dropped_not_json;
  dropped_no_text += other.dropped_no_text;
  dropped_long += other.dropped_long;
  if (first_skipped.empty()) first_skipped = other.first_skipped;
  return *this;
}

FilteredCounts read_filtered(const Source& source, size_t part, const FilterChain& chain,
                             const DocumentSink& sink) {
  FilteredCounts counts;
  int64_t kept = 0;
  counts.source = source.read(part, [&](Document&& document) {
    if (!chain.apply(document, counts.filters)) return;
    ++kept;
    sink(std::move(document));
  });
  counts.source.documents = kept;
  return counts;
}

}  // namespace toroid
