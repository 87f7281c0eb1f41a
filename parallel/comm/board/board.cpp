#include "parallel/comm/board/board.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <span>

#include "core/base/error.h"

namespace toroid {
namespace {

using Words = std::span<std::atomic<uint64_t>>;

constexpr uint64_t kStates = 256;  // of a call: its phase, and whether it is done

uint64_t now_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

void store_text(Words words, std::string_view text) {
  text = text.substr(0, words.size() * sizeof(uint64_t));
  for (size_t i = 0; i < words.size(); ++i) {
    uint64_t word = 0;
    if (8 * i < text.size())
      std::memcpy(&word, text.data() + 8 * i, std::min<size_t>(8, text.size() - 8 * i));
    words[i].store(word, std::memory_order_release);
  }
}

std::string load_text(Words words) {
  std::string text(words.size() * sizeof(uint64_t), '\0');
  for (size_t i = 0; i < words.size(); ++i) {
    const uint64_t word = words[i].load(std::memory_order_acquire);
    std::memcpy(text.data() + 8 * i, &word, sizeof word);
  }
  return text.substr(0, text.find('\0'));
}

}  // namespace

static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4,
              "processes share these atomics");

int64_t Board::bytes_for(int ranks) {
  return ranks * static_cast<int64_t>(sizeof(Rank) + kContexts * sizeof(Group));
}

Board::Board(std::byte* memory, int ranks) : memory_(memory), ranks_(ranks) {
  require(reinterpret_cast<uintptr_t>(memory) % 64 == 0, "the table of ranks starts at a cache line");
}

Board::Group& Board::group(int slot, int context) const {
  require(slot >= 0 && slot < ranks_ && context >= 0 && context < kContexts,
          "a rank is in at most 32 groups, of ranks that the table has");
  std::byte* const groups = memory_ + static_cast<size_t>(ranks_) * sizeof(Rank);
  return reinterpret_cast<Group*>(
      groups)[static_cast<size_t>(slot) * kContexts + static_cast<size_t>(context)];
}

void Board::enter(int slot, int process) {
  rank(slot).process.store(process, std::memory_order_release);
}

int Board::process(int slot) const {
  return static_cast<int>(rank(slot).process.load(std::memory_order_acquire));
}

void Board::describe(int slot, std::string_view coordinate) {
  store_text(rank(slot).coordinate, coordinate);
}

std::string Board::coordinate(int slot) const {
  return load_text(rank(slot).coordinate);
}

uint32_t Board::rings(int slot) const {
  return rank(slot).rings.load();
}

// No ring is missed: a ringer that does not see the sleeper has rung before the sleeper asks the kernel to
// wait, which then refuses.
void Board::ring(int slot) {
  Rank& one = rank(slot);
  one.rings.fetch_add(1);
  if (one.sleepers.load() > 0) {
    ::syscall(SYS_futex, &one.rings, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
  }
}

void Board::sleep(int slot, uint32_t rings, std::chrono::microseconds longest) {
  Rank& one = rank(slot);
  const timespec limit{longest.count() / 1000000, longest.count() % 1000000 * 1000};
  one.sleepers.fetch_add(1);
  ::syscall(SYS_futex, &one.rings, FUTEX_WAIT, rings, &limit, nullptr, 0);
  one.sleepers.fetch_sub(1);
}

std::atomic<uint64_t>& Board::probe(int slot) {
  return rank(slot).probe;
}

Board::Flags& Board::flags(int slot, int context) {
  return group(slot, context).flags;
}

Board::Rounds& Board::rounds(int slot, int context) {
  return group(slot, context).rounds;
}

void Board::publish(int slot, int context, const Published& call) {
  Group& group = this->group(slot, context);
  Entry& entry = group.calls[call.sequence % kKept];
  const uint64_t version = entry.version.load(std::memory_order_relaxed);
  entry.version.store(version + 1, std::memory_order_relaxed);  // seen by whoever sees a word stored below
  const Words words(entry.words);
  const bool begins = words[0].load(std::memory_order_relaxed) != call.sequence;
  const uint64_t since = begins ? now_us() : words[2].load(std::memory_order_relaxed) / kStates;
  words[0].store(call.sequence, std::memory_order_release);
  words[1].store(static_cast<uint64_t>(call.bytes), std::memory_order_release);
  words[2].store(kStates * since + 2 * static_cast<uint64_t>(call.phase) + (call.done ? 1 : 0),
                 std::memory_order_release);
  store_text(words.subspan(3, Entry::kOperation), call.operation);
  store_text(words.subspan(3 + Entry::kOperation, Entry::kTensor), call.tensor);
  entry.version.store(version + 2, std::memory_order_release);
  group.last.store(call.sequence, std::memory_order_release);
}

std::optional<Published> Board::find(int slot, int context, uint64_t sequence) const {
  Entry& entry = group(slot, context).calls[sequence % kKept];
  for (int attempt = 0; attempt < 100; ++attempt) {
    const uint64_t version = entry.version.load(std::memory_order_acquire);
    if (version == 0) return std::nullopt;
    const Words words(entry.words);
    Published call;
    call.sequence = words[0].load(std::memory_order_acquire);
    call.bytes = static_cast<int64_t>(words[1].load(std::memory_order_acquire));
    const uint64_t state = words[2].load(std::memory_order_acquire);
    call.operation = load_text(words.subspan(3, Entry::kOperation));
    call.tensor = load_text(words.subspan(3 + Entry::kOperation, Entry::kTensor));
    if (version % 2 != 0 || entry.version.load(std::memory_order_relaxed) != version) continue;
    call.phase = static_cast<Phase>(state % kStates / 2);
    call.done = state % 2 != 0;
    call.begun_us = static_cast<int64_t>(state / kStates);
    if (call.sequence != sequence) return std::nullopt;
    return call;
  }
  return std::nullopt;  // its writer was stopped in the middle
}

uint64_t Board::last_sequence(int slot, int context) const {
  return group(slot, context).last.load(std::memory_order_acquire);
}

}  // namespace toroid
