#include "train/engine/cuda/gpu_choice.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cuda/gpus.h"

namespace toroid::train {
namespace {

std::string counted(size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string to_text(const SeenGpus& seen) {
  std::string out = std::to_string(seen.host);
  for (const std::string& bus : seen.buses) out += " " + bus;
  return out;
}

SeenGpus seen_from(const std::string& text) {
  SeenGpus out;
  std::istringstream in(text);
  in >> out.host;
  for (std::string bus; in >> bus;) out.buses.push_back(bus);
  return out;
}

}  // namespace

int gpu_of_rank(std::span<const SeenGpus> ranks, size_t rank) {
  std::map<int, size_t> on_host;                        // ranks, as they are counted
  std::map<std::pair<int, std::string>, size_t> taken;  // by whom
  int out = -1;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const SeenGpus& seen = ranks[r];
    const size_t place = on_host[seen.host]++, gpu = seen.buses.size() == 1 ? 0 : place;
    const std::string remedy = "; start one rank for each GPU of a host, and no more";
    if (gpu >= seen.buses.size()) {
      const auto there = std::count_if(ranks.begin(), ranks.end(),
                                       [&](const SeenGpus& other) { return other.host == seen.host; });
      throw UserError(counted(static_cast<size_t>(there), "rank") + " were started on the host of rank " +
                      std::to_string(seen.host) + ", which shows rank " + std::to_string(r) + " " +
                      counted(seen.buses.size(), "GPU") + remedy);
    }
    const auto [other, fresh] = taken.emplace(std::pair(seen.host, seen.buses[gpu]), r);
    if (!fresh) {
      throw UserError("ranks " + std::to_string(other->second) + " and " + std::to_string(r) +
                      " would share one GPU (" + printable(seen.buses[gpu]) + ")" + remedy);
    }
    if (r == rank) out = static_cast<int>(gpu);
  }
  require(out >= 0, "a rank is one of those that were asked");
  return out;
}

int choose_gpu(World& world) {
  const int count = cuda::require_gpus();
  if (world.size() == 1) return 0;
  SeenGpus mine;
  mine.host = world.host_ranks().front();
  for (int gpu = 0; gpu < count; ++gpu) {
    const std::string bus = cuda::bus_of(gpu);
    mine.buses.push_back(bus.empty() ? "unknown-" + std::to_string(gpu) : bus);
  }
  std::vector<SeenGpus> ranks;
  for (const std::string& text : world.exchange().texts(to_text(mine), "the ranks' GPUs"))
    ranks.push_back(seen_from(text));
  return gpu_of_rank(ranks, static_cast<size_t>(world.rank()));
}

void require_same_attention(World& world, const std::string& mine) {
  const std::vector<std::string> all = world.exchange().texts(mine, "kernels of attention");
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    throw UserError("attention of rank 0 goes by " + printable(all[0]) + ", and of rank " +
                    std::to_string(rank) + " by " + printable(all[rank]) +
                    "; install one version of cuDNN on all hosts, and take GPUs of one kind");
  }
}

}  // namespace toroid::train
