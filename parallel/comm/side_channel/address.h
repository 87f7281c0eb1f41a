// Where a host can be reached by the others: IPv4, as MPI's messages over TCP.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

struct Endpoint {
  uint32_t address = 0;  // in the host's order of bytes: 127.0.0.1 is 0x7f000001
  uint16_t port = 0;     // 0: nobody listens
  std::string text() const;
};

struct Interface {
  std::string name;
  uint32_t address = 0;
};

// The first of `interfaces` that `include` names, as OpenMPI's btl_tcp_if_include does ("eth0,10.0.0.0/8").
// Where that is empty: `resolved`, the address of the host's own name, if an interface has it that is neither
// loopback nor named by `exclude`; else the first such interface.
std::optional<uint32_t> choose_address(const std::vector<Interface>& interfaces, std::string_view include,
                                       std::string_view exclude, std::optional<uint32_t> resolved);

// Where peers reach this host, by its interfaces, its name and OpenMPI's environment variables.
std::optional<uint32_t> address_for_peers();

}  // namespace toroid
