#include "train/checkpoint/report_text.h"

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/io/json.h"
#include "core/base/text.h"

namespace toroid {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

// 64 bits do not fit JSON's numbers everywhere.
std::string word(uint64_t value) {
  return std::to_string(value);
}

uint64_t word(const JsonView& value) {
  const std::string text = value.as_string();
  uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) value.refuse("is not a number of 64 bits");
  return out;
}

}  // namespace

std::string report_text(const RankReport& report) {
  Json out{{"files", Json::array()}, {"tensors", Json::array()}};
  for (const ManifestFile& file : report.files) {
    Json blocks = Json::array();
    for (const uint64_t block : file.digest.blocks) blocks.push_back(word(block));
    out["files"].push_back({{"name", file.name},
                            {"part", file.part},
                            {"rank", file.rank},
                            {"bytes", file.digest.bytes},
                            {"xxh3", file.digest.xxh3},
                            {"blocks", std::move(blocks)}});
  }
  for (const CheckpointTensor& tensor : report.tensors) {
    out["tensors"].push_back({{"name", tensor.name},
                              {"part", tensor.part},
                              {"type", static_cast<int>(tensor.type)},
                              {"shape", tensor.shape},
                              {"elements", tensor.elements},
                              {"hash", word(tensor.hash)}});
  }
  return out.dump();
}

RankReport parse_report(std::string_view text, const std::string& origin) {
  const JsonDocument document =
      JsonDocument::parse(text, origin, {.bytes = int64_t{1} << 30, .values = 50'000'000});
  RankReport report;
  for (const JsonView& value : document.root().at("files").elements()) {
    ManifestFile file;
    file.name = value.at("name").as_string();
    file.part = value.at("part").as_string();
    file.rank = static_cast<int>(value.at("rank").as_integer(0, 1 << 20));
    file.digest.bytes = value.at("bytes").as_integer(0, kMost);
    file.digest.xxh3 = value.at("xxh3").as_string();
    for (const JsonView& block : value.at("blocks").elements()) file.digest.blocks.push_back(word(block));
    report.files.push_back(std::move(file));
  }
  for (const JsonView& value : document.root().at("tensors").elements()) {
    CheckpointTensor tensor;
    tensor.name = value.at("name").as_string();
    tensor.part = value.at("part").as_string();
    tensor.type = static_cast<ElementType>(value.at("type").as_integer(0, 255));
    tensor.shape = value.at("shape").as_integers(0, kMost);
    tensor.elements = value.at("elements").as_integer(0, kMost);
    tensor.hash = word(value.at("hash"));
    report.tensors.push_back(std::move(tensor));
  }
  return report;
}

}  // namespace toroid
