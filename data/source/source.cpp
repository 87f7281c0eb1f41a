#include "data/source/source.h"

namespace toroid {

SourceCounts& SourceCounts::operator+=(const SourceCounts& other) {
  files += other.files;
  file_bytes += other.file_bytes;
  documents += other.documents;
  skipped_links += other.skipped_links;
  skipped_special += other.skipped_special;
  dropped_binary += other.dropped_binary;
  dropped_invalid += other.dropped_invalid;
  dropped_tangled += other.dropped_tangled;
  dropped_empty += other.dropped_empty;
  dropped_not_json += other.dropped_not_json;
  dropped_no_text += other.dropped_no_text;
  dropped_long += other.dropped_long;
  repaired += other.repaired;
  not_utf8 += other.not_utf8;
  bad_escapes += other.bad_escapes;
  nul += other.nul;
  if (first_skipped.empty()) first_skipped = other.first_skipped;
  return *this;
}

}  // namespace toroid
