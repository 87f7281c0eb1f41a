// Which model axes hold a model. Apart from the layers, so that what reads a config does not link kernels.
#pragma once

#include <cstdint>
#include <string>

namespace toroid {

// Why a model axis of `ranks` cannot hold a model of so many query heads and ffn columns, as a sentence;
// empty where it can. The one rule that configs, shares, certificates and tests go by.
std::string why_not_split(int64_t heads, int64_t ffn, int64_t ranks, bool deterministic);

}  // namespace toroid
