// manifest.json of a checkpoint step: what the step is made of. docs/formats.md shows one.
#pragma once

#include <string>
#include <vector>

#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/file_digest.h"

namespace toroid {

struct ManifestFile {
  std::string name;  // bare
  std::string part;
  int rank = 0;
  FileDigest digest;
};

struct Manifest {
  static constexpr int kVersion = 2;
  static constexpr std::string_view kName = "manifest.json";
  int world_size = 1;
  CheckpointState state;
  std::vector<ManifestFile> files;        // by name
  std::vector<CheckpointTensor> tensors;  // by part, then name
  std::string seal;                       // the hash of all the rest: as parsed, and set by manifest_text()
};

std::string manifest_text(Manifest& manifest);

// UserError, naming `origin` and the key, for anything that a save would not have written.
Manifest parse_manifest(std::string_view text, const std::string& origin);
// The same of a manifest whose seal may be wrong: for whoever looks for what was damaged. `manifest.seal` is
// the hash that was found, `stored` the one that the text holds.
struct UnsealedManifest {
  Manifest manifest;
  std::string stored;
  bool sealed() const { return stored == manifest.seal; }
};
UnsealedManifest parse_unsealed(std::string_view text, const std::string& origin);
Manifest read_manifest(const Path& step_directory);

// Parts and tensors are named by letters, digits, '_', '-' and '.'.
bool valid_checkpoint_name(std::string_view name);

}  // namespace toroid
