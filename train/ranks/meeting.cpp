#include "train/ranks/meeting.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "core/base/log.h"
#include "core/device/cpu/instruction_set.h"
#include "train/ranks/ranks.h"

namespace toroid::train {
namespace {

// "2 768"
std::string to_text(const cpu::Instructions& instructions) {
  return std::to_string(static_cast<int>(instructions.products)) + " " + std::to_string(instructions.vectors);
}

cpu::Instructions instructions_from(const std::string& text, size_t rank) {
  int products = -1;
  int64_t vectors = 0;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, products);
  const bool more = first.ec == std::errc() && first.ptr != end;
  if (!more || std::from_chars(first.ptr + 1, end, vectors).ptr != end || products < 0 ||
      products > static_cast<int>(cpu::Isa::amx)) {
    throw PeerError("rank " + std::to_string(rank) +
                    " says of its processor what this program does not know; start all ranks from one build");
  }
  return {static_cast<cpu::Isa>(products), vectors};
}

}  // namespace

Meeting::Meeting(std::unique_ptr<World> world, std::shared_ptr<cpu::TransferThread> transfers)
    : world_(std::move(world)), transfers_(std::move(transfers)) {
  if (world_->size() == 1) return;
  device_ = std::make_unique<CpuDevice>(std::make_shared<KernelRegistry>(), transfers_, world_->pages());
  std::vector<int> everybody(static_cast<size_t>(world_->size()));
  std::iota(everybody.begin(), everybody.end(), 0);
  all_ = world_->group(*device_, Queue::pod, "all", everybody, {1, world_->size()}, {});
}

std::vector<std::string> Meeting::exchange(const std::string& text, const std::string& what) {
  if (all_ == nullptr) return {text};
  return train::exchange(*device_, *all_, text, what);
}

void Meeting::first_alone(const std::string& what, const std::function<void()>& work) {
  if (all_ == nullptr) return work();
  first_rank_alone(*world_, *device_, *all_, what, work);
}

void Meeting::settle_instructions() {
  const cpu::Instructions mine = cpu::available_instructions();
  const std::vector<std::string> said = exchange(to_text(mine), "the ranks' processors");
  std::vector<cpu::Instructions> ranks;
  for (const std::string& text : said) ranks.push_back(instructions_from(text, ranks.size()));
  cpu::Instructions settled = ranks[0];
  size_t last = 0;  // the rank that took something away last
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    const cpu::Instructions both = common(settled, ranks[rank]);
    if (both != settled) last = rank;
    settled = both;
  }
  cpu::keep_to(settled);
  const bool unlike =
      std::any_of(ranks.begin(), ranks.end(), [&](const auto& rank) { return rank != settled; });
  if (!leads() || !unlike) return;
  const auto best = std::max_element(ranks.begin(), ranks.end(),
                                     [](const auto& a, const auto& b) { return a.products < b.products; });
  log::warn("the ranks' processors are unlike: all use {}, which is what rank {} has, though rank {} has {}",
            cpu::text(settled.products), last, best - ranks.begin(), cpu::text(best->products));
}

void Meeting::agree(const RunIdentity& mine) {
  if (all_ == nullptr) return;
  const std::string digest = mine.digest();
  bool alike = true;
  for (const std::string& theirs : exchange(digest, "what the ranks are")) alike = alike && theirs == digest;
  if (alike) return;
  std::vector<RunIdentity> all;
  for (const std::string& text : exchange(to_text(mine), "what the ranks are, in full")) {
    all.push_back(identity_from(text, "what rank " + std::to_string(all.size()) + " says of itself"));
  }
  const std::string found = disagreement(all);
  require(!found.empty(), "unlike digests are of unlike identities");
  all_.reset();
  device_.reset();
  throw RanksDisagree(found +
                          "; start all ranks with one program, config, data and checkpoint (threads, trace, "
                          "log, --out and the places of files may differ)",
                      std::move(world_));
}

Meeting::Parted Meeting::part() {
  all_.reset();
  device_.reset();
  return {std::move(world_), std::move(transfers_)};
}

Meeting meet_launched_ranks(Seconds deadline) {
  auto transfers = launched_ranks() > 1 ? std::make_shared<cpu::TransferThread>() : nullptr;
  auto world = make_world(transfers, deadline);
  return {std::move(world), std::move(transfers)};
}

}  // namespace toroid::train
