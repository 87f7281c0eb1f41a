// What a run is: named parts that all of its ranks have alike before the first step, and that a checkpoint
// keeps for whoever goes on with it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/cpu/bf16_products.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid::train {

struct RunIdentity {
  struct Part {
    std::string name, value;
    bool operator==(const Part&) const = default;
  };
  std::vector<Part> parts;  // the config's values first, each name once

  void add(std::string name, std::string value) { parts.push_back({std::move(name), std::move(value)}); }
  const std::string* find(std::string_view name) const;
  // 32 hexadecimal digits over all parts and their order.
  std::string digest() const;
};

// A part that two identities do not have alike; nothing: one of them lacks it.
struct Difference {
  std::string name;
  std::optional<std::string> before, after;
};
// In the order of `before`, then what `after` alone has.
std::vector<Difference> differences(const RunIdentity& before, const RunIdentity& after);

// The config's values that all ranks share (config::may_differ() says which are not), and the program.
// Whoever calls adds what else the run depends on.
RunIdentity identity_of(const config::RunConfig& run);
// The program and its file, which ranks of one version that were built from other sources have not alike.
void add_program(RunIdentity& identity);
// What follows from the processor, once the ranks have settled on instructions and how they multiply bf16.
void add_processor(RunIdentity& identity, Bf16Products products);
// The tokenizer and every source's tokens, as they were prepared.
void add_data(RunIdentity& identity, const config::DataConfig& data);

// The first is of a checkpoint's weights, wherever and in however many files they lie; the second of one step
// with all it holds.
std::string weights_hash(const CheckpointReader& checkpoint);
std::string step_hash(const CheckpointReader& checkpoint);

// Between ranks.
std::string to_text(const RunIdentity& identity);
RunIdentity identity_from(std::string_view text, const std::string& origin);
// One sentence on the first rank whose identity is not the first one's; empty where all are alike.
std::string disagreement(const std::vector<RunIdentity>& ranks);

// What a checkpoint keeps besides its config: the digest and every part that is not of the config.
void store(const RunIdentity& identity, std::map<std::string, std::string>& texts);
// One line for each part that is not the checkpoint's: "optim.adamw.beta1 was 0.9 and is 0.95".
struct Changes {
  std::vector<std::string> of_weights;  // what decides them
  std::vector<std::string> of_machine;  // program and processor, which a run may change
};
// `before`: the checkpoint's config, as this program reads it, so that a field that came later has its
// default. Of a checkpoint without an identity, which older programs wrote, the config alone is compared.
Changes changes_since(const CheckpointState& saved, const config::RunConfig& before, const RunIdentity& now);

}  // namespace toroid::train
