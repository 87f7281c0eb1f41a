// The activations there are. One more is a header of this folder, a line here, and an enum value of its kName
// in core/model/model.proto.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "core/op/activation/gelu.h"
#include "core/op/activation/gelu_tanh.h"
#include "core/op/activation/quick_gelu.h"
#include "core/op/activation/relu.h"
#include "core/op/activation/relu2.h"
#include "core/op/activation/silu.h"

namespace toroid::op {

namespace activation {

template <class... A>
struct List {
  static constexpr size_t kSize = sizeof...(A);
};

using All = List<  //
    GeluTanh,      //
    Silu,          //
    Relu,          //
    Gelu,          //
    Relu2,         //
    QuickGelu>;

}  // namespace activation

// One of them: its place in the list.
enum class Activation : uint8_t {};

namespace activation {

struct Description {
  std::string_view name;  // as model.proto has it
  // What Hugging Face calls it, first the name that is written; empty: it has none there.
  std::span<const std::string_view> hugging_face;
  Point<double> (*at)(double z);
};

template <class... A>
constexpr std::array<Description, sizeof...(A)> describe_all(List<A...>) {
  return {Description{A::kName, A::kHuggingFace, &A::template at<double>}...};
}
inline constexpr std::array<Description, All::kSize> kDescriptions = describe_all(All());

template <class Wanted, class... A>
constexpr Activation place_in(List<A...>) {
  static_assert((std::is_same_v<Wanted, A> || ...), "the activation has no line in activation::All");
  uint8_t place = 0;
  static_cast<void>(((std::is_same_v<Wanted, A> || (++place, false)) || ...));
  return Activation{place};
}

}  // namespace activation

// activation_of<activation::Silu>
template <class A>
inline constexpr Activation activation_of = activation::place_in<A>(activation::All());

constexpr const activation::Description& description_of(Activation one) {
  return activation::kDescriptions.at(static_cast<size_t>(one));
}

// Every one, in the order of the list.
constexpr std::array<Activation, activation::All::kSize> all_activations() {
  std::array<Activation, activation::All::kSize> all{};
  for (size_t i = 0; i < all.size(); ++i) all[i] = Activation{static_cast<uint8_t>(i)};
  return all;
}

}  // namespace toroid::op
