// For lists of declarations that a stand-in and the library both must satisfy.
#pragma once

#include <type_traits>

namespace toroid::testing::stand_in {

// The real calls may have a linkage's attributes, and are compared by what they take and return.
template <class Expected, class Declared>
constexpr bool same(Declared) {
  return std::is_same_v<Expected*, Declared>;
}

}  // namespace toroid::testing::stand_in

// That `name` is declared as a function of that type.
#define EXPECT_CALL(name, ...)                                                                           \
  static_assert(::toroid::testing::stand_in::same<__VA_ARGS__>(static_cast<decltype(&(name))>(nullptr)), \
                #name)
