// What an action that is to fail says.
#pragma once

#include <functional>
#include <string>

namespace toroid::testing {

// "accepted" where it does not fail; another kind of failure passes through.
template <class Failure>
std::string failure_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Failure& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace toroid::testing
