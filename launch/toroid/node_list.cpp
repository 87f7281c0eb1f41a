#include "launch/toroid/node_list.h"

#include <algorithm>
#include <charconv>

namespace toroid::launch {
namespace {

constexpr size_t kMostNodes = 100'000;

using Names = std::vector<std::string>;

// "01-03" or "7" as their numbers, as wide as they are written.
bool add_numbers(std::string_view range, Names& out) {
  const size_t dash = range.find('-');
  const std::string_view first = range.substr(0, dash);
  const std::string_view last = dash == std::string_view::npos ? first : range.substr(dash + 1);
  const auto number = [](std::string_view text, size_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return !text.empty() && error == std::errc() && end == text.data() + text.size();
  };
  size_t from = 0, to = 0;
  if (!number(first, from) || !number(last, to) || from > to || to - from >= kMostNodes) return false;
  for (size_t i = from; i <= to; ++i) {
    std::string text = std::to_string(i);
    if (text.size() < first.size()) text.insert(0, first.size() - text.size(), '0');
    out.push_back(std::move(text));
  }
  return true;
}

// One name, which may have several lists in brackets: each multiplies what came before.
bool add_names(std::string_view text, Names& out) {
  Names names{""};
  while (!text.empty()) {
    const size_t open = text.find('[');
    for (std::string& name : names) name += text.substr(0, open);
    if (open == std::string_view::npos) break;
    const size_t close = text.find(']', open);
    if (close == std::string_view::npos) return false;
    std::string_view list = text.substr(open + 1, close - open - 1);
    Names numbers;
    for (bool more = true; more;) {
      const size_t comma = list.find(',');
      if (!add_numbers(list.substr(0, comma), numbers)) return false;
      more = comma != std::string_view::npos;
      if (more) list.remove_prefix(comma + 1);
    }
    if (names.size() * numbers.size() > kMostNodes) return false;
    Names longer;
    for (const std::string& name : names) {
      for (const std::string& each : numbers) longer.push_back(name + each);
    }
    names = std::move(longer);
    text.remove_prefix(close + 1);
  }
  if (out.size() + names.size() > kMostNodes) return false;
  out.insert(out.end(), names.begin(), names.end());
  return true;
}

}  // namespace

std::optional<Names> expand_node_list(std::string_view list) {
  Names out;
  while (!list.empty()) {
    size_t end = 0;
    for (bool inside = false; end < list.size() && (inside || list[end] != ','); ++end) {
      if (list[end] == '[') inside = true;
      if (list[end] == ']') inside = false;
    }
    if (end == 0 || !add_names(list.substr(0, end), out)) return std::nullopt;
    list.remove_prefix(std::min(list.size(), end + 1));
  }
  return out;
}

std::string first_host_not_in(std::string_view hosts, const std::vector<std::string>& nodes) {
  const auto is_address = [](std::string_view host) {
    return host.find_first_not_of("0123456789.") == std::string_view::npos;
  };
  const auto without_domain = [](std::string_view host) { return host.substr(0, host.find('.')); };
  while (!hosts.empty()) {
    const size_t comma = hosts.find(',');
    const std::string host(hosts.substr(0, std::min(comma, hosts.find(':'))));
    const bool known =
        is_address(host) || std::any_of(nodes.begin(), nodes.end(), [&](const std::string& node) {
          return without_domain(node) == without_domain(host);
        });
    if (!known) return host;
    if (comma == std::string_view::npos) break;
    hosts.remove_prefix(comma + 1);
  }
  return "";
}

}  // namespace toroid::launch
