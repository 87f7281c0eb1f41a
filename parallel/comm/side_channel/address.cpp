#include "parallel/comm/side_channel/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

namespace toroid {
namespace {

// "eth0" or "10.0.0.0/8".
bool matches(const Interface& interface, std::string_view entry) {
  const size_t slash = entry.find('/');
  if (slash == std::string_view::npos) return entry == interface.name;
  in_addr network{};
  int bits = -1;
  const std::string_view count = entry.substr(slash + 1);
  const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), bits);
  if (error != std::errc{} || end != count.data() + count.size() || bits < 0 || bits > 32) return false;
  if (::inet_pton(AF_INET, std::string(entry.substr(0, slash)).c_str(), &network) != 1) return false;
  const uint32_t mask = bits == 0 ? 0 : ~uint32_t{0} << (32 - bits);
  return (interface.address & mask) == (::ntohl(network.s_addr) & mask);
}

std::vector<std::string_view> entries(std::string_view list) {
  std::vector<std::string_view> out;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (comma > 0) out.push_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return out;
}

bool is_loopback(uint32_t address) {
  return address >> 24 == 127;
}

std::vector<Interface> interfaces_that_are_up() {
  std::vector<Interface> out;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return out;
  for (const ifaddrs* at = first; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_UP) == 0)
      continue;
    const auto* const address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
    out.push_back({at->ifa_name, ::ntohl(address->sin_addr.s_addr)});
  }
  ::freeifaddrs(first);
  return out;
}

std::optional<uint32_t> address_of_own_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return std::nullopt;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  if (::getaddrinfo(name.data(), nullptr, &hints, &found) != 0 || found == nullptr) return std::nullopt;
  const uint32_t address = ::ntohl(reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_addr.s_addr);
  ::freeaddrinfo(found);
  return address;
}

std::string_view variable(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

}  // namespace

std::string Endpoint::text() const {
  in_addr number{};
  number.s_addr = ::htonl(address);
  std::array<char, INET_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET, &number, text.data(), text.size());
  return std::string(text.data()) + ":" + std::to_string(port);
}

std::optional<uint32_t> choose_address(const std::vector<Interface>& interfaces, std::string_view include,
                                       std::string_view exclude, std::optional<uint32_t> resolved) {
  for (const std::string_view entry : entries(include)) {
    for (const Interface& interface : interfaces) {
      if (matches(interface, entry)) return interface.address;
    }
  }
  if (!include.empty()) return std::nullopt;
  const auto serves = [&](const Interface& interface) {
    const auto excluded = entries(exclude);
    return !is_loopback(interface.address) &&
           std::none_of(excluded.begin(), excluded.end(),
                        [&](std::string_view entry) { return matches(interface, entry); });
  };
  std::optional<uint32_t> first;
  for (const Interface& interface : interfaces) {
    if (!serves(interface)) continue;
    if (interface.address == resolved) return interface.address;
    if (!first) first = interface.address;
  }
  return first;
}

std::optional<uint32_t> address_for_peers() {
  return choose_address(interfaces_that_are_up(), variable("OMPI_MCA_btl_tcp_if_include"),
                        variable("OMPI_MCA_btl_tcp_if_exclude"), address_of_own_name());
}

}  // namespace toroid
