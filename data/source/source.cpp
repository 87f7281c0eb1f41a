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
  repaired += other.repaired;
  return *this;
}

}  // namespace toroid
