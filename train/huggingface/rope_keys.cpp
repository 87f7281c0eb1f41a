#include "train/huggingface/rope_keys.h"

#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/range.h"
#include "core/base/text.h"

namespace toroid::huggingface {
namespace {

// What is in effect for one kind of layer.
struct Effect {
  double theta = 0;
  double scale = 1;
};

// An object with at least one key; a missing, null or empty one says nothing.
std::optional<JsonView> object_at(const JsonView& owner, const char* key) {
  const auto found = owner.find(key);
  if (found && found->keys().empty()) return std::nullopt;
  return found;
}

// The first of `objects` that has the key decides, even where it is null there.
std::optional<JsonView> first_with(const std::vector<JsonView>& objects, const char* key) {
  for (const JsonView& object : objects) {
    if (!object.has(key)) continue;
    const JsonView value = object.at(key);
    if (value.is_null()) value.refuse("is null, with which transformers fails; leave the key out");
    return value;
  }
  return std::nullopt;
}

void expect_whole_heads(const JsonView& object) {
  const auto partial = object.find("partial_rotary_factor");
  if (partial && partial->as_number() != 1) partial->refuse("is not 1, but RoPE turns whole heads here");
}

// `objects` in the order in which their keys win. With `preset_type` the class has written a type of its own
// before it looked, so that the older name of the key has no effect.
Effect effect_of(const std::vector<JsonView>& objects, double theta, bool preset_type) {
  Effect effect{theta, 1};
  if (const auto stated = first_with(objects, "rope_theta")) effect.theta = stated->as_number();
  auto type = first_with(objects, "rope_type");
  if (!type && !preset_type) type = first_with(objects, "type");
  if (!type || type->as_string() == "default") return effect;
  if (type->as_string() != "linear") {
    type->refuse("is " + in_quotes(type->as_string()) + ", but only default and linear are implemented");
  }
  const auto factor = first_with(objects, "factor");
  if (!factor) type->refuse("is 'linear', but there is no factor beside it");
  effect.scale = factor->as_number();
  return effect;
}

[[noreturn]] void refuse_other(const JsonView& place, const std::string& says, const std::string& taken) {
  place.refuse("says " + says + ", but transformers takes " + taken +
               " from another key or its class; let all keys say the same");
}

void expect_theta(const JsonView& owner, const char* key, double theta) {
  const auto stated = owner.find(key);
  if (stated && stated->as_number() != theta)
    refuse_other(*stated, number(stated->as_number()), number(theta));
}

// Whatever an object says, whether it won or not, must be what is in effect.
void expect_effect(const JsonView& object, const Effect& effect) {
  expect_whole_heads(object);
  expect_theta(object, "rope_theta", effect.theta);
  const auto factor = object.find("factor");
  for (const char* key : {"rope_type", "type"}) {
    const auto type = object.find(key);
    if (!type) continue;
    const std::string name = type->as_string();
    if (name != "default" && name != "linear") {
      type->refuse("is " + in_quotes(name) + ", but only default and linear are implemented");
    }
    const double stated = name == "default" ? 1 : factor ? factor->as_number() : effect.scale;
    if (stated != effect.scale)
      refuse_other(*type, name + " by " + number(stated), "a factor of " + number(effect.scale));
  }
  if (factor && factor->as_number() != effect.scale)
    refuse_other(*factor, number(factor->as_number()), number(effect.scale));
}

// The default of the top level, where null is as good as missing only while nobody asks for it.
double top_theta(const JsonView& root, const char* key, double missing,
                 const std::vector<JsonView>& objects) {
  for (const JsonView& object : objects) {
    if (object.has("rope_theta")) return missing;
  }
  const auto stated = first_with({root}, key);
  return stated ? stated->as_number() : missing;
}

RopeKeys read_flat(const JsonView& root, Family family) {
  const auto scaling = object_at(root, "rope_scaling"), parameters = object_at(root, "rope_parameters");
  if (parameters) {
    for (const char* kind : {"full_attention", "sliding_attention"}) {
      if (parameters->has(kind)) {
        parameters->refuse("is nested by kind of layer, which transformers reads for gemma3_text only");
      }
    }
  }
  std::vector<JsonView> objects;
  if (scaling) {
    objects.push_back(*scaling);
  } else if (parameters) {
    objects.push_back(*parameters);
  }
  const double missing = defaults_of(family).rope_theta;
  const Effect effect = effect_of(objects, top_theta(root, "rope_theta", missing, objects), false);
  expect_theta(root, "rope_theta", effect.theta);
  if (scaling) expect_effect(*scaling, effect);
  if (parameters) expect_effect(*parameters, effect);
  return {.base = effect.theta, .local_base = effect.theta, .scale = effect.scale};
}

RopeKeys read_by_kind(const JsonView& root) {
  const auto scaling = object_at(root, "rope_scaling"), parameters = root.find("rope_parameters");
  std::optional<JsonView> full, sliding;
  if (parameters) {
    full = parameters->find("full_attention");
    sliding = parameters->find("sliding_attention");
  }
  if (root.find("rope_scaling") && parameters && !full) {
    parameters->refuse("has no full_attention, without which transformers cannot apply rope_scaling");
  }
  std::vector<JsonView> global, local;
  if (scaling) global.push_back(*scaling);
  if (full) global.push_back(*full);
  if (sliding) local.push_back(*sliding);
  const Effect everywhere =
      effect_of(global, top_theta(root, "rope_theta", kGemma3Text.rope_theta, global), !full);
  const Effect near = effect_of(
      local, top_theta(root, "rope_local_base_freq", kGemma3Text.rope_local_base_freq, local), !sliding);
  expect_theta(root, "rope_theta", everywhere.theta);
  expect_theta(root, "rope_local_base_freq", near.theta);
  if (scaling) expect_effect(*scaling, everywhere);
  // Flat keys have no effect here, so they may only repeat what is.
  if (parameters) expect_effect(*parameters, everywhere);
  if (full) expect_effect(*full, everywhere);
  if (sliding) expect_effect(*sliding, near);
  if (near.scale != 1) sliding->refuse("scales the positions of sliding layers, which is not implemented");
  return {.base = everywhere.theta, .local_base = near.theta, .scale = everywhere.scale};
}

}  // namespace

RopeKeys read_rope(const JsonView& root, Family family) {
  expect_whole_heads(root);
  return family == Family::gemma3 ? read_by_kind(root) : read_flat(root, family);
}

}  // namespace toroid::huggingface
