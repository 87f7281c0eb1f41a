#include "parallel/comm/mpi/mpi_side_channel.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "parallel/comm/mpi/mpi_transport.h"

namespace toroid::mpi {
namespace {

constexpr size_t kServers = 2;  // of a host: where one rank's process is stopped, the other's answers

// What a rank tells all others.
struct Introduction {
  uint32_t address = 0;
  uint32_t port = 0;  // 0: it does not serve
  std::array<char, 56> host{};
};

Introduction serve(MpiSideChannel& out, const Token& token, const Board& board, int rank,
                   const std::vector<int>& host_ranks) {
  Introduction introduction;
  (void)::gethostname(introduction.host.data(), introduction.host.size() - 1);
  const auto end = host_ranks.begin() + static_cast<ptrdiff_t>(std::min(kServers, host_ranks.size()));
  if (std::find(host_ranks.begin(), end, rank) == end) return introduction;
  const std::optional<uint32_t> address = address_for_peers();
  if (!address) {
    log::warn("rank {}: no network interface by which other hosts could ask for this one's ranks", rank);
    return introduction;
  }
  try {
    out.server = std::make_unique<BoardServer>(
        *address, static_cast<uint32_t>(host_ranks.front()), token,
        [board, host_ranks](int context) { return encode(take_snapshot(board, host_ranks, context)); });
    introduction.address = out.server->endpoint().address;
    introduction.port = out.server->endpoint().port;
  } catch (const SystemError& error) {
    log::warn("rank {}: other hosts cannot ask for this one's ranks: {}", rank, printable(error.what()));
  }
  return introduction;
}

}  // namespace

MpiSideChannel open_side_channel(const Board& board, int rank, const std::vector<int>& host_ranks,
                                 const std::vector<int>& hosts) {
  MpiSideChannel out;
  if (host_ranks.size() == hosts.size()) return out;
  Token token{};
  if (rank == 0) token = random_bytes();
  check(MPI_Bcast(token.data(), static_cast<int>(token.size()), MPI_BYTE, 0, MPI_COMM_WORLD), "token");
  const Introduction mine = serve(out, token, board, rank, host_ranks);
  std::vector<Introduction> introductions(hosts.size());
  check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, introductions.data(), sizeof mine, MPI_BYTE,
                      MPI_COMM_WORLD),
        "side channel");
  std::map<int, ServingHost> others;
  for (size_t i = 0; i < hosts.size(); ++i) {
    if (hosts[i] == host_ranks.front()) continue;
    ServingHost& host = others[hosts[i]];
    host.number = static_cast<uint32_t>(hosts[i]);
    host.name = introductions[i].host.data();
    host.ranks.push_back(static_cast<int>(i));
    if (introductions[i].port != 0)
      host.servers.push_back({introductions[i].address, static_cast<uint16_t>(introductions[i].port)});
  }
  std::vector<ServingHost> list;
  for (auto& [number, host] : others) list.push_back(std::move(host));
  out.others = std::make_shared<SideChannel>(token, std::move(list));
  return out;
}

}  // namespace toroid::mpi
