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

// Hashes are written as 16 hexadecimal digits, since JSON's numbers are exact to 53 bits only.
std::string hex(uint64_t value);
uint64_t from_hex(const JsonView& view);

void write_shard_manifest(const Path& prefix, const ShardManifest& manifest);

}  // namespace toroid
