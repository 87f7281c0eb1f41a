// A file and a tensor of a step as JSON: what the manifest has of them, and what each rank reports.
#pragma once

#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/base/io/json.h"
#include "train/checkpoint/manifest.h"

namespace toroid {

inline constexpr JsonLimits kManifestLimits = {.bytes = int64_t{64} << 20, .depth = 8};
inline constexpr int64_t kMost = std::numeric_limits<int64_t>::max();  // where an integer has no other bound

nlohmann::json to_json(const ManifestFile& file);
nlohmann::json to_json(const CheckpointTensor& tensor);

// UserError for anything that to_json() does not write. A tensor's elements follow from its shape.
ManifestFile file_of(const JsonView& value, int world_size);
CheckpointTensor tensor_of(const JsonView& value);
// The object has the expected keys and no others but `optional` ones.
void check_keys(const JsonView& object, const std::vector<std::string>& expected,
                const std::vector<std::string>& optional = {});
// 32 hexadecimal digits, as hashes of 128 bits are written.
std::string hex_128_of(const JsonView& value);

}  // namespace toroid
