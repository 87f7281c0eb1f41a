// toroid checkpoint diff: two checkpoints beside each other.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/text.h"
#include "launch/toroid/checkpoint_json.h"
#include "launch/toroid/verb.h"
#include "train/checkpoint/compare.h"
#include "train/checkpoint/inventory.h"
#include "train/config/changes.h"
#include "train/config/load.h"

namespace toroid::launch {
namespace {

using Json = nlohmann::ordered_json;

struct DiffFlags {
  std::string a, b;
  std::vector<std::string> parts;
  bool tensors = false, all = false, read = false, json = false;
};

constexpr const char* kKinds[] = {"equal", "values", "shape", "only in A", "only in B"};

std::map<std::string, std::string> fields_of(const CheckpointReader& reader) {
  const config::Resolved resolved =
      config::load_text(reader.state().config, (reader.directory() / "manifest.json").string() + " (config)");
  std::map<std::string, std::string> fields;
  for (const config::NamedValue& value : config::values(resolved.run)) fields[value.path] = value.text;
  return fields;
}

// Field by field; as texts where one of them is of a program that had other fields.
std::vector<ValueDifference> compare_configs(const CheckpointReader& a, const CheckpointReader& b) {
  if (a.state().config == b.state().config) return {};
  std::map<std::string, std::string> left, right;
  try {
    left = fields_of(a);
    right = fields_of(b);
  } catch (const UserError& error) {
    return {{"config", "not compared by its fields: " + std::string(error.what()), std::nullopt}};
  }
  std::vector<ValueDifference> out;
  for (const auto& [name, value] : left) {
    const auto other = right.find(name);
    if (other == right.end()) {
      out.push_back({"config." + name, value, std::nullopt});
    } else if (other->second != value) {
      out.push_back({"config." + name, value, other->second});
    }
  }
  for (const auto& [name, value] : right) {
    if (!left.contains(name)) out.push_back({"config." + name, std::nullopt, value});
  }
  return out;
}

Json json_of(const TensorDifference& one) {
  Json json{{"name", one.name}, {"part", one.part}, {"difference", kKinds[static_cast<size_t>(one.kind)]}};
  for (const auto& [key, tensor] : {std::pair("a", &one.a), std::pair("b", &one.b)}) {
    if (*tensor) {
      json[key] = {{"dtype", element_type_name((*tensor)->type)},
                   {"shape", (*tensor)->shape},
                   {"hash", hex((*tensor)->hash)}};
    }
  }
  if (one.kind != Difference::values) return json;
  json["elements"] = one.a->elements;
  json["different"] = one.different;
  json["not_finite"] = one.not_finite;
  json["largest"] = {{"difference", one.largest},
                     {"index", one.index},
                     {"a", number_json(one.a_there)},
                     {"b", number_json(one.b_there)}};
  json["norm_a"] = number_json(one.norm_a);
  json["norm_b"] = number_json(one.norm_b);
  json["norm_difference"] = number_json(one.norm_difference);
  json["relative"] = number_json(one.relative());
  return json;
}

void print(const TensorDifference& one) {
  const std::string name = fmt::format("  {} ({})", printable(one.name), one.part);
  const auto kind_of = [](const CheckpointTensor& tensor) {
    return std::string(element_type_name(tensor.type)) + shape_text(tensor.shape);
  };
  switch (one.kind) {
    case Difference::none:
      return print_line(name + ": equal" +
                        (one.a->type == one.b->type ? ", hash " + hex(one.a->hash) : " as numbers"));
    case Difference::only_a:
      return print_line(name + ": only in A, " + kind_of(*one.a));
    case Difference::only_b:
      return print_line(name + ": only in B, " + kind_of(*one.b));
    case Difference::shape:
      return print_line(name + ": " + kind_of(*one.a) + " in A, " + kind_of(*one.b) + " in B");
    case Difference::values:
      break;
  }
  print_line(fmt::format("{}: {} of {} elements differ, most by {:.6g} at {}: {:.9g} and {:.9g}", name,
                         with_commas(one.different), with_commas(one.a->elements), one.largest, one.index,
                         one.a_there, one.b_there));
  print_line(fmt::format("    |A| {:.6g}  |B| {:.6g}  |A-B| {:.6g}  relative {:.3g}{}{}", one.norm_a,
                         one.norm_b, one.norm_difference, one.relative(),
                         one.not_finite > 0 ? "  not finite " + with_commas(one.not_finite) : "",
                         one.a->type == one.b->type
                             ? ""
                             : "  " + std::string(element_type_name(one.a->type)) + " and " +
                                   std::string(element_type_name(one.b->type))));
}

void print(const ValueDifference& one) {
  const auto text = [](const std::optional<std::string>& value) {
    return value ? printable(*value, 120) : "not there";
  };
  print_line(fmt::format("  {}: {} | {}", printable(one.name), text(one.a), text(one.b)));
}

std::string lineage_text(const CheckpointReader& reader) {
  const Lineage& lineage = reader.state().lineage;
  return fmt::format("{}: step {}, run {}", printable(reader.directory().string()), reader.state().step,
                     lineage.run.empty() ? "not named" : lineage.run);
}

ExitCode run(const DiffFlags& flags) {
  CheckpointReader a(newest_step(flags.a), Verify::headers), b(newest_step(flags.b), Verify::headers);
  std::vector<ValueDifference> values;
  if (!flags.tensors) {
    values = compare_states(a.state(), b.state());
    const auto fields = compare_configs(a, b);
    values.insert(values.end(), fields.begin(), fields.end());
  }
  const std::vector<TensorDifference> tensors = compare_tensors(a, b, flags.parts, flags.read);
  if (tensors.empty()) throw UserError("neither checkpoint has such a part; see toroid checkpoint show");
  const auto differ = std::count_if(tensors.begin(), tensors.end(),
                                    [](const TensorDifference& one) { return one.kind != Difference::none; });
  const bool equal = differ == 0 && values.empty();
  if (flags.json) {
    Json listed = Json::array(), state = Json::array();
    for (const TensorDifference& one : tensors) listed.push_back(json_of(one));
    for (const ValueDifference& one : values) {
      state.push_back({{"name", one.name},
                       {"a", one.a ? Json(*one.a) : Json(nullptr)},
                       {"b", one.b ? Json(*one.b) : Json(nullptr)}});
    }
    print_line(Json{{"equal", equal},
                    {"a", a.directory().string()},
                    {"b", b.directory().string()},
                    {"tensors_that_differ", differ},
                    {"state", std::move(state)},
                    {"tensors", std::move(listed)}}
                   .dump(1));
  } else {
    print_line("A " + lineage_text(a));
    print_line("B " + lineage_text(b));
    for (const ValueDifference& one : values) print(one);
    for (const TensorDifference& one : tensors) {
      if (flags.all || one.kind != Difference::none) print(one);
    }
    print_line(fmt::format("{} of {} tensors differ", differ, tensors.size()) +
               (flags.tensors ? "" : fmt::format(", and {} values of the state and config", values.size())));
  }
  return equal ? ExitCode::done : ExitCode::different;
}

}  // namespace

void add_checkpoint_diff(Verbs& verbs) {
  auto flags = std::make_shared<DiffFlags>();
  CLI::App& app = verbs.add("checkpoint diff",
                            "Compare two checkpoints, whatever their layouts; ends with 4 where they differ",
                            "Training", [flags] { return run(*flags); });
  app.add_option("A", flags->a, "A run (its newest checkpoint) or one checkpoints/step-N")->required();
  app.add_option("B", flags->b, "Another")->required();
  app.add_option("--part", flags->parts, "Only tensors of this part, such as master; may be repeated");
  app.add_flag("--tensors", flags->tensors, "Only tensors, not step, counters, scalars, texts and config");
  app.add_flag("--read", flags->read, "Read tensors of equal hashes too, so that damage in either is found");
  app.add_flag("--all", flags->all, "Print equal tensors too");
  app.add_flag("--json", flags->json, "For programs");
}

}  // namespace toroid::launch
