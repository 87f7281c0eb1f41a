// Private to this folder.
#pragma once

#include "data/shard/shard.h"

namespace toroid {

class JsonView;

inline Path with_suffix(const Path& prefix, const char* suffix) {
  Path path = prefix;
  path += suffix;
  return path;
}

// Hashes are strings (hex()), since JSON's numbers are exact to 53 bits only.
uint64_t from_hex(const JsonView& view);

void write_shard_manifest(const Path& prefix, const ShardManifest& manifest);

}  // namespace toroid
