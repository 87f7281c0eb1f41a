#include "train/checkpoint/manifest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/checkpoint/manifest_json.h"

namespace toroid {
namespace {

using Json = nlohmann::json;

constexpr int64_t kRanks = 1 << 20;
constexpr std::string_view kFormat = "toroid checkpoint";

// Every bit of a double as text that a person can still read: "0x1.8p+1", "inf", "nan".
std::string exact(double value) {
  std::array<char, 64> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::hex).ptr;
  return std::string(text.data(), end);
}

double exact(const JsonView& value) {
  const std::string text = value.as_string();
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::hex);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    value.refuse("is " + in_quotes(text) + ", but a number in hexadecimal notation is needed");
  }
  return number;
}

std::string seal_of(const Json& manifest) {
  return xxh3_hex(manifest.dump());
}

Lineage lineage_of(const JsonView& root) {
  Lineage lineage;
  if (const auto run = root.find("run")) lineage.run = hex_128_of(*run);
  if (const auto parent = root.find("parent")) {
    check_keys(*parent, {"step", "seal"});
    lineage.parent = {parent->at("step").as_integer(0, kMost), hex_128_of(parent->at("seal"))};
  }
  return lineage;
}

CheckpointState state_of(const JsonView& root) {
  CheckpointState state;
  state.step = root.at("step").as_integer(0, kMost);
  state.lineage = lineage_of(root);
  state.config = root.at("config").as_string();
  const JsonView data = root.at("data");
  check_keys(data, {"next_sequence", "skipped"});
  state.next_sequence = data.at("next_sequence").as_integer(0, kMost);
  for (const JsonView& range : data.at("skipped").elements()) {
    const std::vector<int64_t> ends = range.as_integers(0, kMost);
    if (ends.size() != 2 || ends[0] >= ends[1]) range.refuse("is not a range [first, last) of sequences");
    state.skipped.push_back({ends[0], ends[1]});
  }
  const JsonView counters = root.at("counters"), scalars = root.at("scalars"), texts = root.at("texts");
  for (const std::string& key : counters.keys()) state.counters[key] = counters.at(key).as_integer();
  for (const std::string& key : scalars.keys()) state.scalars[key] = exact(scalars.at(key));
  for (const std::string& key : texts.keys()) state.texts[key] = texts.at(key).as_string();
  return state;
}

}  // namespace

std::string manifest_text(Manifest& manifest) {
  const CheckpointState& state = manifest.state;
  Json json = {{"format", kFormat},      {"version", Manifest::kVersion},
               {"step", state.step},     {"world_size", manifest.world_size},
               {"config", state.config}, {"counters", state.counters},
               {"texts", state.texts},   {"scalars", Json::object()},
               {"files", Json::array()}, {"tensors", Json::array()}};
  for (const auto& [name, value] : state.scalars) json["scalars"][name] = exact(value);
  Json skipped = Json::array();
  for (const SequenceRange& range : state.skipped) skipped.push_back({range.first, range.last});
  if (!state.lineage.run.empty()) json["run"] = state.lineage.run;
  if (const auto& parent = state.lineage.parent) {
    json["parent"] = {{"step", parent->step}, {"seal", parent->seal}};
  }
  json["data"] = {{"next_sequence", state.next_sequence}, {"skipped", skipped}};
  for (const ManifestFile& file : manifest.files) json["files"].push_back(to_json(file));
  for (const CheckpointTensor& tensor : manifest.tensors) json["tensors"].push_back(to_json(tensor));
  manifest.seal = seal_of(json);
  json["seal"] = manifest.seal;
  return json.dump(1) + "\n";
}

UnsealedManifest parse_unsealed(std::string_view text, const std::string& origin) {
  const JsonDocument document = JsonDocument::parse(text, origin, kManifestLimits);
  const JsonView root = document.root();
  if (!root.has("format") || !root.at("format").is_string() || root.at("format").as_string() != kFormat) {
    root.refuse("is not a manifest: its \"format\" is not \"" + std::string(kFormat) + "\"");
  }
  const int64_t version = root.at("version").as_integer(1, kMost);
  if (version > Manifest::kVersion) {
    root.at("version").refuse("is " + std::to_string(version) + ", but this program knows versions up to " +
                              std::to_string(Manifest::kVersion) + "; load it with a newer program");
  }
  check_keys(root,
             {"format", "version", "step", "world_size", "config", "counters", "texts", "scalars", "data",
              "files", "tensors", "seal"},
             {"run", "parent"});
  Manifest manifest;
  manifest.state = state_of(root);
  manifest.world_size = static_cast<int>(root.at("world_size").as_integer(1, kRanks));
  std::set<std::string> names;
  std::set<int> ranks;
  for (const JsonView& value : root.at("files").elements()) {
    manifest.files.push_back(file_of(value, manifest.world_size));
    const ManifestFile& file = manifest.files.back();
    if (!names.insert(file.name).second)
      value.refuse("names the file " + in_quotes(file.name) + " a second time");
    ranks.insert(file.rank);
  }
  if (static_cast<int>(ranks.size()) != manifest.world_size) {
    root.at("files").refuse("has files of " + std::to_string(ranks.size()) + " ranks, but world_size is " +
                            std::to_string(manifest.world_size));
  }
  std::set<std::pair<std::string, std::string>> keys;
  for (const JsonView& value : root.at("tensors").elements()) {
    manifest.tensors.push_back(tensor_of(value));
    const CheckpointTensor& tensor = manifest.tensors.back();
    if (!keys.insert({tensor.part, tensor.name}).second) {
      value.refuse("names " + in_quotes(tensor.name) + " of part " + in_quotes(tensor.part) +
                   " a second time");
    }
  }
  Json bare = Json::parse(text);
  bare.erase("seal");
  manifest.seal = seal_of(bare);
  const auto by_part = [](const CheckpointTensor& a, const CheckpointTensor& b) {
    return std::tie(a.part, a.name) < std::tie(b.part, b.name);
  };
  std::sort(manifest.tensors.begin(), manifest.tensors.end(), by_part);
  return {std::move(manifest), root.at("seal").as_string()};
}

// The seal comes last, so that a broken manifest is refused for what is wrong with it.
Manifest parse_manifest(std::string_view text, const std::string& origin) {
  UnsealedManifest parsed = parse_unsealed(text, origin);
  if (!parsed.sealed()) {
    throw UserError(in_quotes(origin) +
                    ": 'seal' is not the hash of the rest of the manifest, which was changed or damaged");
  }
  return std::move(parsed.manifest);
}

Manifest read_manifest(const Path& step_directory) {
  const Path path = step_directory / Manifest::kName;
  return parse_manifest(read_file(path, kManifestLimits.bytes), path.string());
}

}  // namespace toroid
