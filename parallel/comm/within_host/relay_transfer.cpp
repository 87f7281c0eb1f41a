#include "parallel/comm/within_host/relay_transfer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/base/round_up.h"
#include "core/device/cpu/stream_copy.h"
#include "parallel/comm/combine.h"

namespace toroid {
namespace {

constexpr int64_t kRelayBytesAStep = int64_t{2} << 20;  // well below a millisecond
// So many bytes of each rank's summand are added at a time that all of them stay in the first cache.
constexpr int64_t kSumBytes = int64_t{8} << 10;
constexpr size_t kLevels = 6;  // of the tree over Relay::kMostRanks
// At the end of a slot, where its blocks are checked: as many checksums as it may have blocks.
constexpr int64_t kChecksBytes = Relay::kMostRanks * static_cast<int64_t>(sizeof(Checksum));
static_assert(kChecksBytes % 64 == 0);

bool adds(HostJob::Operation operation) {
  return operation == HostJob::Operation::reduce_scatter || operation == HostJob::Operation::all_reduce;
}

// Elements of one rank's share in one round.
int64_t piece_of(const HostJob& job, int ranks, const Relay& relay) {
  int64_t bytes = relay.slot_bytes() - (job.checks == nullptr ? 0 : kChecksBytes);
  // A slot holds a block for each peer, and one for the sum that they are to take.
  if (adds(job.operation) || job.operation == HostJob::Operation::all_to_all) {
    const int blocks = job.operation == HostJob::Operation::all_reduce ? ranks : ranks - 1;
    bytes = bytes / blocks / 64 * 64;
  }
  return bytes / bytes_of(job.type);
}

}  // namespace

int64_t relay_rounds(const HostJob& job, int ranks, const Relay& relay) {
  const int64_t largest =
      job.operation == HostJob::Operation::broadcast ? job.elements : divide_up(job.elements, ranks);
  const int64_t piece = piece_of(job, ranks, relay);
  return std::max<int64_t>(1, divide_up(largest, piece));
}

RelayTransfer::RelayTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info,
                             Board& board, const Relay& relay, HostJob job)
    : WatchedTransfer(std::move(group), sequence, std::move(info)),
      board_(board),
      relay_(relay),
      job_(job),
      count_(relay_rounds(job, members().size(), relay)),
      piece_elements_(piece_of(job, members().size(), relay)),
      streams_(bytes(job.elements) * members().size() >= cpu::kStreamedBytes) {
  if (job_.operation != HostJob::Operation::broadcast) return;
  if (job_.root == members().place) {
    taken_ = count_;
  } else {
    posted_ = count_;
  }
}

bool RelayTransfer::sums() const {
  return adds(job_.operation);
}

RelayTransfer::Piece RelayTransfer::piece(int place, int64_t round) const {
  const int64_t share =
      job_.operation == HostJob::Operation::broadcast ? job_.elements : boundary(place + 1) - boundary(place);
  const int64_t first = std::min(share, round * piece_elements_);
  return {first, std::min(piece_elements_, share - first)};
}

// That this rank has come to `round` with a counter.
void RelayTransfer::tell(std::atomic<uint64_t> Board::Rounds::*counter, int64_t round) {
  (rounds(members().place).*counter).store(job_.ticket + static_cast<uint64_t>(round));
  if (job_.operation == HostJob::Operation::broadcast || reached(counter, round)) ring(board_);
}

// Whether all whom this rank waits for are in this call, and bring the same size.
bool RelayTransfer::met() {
  const bool broadcast = job_.operation == HostJob::Operation::broadcast;
  for (; met_ < members().size(); ++met_) {
    if (met_ == members().place || (broadcast && met_ != job_.root)) continue;
    const Board::Rounds& peer = rounds(met_);
    if (peer.posted.load(std::memory_order_acquire) < job_.ticket) return false;
    const int64_t theirs = peer.bytes[job_.ticket % peer.bytes.size()].load(std::memory_order_relaxed);
    if (theirs != bytes(job_.elements)) wrong_size(met_, bytes(job_.elements), theirs);
  }
  return true;
}

// Whether a counter of all whom this rank waits for has come to `round`.
bool RelayTransfer::reached(std::atomic<uint64_t> Board::Rounds::*counter, int64_t round) const {
  const auto wanted = static_cast<int64_t>(job_.ticket) + round;
  for (int place = 0; place < members().size(); ++place) {
    if (place == members().place) continue;
    if (static_cast<int64_t>((rounds(place).*counter).load()) < wanted) return false;
  }
  return true;
}

void RelayTransfer::copy(std::byte* to, const std::byte* from, int64_t count_bytes) {
  if (count_bytes == 0 || to == from) return;
  if (streams_) {
    cpu::stream_copy(to, from, count_bytes);
  } else {
    std::memcpy(to, from, static_cast<size_t>(count_bytes));
  }
  moved_bytes_ += count_bytes;
}

Checksum& RelayTransfer::sent(int place, int64_t round, int64_t block) const {
  std::byte* const end = slot(place, round) + relay_.slot_bytes() - kChecksBytes;
  return reinterpret_cast<Checksum*>(end)[block];
}

void RelayTransfer::note(int64_t round, int64_t block, const std::byte* from, int64_t count_bytes) const {
  if (job_.checks == nullptr) return;
  sent(members().place, round, block) = job_.checks->of({from, static_cast<size_t>(count_bytes)});
}

void RelayTransfer::check(int place, int64_t round, int64_t block, const std::byte* got,
                          int64_t count_bytes) const {
  if (job_.checks == nullptr) return;
  compare(place, sent(place, round, block), job_.checks->of({got, static_cast<size_t>(count_bytes)}),
          count_bytes);
}

void RelayTransfer::post(int64_t round) {
  const int me = members().place;
  std::byte* const to = slot(me, round);
  // Stays in the cache for those who take it.
  const auto put = [&](std::byte* at, const std::byte* from, int64_t elements) {
    if (elements == 0) return;
    std::memcpy(at, from, static_cast<size_t>(bytes(elements)));
    moved_bytes_ += bytes(elements);
  };
  switch (job_.operation) {
    case HostJob::Operation::all_gather: {
      const Piece part = piece(me, round);
      const std::byte* const from = job_.in + bytes(part.first);
      std::byte* const own = job_.out + bytes(boundary(me) + part.first);
      if (streams_ && own != from) {
        cpu::stream_copy_and_keep(own, to, from, bytes(part.count));
        moved_bytes_ += 2 * bytes(part.count);
      } else {
        put(to, from, part.count);
        copy(own, from, bytes(part.count));
      }
      note(round, 0, from, bytes(part.count));
      break;
    }
    case HostJob::Operation::broadcast: {
      const Piece part = piece(me, round);
      put(to, job_.in + bytes(part.first), part.count);
      note(round, 0, job_.in + bytes(part.first), bytes(part.count));
      break;
    }
    case HostJob::Operation::all_to_all:
    case HostJob::Operation::reduce_scatter:
    case HostJob::Operation::all_reduce:
      for (int i = 1; i < members().size(); ++i) {
        const int peer = (me + i) % members().size();
        const Piece part = piece(peer, round);
        const std::byte* const from = job_.in + bytes(boundary(peer) + part.first);
        put(to + block_of(peer, me) * bytes(piece_elements_), from, part.count);
        note(round, block_of(peer, me), from, bytes(part.count));
      }
      if (job_.operation == HostJob::Operation::all_to_all) {
        const Piece part = piece(me, round);
        const int64_t at = bytes(boundary(me) + part.first);
        copy(job_.out + at, job_.in + at, bytes(part.count));
      }
      break;
    case HostJob::Operation::barrier:
    case HostJob::Operation::sum:
    case HostJob::Operation::spread:
      break;
  }
}

// The own rows of a round over all ranks.
void RelayTransfer::sum(int64_t round) {
  alignas(64) std::array<std::byte, kLevels * kSumBytes> scratch;
  const int me = members().place;
  const int size = members().size();
  const Piece part = piece(me, round);
  const int64_t width = bytes_of(job_.type);
  const int64_t block = kSumBytes / width;
  const bool all_reduce = job_.operation == HostJob::Operation::all_reduce;
  std::byte* const own = job_.in + bytes(boundary(me) + part.first);
  std::byte* const sum_slot = slot(me, round) + (size - 1) * bytes(piece_elements_);
  for (int rank = 0; rank < size; ++rank) {
    if (rank == me) continue;
    check(rank, round, block_of(me, rank), slot(rank, round) + block_of(me, rank) * bytes(piece_elements_),
          bytes(part.count));
  }
  for (int64_t at = 0; at < part.count; at += block) {
    const int64_t count = std::min(block, part.count - at);
    std::byte* const to = all_reduce ? own + at * width : job_.out + bytes(part.first + at);
    const auto rows_of = [&](int rank, int64_t) -> const std::byte* {
      if (rank == me) return own + at * width;
      return slot(rank, round) + block_of(me, rank) * bytes(piece_elements_) + at * width;
    };
    const auto add = [&](int64_t entry, bool last, const std::byte* a,
                         const std::byte* b) -> const std::byte* {
      std::byte* target = scratch.data() + entry * kSumBytes;
      // The very last sum goes where it is wanted.
      if (last && all_reduce) target = sum_slot + at * width;
      if (last && !all_reduce && !streams_) target = to;
      combine(job_.type, job_.how, target, a, b, count);
      return target;
    };
    const std::byte* const sum = sum_as_tree(size, rows_of, add);
    if (sum == to) continue;
    if (all_reduce) {
      std::memcpy(to, sum, static_cast<size_t>(count * width));  // the line has just been read
    } else {
      cpu::stream_copy(to, sum, count * width);
    }
  }
  if (all_reduce) note(round, size - 1, own, bytes(part.count));
  moved_bytes_ += bytes(part.count) * size;
}

// One block of a peer's slot; compared where it has gone, or, where it went past the cache, where it came
// from.
void RelayTransfer::take_block(int peer, int64_t round, int64_t block, std::byte* to, int64_t count_bytes) {
  const std::byte* const from = slot(peer, round) + block * bytes(piece_elements_);
  copy(to, from, count_bytes);
  check(peer, round, block, streams_ ? from : to, count_bytes);
}

void RelayTransfer::take(int64_t round) {
  const int me = members().place;
  for (int i = 1; i < members().size(); ++i) {
    const int peer = (me + i) % members().size();
    switch (job_.operation) {
      case HostJob::Operation::all_gather:
      case HostJob::Operation::all_reduce: {
        const Piece part = piece(peer, round);
        const int64_t block = job_.operation == HostJob::Operation::all_reduce ? members().size() - 1 : 0;
        take_block(peer, round, block, job_.out + bytes(boundary(peer) + part.first), bytes(part.count));
        break;
      }
      case HostJob::Operation::broadcast:
        if (peer == job_.root) {
          const Piece part = piece(peer, round);
          take_block(peer, round, 0, job_.out + bytes(part.first), bytes(part.count));
        }
        break;
      case HostJob::Operation::all_to_all: {
        const Piece part = piece(me, round);
        take_block(peer, round, block_of(me, peer), job_.out + bytes(boundary(peer) + part.first),
                   bytes(part.count));
        break;
      }
      case HostJob::Operation::reduce_scatter:
      case HostJob::Operation::barrier:
      case HostJob::Operation::sum:
      case HostJob::Operation::spread:
        break;
    }
  }
}

bool RelayTransfer::try_post() {
  // The slot was last used kSlots rounds ago.
  if (posted_ == count_ || !reached(&Board::Rounds::taken, posted_ - Relay::kSlots)) return false;
  Board::Rounds& mine = rounds(members().place);
  if (posted_ == 0) {
    mine.bytes[job_.ticket % mine.bytes.size()].store(bytes(job_.elements), std::memory_order_relaxed);
  }
  post(posted_);
  tell(&Board::Rounds::posted, posted_++);
  return true;
}

bool RelayTransfer::try_sum() {
  if (summed_ == posted_ || !reached(&Board::Rounds::posted, summed_)) return false;
  sum(summed_);
  if (job_.operation == HostJob::Operation::reduce_scatter) {
    tell(&Board::Rounds::taken, taken_++);
  } else {
    tell(&Board::Rounds::summed, summed_);
  }
  ++summed_;
  return true;
}

bool RelayTransfer::try_take() {
  if (taken_ == count_) return false;
  switch (job_.operation) {
    case HostJob::Operation::reduce_scatter:
      return false;
    case HostJob::Operation::all_reduce:
      if (taken_ == summed_ || !reached(&Board::Rounds::summed, taken_)) return false;
      break;
    case HostJob::Operation::broadcast:
      if (rounds(job_.root).posted.load(std::memory_order_acquire) <
          job_.ticket + static_cast<uint64_t>(taken_))
        return false;
      break;
    default:
      if (taken_ == posted_ || !reached(&Board::Rounds::posted, taken_)) return false;
  }
  take(taken_);
  tell(&Board::Rounds::taken, taken_++);
  return true;
}

WatchedTransfer::Progress RelayTransfer::step() {
  moved_bytes_ = 0;
  bool moved = false;
  while (moved_bytes_ < kRelayBytesAStep) {
    bool any = try_post();
    if (met()) {
      if (sums()) any |= try_sum();
      any |= try_take();
    }
    if (posted_ == count_ && taken_ == count_) {
      if (job_.operation == HostJob::Operation::broadcast) {
        const bool sends = job_.root == members().place;
        // A root that ran ahead of its readers would be ahead of what they remember of its calls.
        if (sends && !reached(&Board::Rounds::taken, count_ - 1))
          return moved ? Progress::moved : Progress::waiting;
        tell(sends ? &Board::Rounds::taken : &Board::Rounds::posted, count_ - 1);
      }
      return Progress::done;
    }
    moved |= any;
    if (!any) return moved ? Progress::moved : Progress::waiting;
  }
  return Progress::moved;
}

}  // namespace toroid
