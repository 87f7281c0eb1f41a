#include "train/ranks/identity.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/base/io/json.h"
#include "core/base/text.h"
#include "core/device/cpu/instruction_set.h"
#include "data/prepare/contents.h"
#include "train/checkpoint/file_digest.h"
#include "train/config/changes.h"

namespace toroid::train {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kProgram = "program", kInstructions = "instructions", kProducts = "products",
                           kBf16Products = "bf16_products", kStored = "identity";
// A run may be continued by another build, on another machine.
constexpr std::array kOfTheMachine{kProgram, kInstructions, kProducts, kBf16Products};
constexpr JsonLimits kTextLimits{.bytes = int64_t{16} << 20, .depth = 4, .values = 1'000'000};

std::string own_file_hash() {
  const InputFile file("/proc/self/exe");
  FileHasher hasher;
  std::vector<std::byte> block(size_t{1} << 20);
  for (int64_t at = 0; at < file.size(); at += static_cast<int64_t>(block.size())) {
    const auto bytes = std::min<int64_t>(file.size() - at, static_cast<int64_t>(block.size()));
    const std::span<std::byte> piece(block.data(), static_cast<size_t>(bytes));
    file.read_at(at, piece);
    hasher.add(piece);
  }
  return hasher.finish().xxh3;
}

std::string stored_name(const std::string& part) {
  return std::string(kStored) + "." + part;
}

std::string shown(const std::string& value) {
  return printable(value, 200);
}

// "rank 1 has train.seed 2 and rank 0 has 1"
std::string sentence(const Difference& difference, size_t rank) {
  const std::string name = printable(difference.name), who = "rank " + std::to_string(rank);
  if (!difference.after) return who + " has no " + name + " and rank 0 has " + shown(*difference.before);
  return who + " has " + name + " " + shown(*difference.after) + " and rank 0 has " +
         (difference.before ? shown(*difference.before) : "none");
}

std::string line(const Difference& change) {
  const std::string name = printable(change.name);
  if (!change.before) return name + " was not set and is " + shown(*change.after);
  return name + " was " + shown(*change.before) +
         (change.after ? " and is " + shown(*change.after) : std::string(" and is gone"));
}

RunIdentity config_of(const config::RunConfig& run) {
  RunIdentity out;
  for (const config::NamedValue& value : config::values(run)) {
    if (!config::may_differ(value.path)) out.add(value.path, value.text);
  }
  return out;
}

// The config's parts come first, and then the program.
auto after_config(const RunIdentity& identity) {
  return std::find_if(identity.parts.begin(), identity.parts.end(),
                      [](const RunIdentity::Part& part) { return part.name == kProgram; });
}

}  // namespace

const std::string* RunIdentity::find(std::string_view name) const {
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const Part& p) { return p.name == name; });
  return found == parts.end() ? nullptr : &found->value;
}

std::string RunIdentity::digest() const {
  return xxh3_hex(to_text(*this));
}

std::vector<Difference> differences(const RunIdentity& before, const RunIdentity& after) {
  std::map<std::string_view, const std::string*> values;
  for (const RunIdentity::Part& part : after.parts) values[part.name] = &part.value;
  std::vector<Difference> out;
  for (const RunIdentity::Part& part : before.parts) {
    const auto found = values.find(part.name);
    if (found == values.end()) {
      out.push_back({part.name, part.value, std::nullopt});
      continue;
    }
    if (*found->second != part.value) out.push_back({part.name, part.value, *found->second});
    values.erase(found);
  }
  for (const RunIdentity::Part& part : after.parts) {
    if (values.contains(part.name)) out.push_back({part.name, std::nullopt, part.value});
  }
  return out;
}

RunIdentity identity_of(const config::RunConfig& run) {
  RunIdentity out = config_of(run);
  add_program(out);
  return out;
}

void add_program(RunIdentity& identity) {
  identity.add(std::string(kProgram), "toroid " TOROID_VERSION ", file " + own_file_hash());
}

void add_processor(RunIdentity& identity, Bf16Products products) {
  identity.add(std::string(kInstructions), cpu::text(cpu::instruction_set()));
  identity.add(std::string(kProducts), cpu::product_library());
  identity.add(std::string(kBf16Products), std::string(name_of(products)));
}

void add_data(RunIdentity& identity, const config::DataConfig& data) {
  for (auto& [name, value] : prepared_contents(data)) identity.add(name, value);
}

std::string weights_hash(const CheckpointReader& checkpoint) {
  Json tensors = Json::array();
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    if (tensor.part != "master") continue;
    tensors.push_back({tensor.name, element_type_name(tensor.type), tensor.shape, hex(tensor.hash)});
  }
  return xxh3_hex(tensors.dump());
}

std::string step_hash(const CheckpointReader& checkpoint) {
  const CheckpointId id = checkpoint.id();
  return id.seal + " (step " + std::to_string(id.step) + ")";
}

std::string to_text(const RunIdentity& identity) {
  Json out = Json::array();
  for (const RunIdentity::Part& part : identity.parts) out.push_back({part.name, part.value});
  return out.dump(-1, ' ', true, Json::error_handler_t::replace);
}

RunIdentity identity_from(std::string_view text, const std::string& origin) {
  const JsonDocument document = JsonDocument::parse(text, origin, kTextLimits);
  RunIdentity out;
  for (const JsonView& part : document.root().elements()) {
    out.add(part.at(size_t{0}).as_string(), part.at(size_t{1}).as_string());
  }
  return out;
}

std::string disagreement(const std::vector<RunIdentity>& ranks) {
  std::string out;
  size_t others = 0;
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    const std::vector<Difference> found = differences(ranks[0], ranks[rank]);
    if (found.empty()) continue;
    if (!out.empty()) {
      ++others;
      continue;
    }
    out = sentence(found[0], rank);
    if (found.size() > 1) out += ", one of " + std::to_string(found.size()) + " values that differ";
  }
  if (others > 0) {
    out += ", and " + std::to_string(others) + (others == 1 ? " more rank differs" : " more ranks differ") +
           " from rank 0";
  }
  return out;
}

void store(const RunIdentity& identity, std::map<std::string, std::string>& texts) {
  texts[std::string(kStored)] = identity.digest();
  for (auto part = after_config(identity); part != identity.parts.end(); ++part) {
    texts[stored_name(part->name)] = part->value;
  }
}

Changes changes_since(const CheckpointState& saved, const config::RunConfig& before, const RunIdentity& now) {
  Changes out;
  RunIdentity after;
  after.parts.assign(now.parts.begin(), after_config(now));
  // With fewer pods the run takes as large a part of its batch, as its config says.
  const std::string* const fewer_pods = after.find("batch.on_fewer_pods");
  const bool scales = fewer_pods != nullptr && *fewer_pods == "SCALE";
  for (const Difference& change : differences(config_of(before), after)) {
    if (scales && change.name == "batch.global_sequences") {
      out.of_machine.push_back(line(change));
      continue;
    }
    if (!config::may_change(change.name)) out.of_weights.push_back(line(change));
  }
  for (auto part = after_config(now); part != now.parts.end(); ++part) {
    const auto found = saved.texts.find(stored_name(part->name));
    if (found == saved.texts.end() || found->second == part->value || config::may_change(part->name))
      continue;
    const bool machine =
        std::find(kOfTheMachine.begin(), kOfTheMachine.end(), part->name) != kOfTheMachine.end();
    (machine ? out.of_machine : out.of_weights).push_back(line({part->name, found->second, part->value}));
  }
  return out;
}

}  // namespace toroid::train
