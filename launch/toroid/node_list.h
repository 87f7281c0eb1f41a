// Slurm's lists of nodes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace toroid::launch {

// "gpu[01-03,7],login" as gpu01 gpu02 gpu03 gpu7 login; nothing where it is no such list, or one of more than
// 100,000 nodes.
std::optional<std::vector<std::string>> expand_node_list(std::string_view list);

// The first host of `hosts` ("a:2,b:2") that is not in `nodes`, by names without domains; empty: all are.
std::string first_host_not_in(std::string_view hosts, const std::vector<std::string>& nodes);

}  // namespace toroid::launch
