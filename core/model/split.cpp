#include "core/model/split.h"

namespace toroid {
namespace {

constexpr int64_t kMostSlices = 16;  // of a contraction, whatever the layout

}  // namespace

std::string why_not_split(int64_t heads, int64_t ffn, int64_t ranks, bool deterministic) {
  const auto uneven = [&](const char* name, int64_t value) {
    return std::string(name) + " (" + std::to_string(value) + ") is not a multiple of mesh.model (" +
           std::to_string(ranks) + "), over whose ranks it is split";
  };
  if (heads % ranks != 0) return uneven("model.heads", heads);
  if (ffn % ranks != 0) return uneven("model.ffn", ffn);
  if (!deterministic) return "";
  const std::string axis = "mesh.model (" + std::to_string(ranks) + ")";
  if ((ranks & (ranks - 1)) != 0)
    return axis + " is not a power of two; train.deterministic sums over each axis as a balanced tree";
  if (ranks > kMostSlices) {
    return axis + " is more than " + std::to_string(kMostSlices) +
           "; train.deterministic cuts heads and ffn into at most so many slices";
  }
  return "";  // a power of two up to 16 that divides both divides the canonical slices
}

}  // namespace toroid
