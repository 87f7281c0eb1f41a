#include "parallel/comm/choice.h"

namespace toroid {

std::vector<Method> all_methods() {
  std::vector<Method> methods{Method::By::read, Method::By::relay, Method::By::hierarchical,
                              Method::By::library};
  for (const schedule::Algorithm algorithm : schedule::all_algorithms()) methods.emplace_back(algorithm);
  return methods;
}

std::string_view name(const Method& method) {
  switch (method.by) {
    case Method::By::messages:
      return schedule::name(method.algorithm);
    case Method::By::read:
      return "read";
    case Method::By::relay:
      return "relay";
    case Method::By::hierarchical:
      return "hierarchical";
    case Method::By::library:
      return "library";
  }
  return "";
}

std::optional<Method> method_named(std::string_view text) {
  for (const Method& method : all_methods()) {
    if (text == name(method)) return method;
  }
  return std::nullopt;
}

const Choice* choose(const std::vector<Choice>& table, schedule::Operation operation, int ranks,
                     int ranks_per_host, int64_t bytes) {
  const Choice* found = nullptr;
  for (const Choice& row : table) {
    if (row.operation != operation || row.ranks != ranks || row.ranks_per_host != ranks_per_host) continue;
    const bool serves = row.up_to_bytes >= bytes;
    const bool better =
        found == nullptr || (serves ? found->up_to_bytes < bytes || row.up_to_bytes < found->up_to_bytes
                                    : found->up_to_bytes < bytes && row.up_to_bytes > found->up_to_bytes);
    if (better) found = &row;
  }
  return found;
}

}  // namespace toroid
