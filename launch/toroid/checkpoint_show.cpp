// toroid checkpoint show: what a checkpoint holds.
#include <fmt/core.h>
#include <fnmatch.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/range.h"
#include "core/base/text.h"
#include "launch/toroid/checkpoint_json.h"
#include "launch/toroid/verb.h"
#include "train/checkpoint/elements.h"
#include "train/checkpoint/inventory.h"

namespace toroid::launch {
namespace {

using Json = nlohmann::ordered_json;

struct ShowFlags {
  std::string path;
  std::vector<std::string> tensors, parts;
  int64_t values = 0;
  bool stats = false, config = false, json = false;
};

struct PartTotal {
  std::set<std::string> types;
  int64_t tensors = 0, elements = 0, bytes = 0;
};

class Show {
 public:
  explicit Show(const ShowFlags& flags)
      : flags_(flags),
        step_(list_step(newest_step(flags.path), {.depth = Depth::lengths})),
        reader_(step_.check.directory, Verify::headers) {
    check_range("--values", flags.values, int64_t{0}, int64_t{1'000'000});
    for (const CheckpointTensor& tensor : reader_.tensors()) {
      PartTotal& total = parts_[tensor.part];
      total.types.emplace(element_type_name(tensor.type));
      ++total.tensors;
      total.elements += tensor.elements;
      total.bytes += tensor.elements * element_bytes(tensor.type);
      if (wanted(tensor)) shown_.push_back(&tensor);
    }
    check_names();
  }

  void print() {
    print_state();
    print_line(
        fmt::format("\n  {:<20} {:<8} {:>8} {:>18} {:>10}", "part", "type", "tensors", "elements", "bytes"));
    for (const auto& [part, total] : parts_) {
      std::string types;
      for (const std::string& type : total.types) types += (types.empty() ? "" : " ") + type;
      print_line(fmt::format("  {:<20} {:<8} {:>8} {:>18} {:>10}", part, types, total.tensors,
                             with_commas(total.elements), human_bytes(total.bytes)));
    }
    print_line("");
    for (const CheckpointTensor* tensor : shown_) print(*tensor);
    if (flags_.config) print_line("\n" + printable_lines(reader_.state().config));
  }

  void print_json() {
    const CheckpointState& state = reader_.state();
    Json skipped = Json::array(), tensors = Json::array(), scalars = Json::object();
    for (const SequenceRange& range : state.skipped) skipped.push_back({range.first, range.last});
    for (const auto& [name, value] : state.scalars) scalars[name] = number_json(value);
    for (const CheckpointTensor* tensor : shown_) tensors.push_back(json_of(*tensor));
    Json json{{"directory", reader_.directory().string()},
              {"step", state.step},
              {"saved", time_text(step_.saved)},
              {"world_size", step_.check.manifest->world_size},
              {"bytes", step_.check.bytes},
              {"run", state.lineage.run},
              {"seal", reader_.id().seal},
              {"parent", nullptr},
              {"next_sequence", state.next_sequence},
              {"skipped", std::move(skipped)},
              {"counters", state.counters},
              {"scalars", std::move(scalars)},
              {"texts", state.texts},
              {"tensors", std::move(tensors)}};
    if (const auto& parent = state.lineage.parent) {
      json["parent"] = {{"step", parent->step}, {"seal", parent->seal}};
    }
    if (flags_.config) json["config"] = state.config;
    print_line(json.dump(1));
  }

 private:
  static bool matches(const std::string& pattern, const std::string& name) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  }

  // The weights, where nothing else is asked for.
  bool wanted(const CheckpointTensor& tensor) const {
    const auto& parts = flags_.parts;
    const auto& names = flags_.tensors;
    if (parts.empty() && names.empty()) return tensor.part == "master";
    const bool part = parts.empty() || std::find(parts.begin(), parts.end(), tensor.part) != parts.end();
    return part && (names.empty() || std::any_of(names.begin(), names.end(), [&](const std::string& pattern) {
                      return matches(pattern, tensor.name);
                    }));
  }

  void check_names() const {
    std::vector<std::string> known, parts;
    for (const CheckpointTensor& tensor : reader_.tensors()) known.push_back(tensor.name);
    for (const auto& [part, total] : parts_) parts.push_back(part);
    const auto refuse = [&](const char* what, const std::string& asked,
                            const std::vector<std::string>& names) {
      const std::string near = did_you_mean(asked, names);
      throw UserError(in_quotes(reader_.directory().string()) + " has no " + what + " " + in_quotes(asked) +
                      (near.empty() ? "" : "; did you mean " + near + "?"));
    };
    for (const std::string& pattern : flags_.tensors) {
      if (std::none_of(known.begin(), known.end(),
                       [&](const std::string& name) { return matches(pattern, name); })) {
        refuse("tensor", pattern, known);
      }
    }
    for (const std::string& part : flags_.parts) {
      if (!parts_.contains(part)) refuse("part", part, parts);
    }
  }

  void print_state() const {
    const CheckpointState& state = reader_.state();
    const Lineage& lineage = state.lineage;
    print_line(printable(reader_.directory().string()));
    print_line(fmt::format("  step {}, saved {}: {} in {} files of {} ranks", state.step,
                           time_text(step_.saved), human_bytes(step_.check.bytes),
                           step_.check.manifest->files.size(), step_.check.manifest->world_size));
    print_line("  run " + (lineage.run.empty() ? "not named" : lineage.run) + ", seal " + reader_.id().seal);
    print_line("  parent " + (lineage.parent ? "step " + std::to_string(lineage.parent->step) + ", seal " +
                                                   lineage.parent->seal
                                             : "none"));
    std::string skipped;
    for (const SequenceRange& range : state.skipped) {
      skipped += fmt::format(" [{}, {})", range.first, range.last);
    }
    print_line(fmt::format("  next sequence {}, skipped{}", state.next_sequence,
                           skipped.empty() ? " none" : skipped));
    const auto list = [](const char* what, const auto& values, const auto& text) {
      std::string line;
      for (const auto& [name, value] : values) {
        line += (line.empty() ? "" : ", ") + printable(name) + " " + text(value);
      }
      if (!line.empty()) print_line(std::string("  ") + what + ": " + line);
    };
    list("counters", state.counters, [](int64_t value) { return std::to_string(value); });
    list("scalars", state.scalars, [](double value) { return number(value); });
    list("texts", state.texts, [](const std::string& value) { return printable(value, 40); });
  }

  void print(const CheckpointTensor& tensor) {
    print_line(fmt::format("  {} ({}) {} {} hash {}", printable(tensor.name), tensor.part,
                           element_type_name(tensor.type), shape_text(tensor.shape), hex(tensor.hash)));
    if (!flags_.tensors.empty()) {
      for (const StoredSlice& slice : slices_of(tensor)) {
        print_line(fmt::format("    elements {} to {} in {} (rank {})", slice.offset,
                               slice.offset + slice.elements, printable(slice.file), slice.rank));
      }
    }
    if (flags_.stats && is_number(tensor.type)) {
      const ElementStatistics of = statistics_of(reader_, tensor);
      print_line(fmt::format(
          "    min {:.6g}  max {:.6g}  mean {:.6g}  std {:.6g}  rms {:.6g}  zeros {}  not finite {}",
          of.least, of.most, of.mean, of.deviation, of.rms, with_commas(of.zeros),
          with_commas(of.not_finite)));
    }
    if (flags_.values > 0 && is_number(tensor.type)) {
      std::string line;
      for (const float value : first_values(tensor)) line += fmt::format(" {:.9g}", value);
      print_line("   " + line);
    }
  }

  Json json_of(const CheckpointTensor& tensor) {
    Json json{{"name", tensor.name},   {"part", tensor.part},      {"dtype", element_type_name(tensor.type)},
              {"shape", tensor.shape}, {"hash", hex(tensor.hash)}, {"slices", Json::array()}};
    for (const StoredSlice& slice : slices_of(tensor)) {
      json["slices"].push_back({{"file", slice.file},
                                {"rank", slice.rank},
                                {"offset", slice.offset},
                                {"elements", slice.elements}});
    }
    if (flags_.stats && is_number(tensor.type)) {
      const ElementStatistics of = statistics_of(reader_, tensor);
      json["statistics"] = {{"min", of.least},
                            {"max", of.most},
                            {"mean", of.mean},
                            {"std", of.deviation},
                            {"rms", of.rms},
                            {"zeros", of.zeros},
                            {"not_finite", of.not_finite}};
    }
    if (flags_.values > 0 && is_number(tensor.type)) {
      json["values"] = Json::array();
      for (const float value : first_values(tensor)) {
        json["values"].push_back(number_json(static_cast<double>(value)));
      }
    }
    return json;
  }

  std::vector<float> first_values(const CheckpointTensor& tensor) {
    // A reader of their own: a hash is kept of what is read in all, each element once.
    CheckpointReader reader(reader_.directory(), Verify::headers);
    std::vector<float> values(static_cast<size_t>(std::min(flags_.values, tensor.elements)));
    read_elements(reader, tensor, 0, values);
    return values;
  }

  const std::vector<StoredSlice>& slices_of(const CheckpointTensor& tensor) const {
    return step_.check.slices.at({tensor.part, tensor.name});
  }

  const ShowFlags& flags_;
  ListedStep step_;
  CheckpointReader reader_;
  std::map<std::string, PartTotal> parts_;
  std::vector<const CheckpointTensor*> shown_;
};

ExitCode run(const ShowFlags& flags) {
  Show show(flags);
  if (flags.json) {
    show.print_json();
  } else {
    show.print();
  }
  return ExitCode::done;
}

}  // namespace

void add_checkpoint_show(Verbs& verbs) {
  auto flags = std::make_shared<ShowFlags>();
  CLI::App& app = verbs.add("checkpoint show", "Print a checkpoint's state and tensors", "Training",
                            [flags] { return run(*flags); });
  app.add_option("RUN", flags->path, "A run (its newest checkpoint) or one checkpoints/step-N")->required();
  app.add_option("TENSOR", flags->tensors,
                 "Names or patterns such as '*.norm.weight': of all parts, with their slices; the weights "
                 "where none is given");
  app.add_option("--part", flags->parts, "Only of this part, such as master or exp_avg; may be repeated");
  app.add_flag("--stats", flags->stats, "Read the tensors: least, most, mean, deviation, zeros, not finite");
  app.add_option("--values", flags->values, "Print the first so many elements");
  app.add_flag("--config", flags->config, "Print the config that the step was saved with");
  app.add_flag("--json", flags->json, "For programs");
}

}  // namespace toroid::launch
