#include "parallel/comm/watch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <map>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

enum class ProcessState : uint8_t { running, stopped, gone };

ProcessState state_of(int process) {
  if (::kill(process, 0) != 0 && errno == ESRCH) return ProcessState::gone;
  // "pid (name) state ...", where the name may hold anything.
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t end = text.rfind(')');
  if (end == std::string::npos || end + 2 >= text.size()) return ProcessState::running;
  switch (text[end + 2]) {
    case 'T':
    case 't':
      return ProcessState::stopped;
    case 'Z':
    case 'X':
      return ProcessState::gone;
    default:
      return ProcessState::running;
  }
}

std::string_view name_of_phase(Phase phase) {
  constexpr std::array<std::string_view, 5> kNames{"forward", "recompute", "backward", "optimizer", "setup"};
  const auto index = static_cast<size_t>(phase);
  return index < kNames.size() ? kNames[index] : "unknown phase";
}

std::string text_of(const std::string& operation, const std::string& tensor, int64_t bytes) {
  return operation + (tensor.empty() ? "" : " of " + in_quotes(tensor)) + " (" + with_commas(bytes) +
         " bytes)";
}

// What is compared between ranks.
struct Same {
  std::string operation, tensor;
  int64_t bytes = 0;
  auto operator<=>(const Same&) const = default;
};

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

// As the board keeps it: longer names are cut there.
Same same(const Published& call) {
  return {call.operation, call.tensor, call.bytes};
}

constexpr size_t kOperationKept = 24, kTensorKept = 72;

}  // namespace

bool GroupMembers::on_one_host() const {
  return std::none_of(slots.begin(), slots.end(), [](int slot) { return slot < 0; });
}

Watch::Watch(Board* board, int world_rank, int slot, Seconds deadline)
    : board_(board), rank_(world_rank), slot_(slot), deadline_(deadline) {}

Seconds Watch::patience(Seconds deadline) {
  return std::min(Seconds(1), 0.5 * deadline);
}

Seconds Watch::interval() const {
  // Looking at a peer costs system calls, and hundreds of ranks on one host all look.
  const double ranks = board_ == nullptr ? 1 : board_->ranks();
  return Seconds(std::min(std::max(0.05, 0.004 * ranks), 0.25 * deadline_.count()));
}

void Watch::publish(const Call& call, bool done) {
  if (board_ == nullptr || call.sequence == 0) return;
  Published entry;
  entry.sequence = call.sequence;
  entry.bytes = call.note->bytes;
  entry.phase = call.note->phase;
  entry.done = done;
  entry.operation = call.note->operation;
  entry.tensor = call.note->tensor;
  board_->publish(slot_, call.group->context, entry);
}

bool Watch::arrive(const Call& call) {
  publish(call, false);
  return compare(call).text.empty();
}

void Watch::finish(const Call& call) {
  publish(call, true);
}

void Watch::check(const Call& call, Seconds waited) {
  const Mismatch mismatch = compare(call);
  if (!mismatch.text.empty() && (mismatch.all_known || waited > patience(deadline()))) {
    throw PeerError(mismatch.text);
  }
  find_lost(call);
  if (waited > deadline()) expired(call, waited);
}

// Every rank of the group makes the same calls in the same order: what the peers said of this one is
// compared.
Watch::Mismatch Watch::compare(const Call& call) const {
  Mismatch mismatch;
  if (board_ == nullptr || call.sequence == 0) return mismatch;
  std::map<Same, std::vector<int>> said;
  const Same mine{call.note->operation.substr(0, kOperationKept), call.note->tensor.substr(0, kTensorKept),
                  call.note->bytes};
  said[mine].push_back(rank_);
  for (int place = 0; place < call.group->size(); ++place) {
    const int slot = call.group->slots[static_cast<size_t>(place)];
    if (slot < 0 || slot == slot_) continue;
    const auto published = board_->find(slot, call.group->context, call.sequence);
    if (published) {
      said[same(*published)].push_back(call.group->ranks[static_cast<size_t>(place)]);
    } else if (board_->last_sequence(slot, call.group->context) < call.sequence) {
      mismatch.all_known = false;
    }
  }
  if (said.size() == 1) return mismatch;
  // The fewest are named first: with more than two ranks they are the ones that went astray.
  std::vector<std::pair<Same, std::vector<int>>> order(said.begin(), said.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  std::string& message = mismatch.text;
  message = "mismatched collectives on axis " + call.note->axis + ", sequence number " +
            std::to_string(call.sequence) + ": ";
  for (size_t i = 0; i < order.size(); ++i) {
    auto ranks = order[i].second;
    std::sort(ranks.begin(), ranks.end());
    message += (i == 0   ? ""
                : i == 1 ? " where "
                         : ", ") +
               list_of(ranks) + " issued " +
               text_of(order[i].first.operation, order[i].first.tensor, order[i].first.bytes);
  }
  return mismatch;
}

std::string Watch::who(const GroupMembers& group, int place) const {
  const int slot = group.slots[static_cast<size_t>(place)];
  std::string text = "rank " + std::to_string(group.ranks[static_cast<size_t>(place)]);
  const std::string coordinate = board_ == nullptr || slot < 0 ? "" : board_->coordinate(slot);
  return coordinate.empty() ? text : text + " (" + printable(coordinate) + ")";
}

void Watch::find_lost(const Call& call) const {
  if (board_ == nullptr) return;
  for (int place = 0; place < call.group->size(); ++place) {
    const int slot = call.group->slots[static_cast<size_t>(place)];
    if (slot < 0 || slot == slot_) continue;
    const int process = board_->process(slot);
    if (process == 0 || process == ::getpid() || state_of(process) != ProcessState::gone) continue;
    throw PeerError(who(*call.group, place) + " is gone (its process " + std::to_string(process) +
                    " has ended); " + who(*call.group, call.group->place) + " waited for it in " +
                    text_of(call.note->operation, call.note->tensor, call.note->bytes) + " on axis " +
                    call.note->axis + ", sequence number " + std::to_string(call.sequence));
  }
}

// The peers that have not begun the call, each with the last that is known of it.
std::string Watch::missing(const Call& call) const {
  std::string text;
  for (int place = 0; place < call.group->size(); ++place) {
    if (place == call.group->place) continue;
    const int slot = call.group->slots[static_cast<size_t>(place)];
    std::string last = "on another host";
    if (board_ != nullptr && slot >= 0) {
      const uint64_t sequence = board_->last_sequence(slot, call.group->context);
      if (call.sequence == 0 || sequence >= call.sequence) continue;
      const int process = board_->process(slot);
      const ProcessState state = process == 0 ? ProcessState::gone : state_of(process);
      last = state == ProcessState::stopped ? "stopped by a signal; " : "";
      if (state == ProcessState::gone) last = process == 0 ? "has left; " : "has ended; ";
      const auto known = board_->find(slot, call.group->context, sequence);
      last += sequence == 0 ? "has made no call here yet"
                            : std::string(known && known->done ? "has done" : "is in") + " call " +
                                  std::to_string(sequence);
      if (sequence != 0 && known) last += ", " + text_of(known->operation, known->tensor, known->bytes);
    }
    text += (text.empty() ? "" : "; ") + who(*call.group, place) + " [" + last + "]";
  }
  return text;
}

// Ranks of this host, in any group, whose process does not run: the wait may only be the end of a chain.
std::string Watch::halted() const {
  std::string text;
  if (board_ == nullptr) return text;
  for (int slot = 0; slot < board_->ranks(); ++slot) {
    const int process = board_->process(slot);
    if (process == 0 || process == ::getpid()) continue;
    const ProcessState state = state_of(process);
    if (state == ProcessState::running) continue;
    const std::string coordinate = board_->coordinate(slot);
    text += (text.empty() ? "" : "; ") + std::string("process ") + std::to_string(process) +
            (coordinate.empty() ? "" : " (" + printable(coordinate) + ")") +
            (state == ProcessState::stopped ? " is stopped by a signal" : " has ended");
  }
  return text;
}

void Watch::expired(const Call& call, Seconds waited) const {
  std::array<char, 32> seconds{};
  std::snprintf(seconds.data(), seconds.size(), "%.1f s", waited.count());
  std::string message = "a deadline expired: " + who(*call.group, call.group->place) + " has waited " +
                        seconds.data() + " in " +
                        text_of(call.note->operation, call.note->tensor, call.note->bytes) + " on axis " +
                        call.note->axis + ", sequence number " + std::to_string(call.sequence) + ", " +
                        std::string(name_of_phase(call.note->phase));
  const std::string late = missing(call);
  message += late.empty() ? "; every peer has begun it" : "; not arrived: " + late;
  const std::string still = halted();
  if (!still.empty()) message += "; on this host " + still;
  throw PeerError(message);
}

void Watch::wrong_size(const Call& call, int peer, int64_t expected, int64_t received) const {
  const Mismatch mismatch = compare(call);  // says more where the peers' calls are known
  if (!mismatch.text.empty()) throw PeerError(mismatch.text);
  throw PeerError("mismatched sizes: " + who(*call.group, call.group->place) + " received " +
                  (received > expected
                       ? "more than " + with_commas(expected) + " bytes"
                       : with_commas(received) + " bytes instead of " + with_commas(expected)) +
                  " from " + who(*call.group, peer) + " in " +
                  text_of(call.note->operation, call.note->tensor, call.note->bytes) + " on axis " +
                  call.note->axis + ", sequence number " + std::to_string(call.sequence));
}

}  // namespace toroid
