#include "train/checkpoint/report_text.h"

#include <nlohmann/json.hpp>
#include <set>

#include "core/base/text.h"
#include "train/checkpoint/manifest_json.h"

namespace toroid {

using Json = nlohmann::json;

std::string could_not_save(int rank, std::string_view why) {
  return "rank " + std::to_string(rank) +
         " could not save its part of the checkpoint: " + printable(why, 1000);
}

std::string report_text(const RankReport& report) {
  Json out{{"files", Json::array()}, {"tensors", Json::array()}};
  for (const ManifestFile& file : report.files) out["files"].push_back(to_json(file));
  for (const CheckpointTensor& tensor : report.tensors) {
    out["tensors"].push_back({{"tensor", to_json(tensor)}, {"elements", tensor.elements}});
  }
  return out.dump();
}

RankReport parse_report(std::string_view text, CheckpointRank sender) {
  const JsonDocument document =
      JsonDocument::parse(text, "the report of rank " + std::to_string(sender.rank), kManifestLimits);
  check_keys(document.root(), {"files", "tensors"});
  RankReport report;
  std::set<std::string> parts;
  for (const JsonView& value : document.root().at("files").elements()) {
    report.files.push_back(file_of(value, sender.world_size));
    const ManifestFile& file = report.files.back();
    if (file.name != checkpoint_file_name(file.part, sender) || file.rank != sender.rank) {
      value.refuse("is " + in_quotes(file.name) + ", which is not a file of that rank");
    }
    if (!parts.insert(file.part).second) value.refuse("is a second file of the part " + in_quotes(file.part));
  }
  if (parts.empty()) document.root().at("files").refuse("is empty, but every rank writes a file");
  std::set<std::pair<std::string, std::string>> names;
  for (const JsonView& value : document.root().at("tensors").elements()) {
    check_keys(value, {"tensor", "elements"});
    CheckpointTensor tensor = tensor_of(value.at("tensor"));
    tensor.elements = value.at("elements").as_integer(0, tensor.elements);
    if (!names.insert({tensor.part, tensor.name}).second) {
      value.refuse("names " + in_quotes(tensor.name) + " of part " + in_quotes(tensor.part) +
                   " a second time");
    }
    report.tensors.push_back(std::move(tensor));
  }
  return report;
}

}  // namespace toroid
