// What a prepared directory holds, as hashes with names: two directories with the same contents train alike.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace toroid::config {
class DataConfig;
}

namespace toroid {

// ("tokenizer", its hash), then ("data.source[NAME].train_tokens", hashes and counts) and the same of
// validation_tokens for each source. From the manifests alone, which opening the data checks. UserError where
// there is none.
std::vector<std::pair<std::string, std::string>> prepared_contents(const config::DataConfig& data);

}  // namespace toroid
