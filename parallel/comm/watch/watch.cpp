#include "parallel/comm/watch/watch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

std::string text_of(const std::string& operation, const std::string& tensor, int64_t bytes) {
  return operation + (tensor.empty() ? "" : " of " + in_quotes(tensor)) + " (" + with_commas(bytes) +
         " bytes)";
}

// What is compared between ranks.
struct WhatAgrees {
  std::string operation, tensor;
  int64_t bytes = 0;
  auto operator<=>(const WhatAgrees&) const = default;
};

std::string list_of(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  return text;
}

// As the board keeps it: longer names are cut there.
WhatAgrees what_agrees(const Published& call) {
  return {call.operation, call.tensor, call.bytes};
}

constexpr size_t kOperationKept = 24, kTensorKept = 72;

Published said(const Watch::Call& call, bool done) {
  Published entry;
  entry.sequence = call.sequence;
  entry.bytes = call.info->bytes;
  entry.phase = call.info->phase;
  entry.done = done;
  entry.operation = call.info->operation.substr(0, kOperationKept);
  entry.tensor = call.info->tensor.substr(0, kTensorKept);
  return entry;
}

}  // namespace

bool GroupMembers::on_one_host() const {
  return std::none_of(slots.begin(), slots.end(), [](int slot) { return slot < 0; });
}

Watch::Watch(Board* board, int world_rank, int slot, Seconds deadline,
             std::shared_ptr<const SideChannel> others)
    : board_(board), rank_(world_rank), slot_(slot), deadline_(deadline), others_(std::move(others)) {}

Seconds Watch::patience(Seconds deadline) {
  return std::min(Seconds(1), 0.5 * deadline);
}

Seconds Watch::interval() const {
  // Looking at a peer costs system calls, and hundreds of ranks on one host all look.
  const double ranks = board_ == nullptr ? 1 : board_->ranks();
  return Seconds(std::min(std::max(0.05, 0.004 * ranks), 0.25 * deadline_.count()));
}

void Watch::publish(const Call& call, bool done) {
  if (board_ != nullptr && call.sequence != 0) board_->publish(slot_, call.group->context, said(call, done));
}

bool Watch::arrive(const Call& call) {
  publish(call, false);
  return compare(call).text.empty();
}

void Watch::finish(const Call& call) {
  publish(call, true);
}

Watch::Agreement Watch::agreement(const Call& call) const {
  if (board_ == nullptr || call.sequence == 0) return Agreement::same;
  if (!compare(call).text.empty()) return Agreement::different;
  for (const int slot : call.group->slots) {
    if (slot >= 0 && board_->last_sequence(slot, call.group->context) < call.sequence)
      return Agreement::unknown;
  }
  return Agreement::same;
}

void Watch::check(const Call& call, Seconds waited) {
  const Mismatch mismatch = compare(call);
  if (!mismatch.text.empty() && (mismatch.all_known || waited > patience(deadline()))) {
    throw PeerError(mismatch_between_hosts(call, ask(call)));
  }
  find_lost(call);
  if (waited > deadline(call)) expired(call, waited);
}

void Watch::waited(const Call& call, Seconds time) {
  const auto phase = static_cast<size_t>(call.info->phase);
  if (phase >= waits_.size()) return;
  Waits& waits = waits_[phase];
  constexpr auto kRelaxed = std::memory_order_relaxed;
  if (time.count() > waits.longest.load(kRelaxed)) waits.longest.store(time.count(), kRelaxed);
  waits.calls.store(waits.calls.load(kRelaxed) + 1, kRelaxed);
}

Seconds Watch::deadline(const Call& call) const {
  const auto phase = static_cast<size_t>(call.info->phase);
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const double floor = floor_.load(kRelaxed);
  if (floor <= 0 || phase >= waits_.size() || waits_[phase].calls.load(kRelaxed) < kLearnedCalls)
    return deadline_;
  const double learned = kLearnedFactor * waits_[phase].longest.load(kRelaxed);
  return std::min(deadline_, Seconds(std::max(floor, learned)));
}

// Every rank of the group makes the same calls in the same order: what the peers said of this one is
// compared.
Watch::Mismatch Watch::compare(const Call& call) const {
  if (board_ == nullptr || call.sequence == 0) return {};
  return compare(call, call.sequence, said(call, false), {});
}

Watch::Mismatch Watch::compare(const Call& call, uint64_t sequence, const Published& own,
                               const Answers& answers) const {
  Mismatch mismatch;
  std::map<WhatAgrees, std::vector<int>> calls;
  calls[what_agrees(own)].push_back(rank_);
  for (int place = 0; place < call.group->size(); ++place) {
    const int slot = call.group->slots[static_cast<size_t>(place)];
    const int rank = call.group->ranks[static_cast<size_t>(place)];
    if (rank == rank_) continue;
    if (slot < 0) {
      for (const HostAnswer& answer : answers) {
        const RankSnapshot* const row = answer.find(rank);
        const Published* const published = row == nullptr ? nullptr : row->find(sequence);
        if (published != nullptr) calls[what_agrees(*published)].push_back(rank);
      }
      mismatch.all_known = false;  // they are asked when it is known that something is wrong
      continue;
    }
    const auto published = board_->find(slot, call.group->context, sequence);
    if (published) {
      calls[what_agrees(*published)].push_back(rank);
    } else if (board_->last_sequence(slot, call.group->context) < sequence) {
      mismatch.all_known = false;
    }
  }
  if (calls.size() == 1) return mismatch;
  // The fewest are named first: with more than two ranks they are the ones that went astray.
  std::vector<std::pair<WhatAgrees, std::vector<int>>> order(calls.begin(), calls.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  std::string& message = mismatch.text;
  message = "mismatched collectives on axis " + call.info->axis + ", sequence number " +
            std::to_string(sequence) + ": ";
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

// Between hosts only sizes show while messages are exchanged: a rank that has left a call out may have been
// out of step for a while. The earliest call that is remembered says most.
std::string Watch::mismatch_between_hosts(const Call& call, const Answers& answers) const {
  if (board_ == nullptr || call.sequence == 0) return "";
  for (uint64_t sequence = call.sequence > Board::kKept ? call.sequence - Board::kKept + 1 : 1;
       sequence <= call.sequence; ++sequence) {
    const auto own = board_->find(slot_, call.group->context, sequence);
    if (!own) continue;
    const std::string text = compare(call, sequence, *own, answers).text;
    if (!text.empty()) return text + silent(call, answers);
  }
  return "";
}

Watch::Answers Watch::ask(const Call& call) const {
  return others_ == nullptr ? Answers{} : others_->ask(call.group->context);
}

std::optional<Watch::Peer> Watch::look(const GroupMembers& group, int place, const Answers& answers) const {
  const int slot = group.slots[static_cast<size_t>(place)];
  Peer peer;
  if (board_ != nullptr && slot >= 0) {
    peer.coordinate = board_->coordinate(slot);
    peer.process = board_->process(slot);
    peer.state = peer.process == 0 ? ProcessState::gone : state_of(peer.process);
    peer.last = board_->last_sequence(slot, group.context);
    peer.call = board_->find(slot, group.context, peer.last);
    return peer;
  }
  for (const HostAnswer& answer : answers) {
    const RankSnapshot* const row = answer.find(group.ranks[static_cast<size_t>(place)]);
    if (row == nullptr) continue;
    peer.coordinate = row->coordinate;
    peer.host = answer.host->name;
    peer.process = row->process;
    peer.state = row->state;
    peer.last = row->last;
    if (const Published* const call = row->find(row->last)) peer.call = *call;
    return peer;
  }
  return std::nullopt;
}

std::string Watch::who(const GroupMembers& group, int place, const Answers& answers) const {
  std::string text = "rank " + std::to_string(group.ranks[static_cast<size_t>(place)]);
  const auto peer = look(group, place, answers);
  if (!peer) return text;
  if (!peer->coordinate.empty()) text += " (" + printable(peer->coordinate) + ")";
  if (!peer->host.empty()) text += " on " + printable(peer->host);
  return text;
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
                    text_of(call.info->operation, call.info->tensor, call.info->bytes) + " on axis " +
                    call.info->axis + ", sequence number " + std::to_string(call.sequence));
  }
}

// The peers that have not begun the call, each with the last that is known of it.
std::string Watch::missing(const Call& call, const Answers& answers) const {
  std::string text;
  for (int place = 0; place < call.group->size(); ++place) {
    if (place == call.group->place) continue;
    std::string last = "on another host";
    const auto peer = look(*call.group, place, answers);
    if (peer) {
      if (call.sequence == 0 || peer->last >= call.sequence) continue;
      last = peer->state == ProcessState::stopped ? "stopped by a signal; " : "";
      if (peer->state == ProcessState::gone) last = peer->process == 0 ? "has left; " : "has ended; ";
      last += peer->last == 0 ? "has made no call here yet"
                              : std::string(peer->call && peer->call->done ? "has done" : "is in") +
                                    " call " + std::to_string(peer->last);
      if (peer->last != 0 && peer->call)
        last += ", " + text_of(peer->call->operation, peer->call->tensor, peer->call->bytes);
    } else if (!answers.empty()) {
      continue;  // silent() has it
    }
    text += (text.empty() ? "" : "; ") + who(*call.group, place, answers) + " [" + last + "]";
  }
  return text;
}

// The hosts that did not answer, with their ranks in the group: nobody knows whether they have come.
std::string Watch::silent(const Call& call, const Answers& answers) const {
  std::string text;
  for (const HostAnswer& answer : answers) {
    if (answer.snapshot) continue;
    std::vector<int> ranks;
    for (const int rank : call.group->ranks) {
      const auto& there = answer.host->ranks;
      if (std::find(there.begin(), there.end(), rank) != there.end()) ranks.push_back(rank);
    }
    std::sort(ranks.begin(), ranks.end());
    text += "; host " + printable(answer.host->name) + " does not answer (" + printable(answer.failure) +
            ")" + (ranks.empty() ? "" : ": nothing is known of " + list_of(ranks));
  }
  return text;
}

// Ranks in any group whose process does not run: the wait may only be the end of a chain.
std::string Watch::halted(const Answers& answers) const {
  std::string text;
  const auto add = [&text](const std::string& host, int process, ProcessState state,
                           const std::string& coordinate) {
    if (process == 0 || state == ProcessState::running) return;
    text += "; on " + (host.empty() ? "this host" : printable(host)) + " process " + std::to_string(process) +
            (coordinate.empty() ? "" : " (" + printable(coordinate) + ")") +
            (state == ProcessState::stopped ? " is stopped by a signal" : " has ended");
  };
  for (int slot = 0; board_ != nullptr && slot < board_->ranks(); ++slot) {
    const int process = board_->process(slot);
    if (process != 0 && process != ::getpid()) add("", process, state_of(process), board_->coordinate(slot));
  }
  for (const HostAnswer& answer : answers) {
    if (!answer.snapshot) continue;
    for (const RankSnapshot& row : *answer.snapshot)
      add(answer.host->name, row.process, row.state, row.coordinate);
  }
  return text;
}

void Watch::expired(const Call& call, Seconds waited) const {
  const Answers answers = ask(call);
  const std::string mismatch = mismatch_between_hosts(call, answers);
  if (!mismatch.empty()) throw PeerError(mismatch);
  std::array<char, 32> seconds{};
  std::snprintf(seconds.data(), seconds.size(), "%.1f s", waited.count());
  std::string message = "a deadline expired: " + who(*call.group, call.group->place) + " has waited " +
                        seconds.data() + " in " +
                        text_of(call.info->operation, call.info->tensor, call.info->bytes) + " on axis " +
                        call.info->axis + ", sequence number " + std::to_string(call.sequence) + ", " +
                        std::string(name_of(call.info->phase));
  const std::string late = missing(call, answers), silent = this->silent(call, answers);
  message += !late.empty() ? "; not arrived: " + late : silent.empty() ? "; every peer has begun it" : "";
  throw PeerError(message + silent + halted(answers));
}

void Watch::wrong_size(const Call& call, int peer, int64_t expected, int64_t received) const {
  const std::string mismatch = mismatch_between_hosts(call, ask(call));  // says more where calls are known
  if (!mismatch.empty()) throw PeerError(mismatch);
  throw PeerError("mismatched sizes: " + who(*call.group, call.group->place) + " received " +
                  (received > expected
                       ? "more than " + with_commas(expected) + " bytes"
                       : with_commas(received) + " bytes instead of " + with_commas(expected)) +
                  " from " + who(*call.group, peer) + " in " +
                  text_of(call.info->operation, call.info->tensor, call.info->bytes) + " on axis " +
                  call.info->axis + ", sequence number " + std::to_string(call.sequence));
}

}  // namespace toroid
