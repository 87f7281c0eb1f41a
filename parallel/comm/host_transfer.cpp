#include "parallel/comm/host_transfer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "parallel/comm/combine.h"

namespace toroid {
namespace {

constexpr int64_t kSumBlock = int64_t{128} << 10;  // of one rank's summands at a time
constexpr int64_t kCopyBlock = int64_t{4} << 20;   // of one read
constexpr int64_t kBytesAStep = int64_t{4} << 20;  // about a millisecond
constexpr int kLevels = 32;

int64_t block_bytes(const HostJob& job, int ranks) {
  const int64_t share = (job.elements / ranks + 1) * bytes_of(job.type);
  return std::min(kSumBlock, (share + 63) / 64 * 64);
}

// Blocks that are waiting for their partner at the same time, and the one being read.
int64_t levels_of(int ranks) {
  return std::bit_width(static_cast<unsigned>(ranks)) + 1;
}

}  // namespace

int64_t host_staging_bytes(const HostJob& job, int ranks) {
  const bool sums =
      job.operation == HostJob::Operation::reduce_scatter || job.operation == HostJob::Operation::all_reduce;
  return sums ? levels_of(ranks) * block_bytes(job, ranks) : 0;
}

HostTransfer::HostTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveNote note,
                           Board& board, const PeerMemory& memory, HostJob job)
    : WatchedTransfer(std::move(group), sequence, std::move(note)),
      board_(board),
      memory_(memory),
      job_(job) {}

int64_t HostTransfer::block_elements() const {
  return block_bytes(job_, members().size()) / bytes_of(job_.type);
}

void HostTransfer::announce(const std::byte* address, int64_t size, uint64_t ticket) {
  Board::Flags& mine = flags(members().place);
  mine.address.store(reinterpret_cast<uint64_t>(address), std::memory_order_relaxed);
  mine.bytes.store(size, std::memory_order_relaxed);
  mine.ready.store(ticket, std::memory_order_release);
}

bool HostTransfer::all_ready(uint64_t ticket) {
  for (; met_ < members().size(); ++met_) {
    const Board::Flags& peer = flags(met_);
    if (peer.ready.load(std::memory_order_acquire) < ticket) return false;
    const int64_t theirs = peer.bytes.load(std::memory_order_relaxed);
    const int64_t mine = flags(members().place).bytes.load(std::memory_order_relaxed);
    // A peer of a barrier may be in the next call already.
    if (job_.operation != HostJob::Operation::barrier && theirs != mine) wrong_size(met_, mine, theirs);
  }
  return true;
}

bool HostTransfer::all_finished() const {
  for (int place = 0; place < members().size(); ++place) {
    if (place == members().place) continue;
    if (flags(place).finished.load(std::memory_order_acquire) < job_.ticket) return false;
  }
  return true;
}

void HostTransfer::read(int place, int64_t offset_bytes, std::byte* to, int64_t count_bytes) const {
  const uint64_t address = flags(place).address.load(std::memory_order_relaxed);
  memory_.read(members().slots[static_cast<size_t>(place)], address + static_cast<uint64_t>(offset_bytes),
               {to, static_cast<size_t>(count_bytes)});
}

// Reads the peers' shares one after another, beginning with the next rank's, so that not all read the same
// one.
bool HostTransfer::copy_some() {
  const int size = members().size();
  const int place = members().place;
  int64_t budget = kBytesAStep;
  for (; peer_ < size; ++peer_, offset_ = 0) {
    const int peer = (place + peer_) % size;
    int64_t total = 0;
    int64_t theirs = 0;  // where the share begins in their array
    int64_t ours = 0;
    switch (job_.operation) {
      case HostJob::Operation::all_gather:
        total = bytes(boundary(peer + 1) - boundary(peer));
        ours = bytes(boundary(peer));
        break;
      case HostJob::Operation::all_reduce:
        total = bytes(boundary(peer + 1) - boundary(peer));
        ours = theirs = bytes(boundary(peer));
        break;
      case HostJob::Operation::all_to_all:
        total = bytes(boundary(1));
        ours = bytes(boundary(peer));
        theirs = bytes(boundary(place));
        break;
      case HostJob::Operation::broadcast:
        total = peer == job_.root ? bytes(job_.elements) : 0;
        break;
      default:
        break;
    }
    while (offset_ < total) {
      if (budget <= 0) return false;
      const int64_t count = std::min(kCopyBlock, total - offset_);
      read(peer, theirs + offset_, job_.out + ours + offset_, count);
      offset_ += count;
      budget -= count;
    }
  }
  return true;
}

// One block of this rank's rows, summed over all ranks as a binary counter: two sums over as many ranks
// become one.
void HostTransfer::sum_block(int64_t first, int64_t count, std::byte* to) {
  const int size = members().size();
  const int place = members().place;
  const int64_t slot_bytes = block_bytes(job_, size);
  std::array<std::byte*, kLevels> stack{};
  std::array<int, kLevels> ranks{};  // summed in that entry
  size_t depth = 0;
  for (int rank = 0; rank < size; ++rank) {
    const int64_t offset = bytes(boundary(place) + first);
    std::byte* block = job_.in + offset;
    if (rank != place) {
      block = job_.staging + static_cast<int64_t>(depth) * slot_bytes;
      read(rank, offset, block, bytes(count));
    }
    stack[depth] = block;
    ranks[depth] = 1;
    ++depth;
    const bool last = rank + 1 == size;
    while (depth > 1) {
      const size_t upper = depth - 1;
      if (!last && ranks[upper] != ranks[upper - 1]) break;
      // The very last sum goes where it is wanted.
      std::byte* const target = last && depth == 2 ? to : stack[upper - 1];
      combine(job_.type, job_.how, target, stack[upper - 1], stack[upper], count);
      ranks[upper - 1] += ranks[upper];
      --depth;
    }
  }
}

bool HostTransfer::sum_some() {
  const int place = members().place;
  const int64_t rows = boundary(place + 1) - boundary(place);
  const int64_t block = block_elements();
  int64_t budget = kBytesAStep;
  while (offset_ < rows) {
    if (budget <= 0) return false;
    const int64_t count = std::min(block, rows - offset_);
    std::byte* const to = job_.operation == HostJob::Operation::all_reduce
                              ? job_.in + bytes(boundary(place) + offset_)
                              : job_.out + bytes(offset_);
    sum_block(offset_, count, to);
    offset_ += count;
    budget -= bytes(count) * members().size();
  }
  return true;
}

WatchedTransfer::Progress HostTransfer::step() {
  using Operation = HostJob::Operation;
  const int size = members().size();
  const int place = members().place;
  const bool sums = job_.operation == Operation::reduce_scatter || job_.operation == Operation::all_reduce;
  bool moved = false;
  while (true) {
    switch (phase_) {
      case Phase::open: {
        announce(job_.in, bytes(job_.elements), job_.ticket);
        phase_ = Phase::meet;
        break;
      }
      case Phase::meet:
        if (!all_ready(job_.ticket)) return moved ? Progress::moved : Progress::waiting;
        if (job_.operation == Operation::barrier) return Progress::done;
        phase_ = sums ? Phase::sum : Phase::copy;
        // This rank's own share.
        if (job_.operation == Operation::all_gather) {
          std::byte* const own = job_.out + bytes(boundary(place));
          if (own != job_.in)
            std::memcpy(own, job_.in, static_cast<size_t>(bytes(boundary(place + 1) - boundary(place))));
        } else if (job_.operation == Operation::all_to_all) {
          std::memcpy(job_.out + bytes(boundary(place)), job_.in + bytes(boundary(place)),
                      static_cast<size_t>(bytes(boundary(1))));
        }
        break;
      case Phase::sum:
        if (!sum_some()) return Progress::moved;
        offset_ = 0;
        if (job_.operation == Operation::reduce_scatter) {
          flags(place).finished.store(job_.ticket, std::memory_order_release);
          phase_ = Phase::close;
        } else {
          met_ = 0;
          ++job_.ticket;
          announce(job_.in, bytes(job_.elements), job_.ticket);
          phase_ = Phase::meet_again;
        }
        break;
      case Phase::meet_again:
        if (!all_ready(job_.ticket)) return moved ? Progress::moved : Progress::waiting;
        phase_ = Phase::copy;
        break;
      case Phase::copy:
        if (job_.operation == Operation::broadcast && place == job_.root) peer_ = size;
        if (!copy_some()) return Progress::moved;
        flags(place).finished.store(job_.ticket, std::memory_order_release);
        phase_ = Phase::close;
        break;
      case Phase::close:
        if (!all_finished()) return moved ? Progress::moved : Progress::waiting;
        return Progress::done;
    }
    moved = true;
  }
}

}  // namespace toroid
