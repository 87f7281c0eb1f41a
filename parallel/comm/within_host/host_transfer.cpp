#include "parallel/comm/within_host/host_transfer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <utility>

#include "core/device/cpu/stream_copy.h"
#include "parallel/comm/combine.h"

namespace toroid {
namespace {

// How much of each rank's summand is added at a time: where it is copied first, and where it is read in
// place, so that sums stay in the first cache.
constexpr int64_t kSumBlock = int64_t{128} << 10, kViewBlock = int64_t{16} << 10;
constexpr int64_t kCopyBlock = int64_t{4} << 20;       // of one read
constexpr int64_t kHostBytesAStep = int64_t{4} << 20;  // about a millisecond
constexpr int64_t kCheckBlock = int64_t{64} << 10;     // what is read twice is in a cache the second time

bool sums(HostJob::Operation operation) {
  return operation == HostJob::Operation::reduce_scatter || operation == HostJob::Operation::all_reduce ||
         operation == HostJob::Operation::sum;
}

int64_t block_bytes(const HostJob& job, int ranks) {
  const int64_t share = (job.elements / std::max(ranks, job.places) + 1) * bytes_of(job.type);
  return std::min(kSumBlock, (share + 63) / 64 * 64);
}

// Blocks that are waiting for their partner at the same time, and the one being read.
int64_t levels_of(int ranks) {
  return std::bit_width(static_cast<unsigned>(ranks)) + 1;
}

}  // namespace

namespace {

int64_t sum_staging_bytes(const HostJob& job, int ranks) {
  return sums(job.operation) ? levels_of(ranks) * block_bytes(job, ranks) : 0;
}

}  // namespace

int64_t host_staging_bytes(const HostJob& job, int ranks) {
  const bool checked = job.checks != nullptr && job.operation != HostJob::Operation::barrier;
  const int64_t table = checked ? std::max(ranks, job.places) * static_cast<int64_t>(sizeof(Checksum)) : 0;
  return sum_staging_bytes(job, ranks) + table;
}

HostTransfer::HostTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info,
                           Board& board, const PeerMemory& memory, HostJob job)
    : WatchedTransfer(std::move(group), sequence, std::move(info)),
      board_(board),
      memory_(memory),
      job_(job),
      streams_(bytes(job.elements) >= cpu::kStreamedBytes) {
  if (job_.operation == HostJob::Operation::barrier) job_.checks = nullptr;
  if (job_.checks != nullptr) read_.resize(static_cast<size_t>(pieces() * members().size()));
}

Checksum* HostTransfer::table() const {
  return reinterpret_cast<Checksum*>(job_.staging + sum_staging_bytes(job_, members().size()));
}

// `summed`: the sums of an all_reduce, and what the others read of it before, which they are about to lose.
void HostTransfer::plan_lending(bool summed) {
  using Operation = HostJob::Operation;
  const int size = members().size(), me = members().place;
  lent_.clear();
  lending_ = 0;
  if (job_.operation == Operation::broadcast) {
    if (me == job_.root) lent_.push_back({0, job_.in, bytes(job_.elements), 0, {}});
    return;
  }
  for (int place = 0; place < pieces() * size; ++place) {
    const bool own = place % size == me;
    const bool owns = job_.operation == Operation::all_gather || job_.operation == Operation::spread;
    if (!summed && own != owns) continue;
    const int64_t first = job_.operation == Operation::all_gather ? 0 : bytes(boundary(place));
    lent_.push_back({place, job_.in + first, bytes(boundary(place + 1) - boundary(place)), 0, {}});
  }
}

bool HostTransfer::lend_some() {
  int64_t budget = kHostBytesAStep;
  for (; lending_ < lent_.size(); ++lending_) {
    Lent& lent = lent_[lending_];
    while (lent.done < lent.bytes) {
      if (budget <= 0) return false;
      const int64_t count = std::min(kHostBytesAStep, lent.bytes - lent.done);
      lent.sum.add(job_.checks->of({lent.from + lent.done, static_cast<size_t>(count)}), count);
      lent.done += count;
      budget -= count;
    }
    table()[lent.entry] = lent.sum.total();
  }
  return true;
}

bool HostTransfer::all_lent() const {
  for (int place = 0; place < members().size(); ++place) {
    if (place != members().place && flags(place).lent.load() < job_.ticket) return false;
  }
  return true;
}

void HostTransfer::note_read(int place, const std::byte* from, int64_t count_bytes) {
  if (job_.checks == nullptr || place == members().place) return;
  Read& read = read_[static_cast<size_t>(piece_ * members().size() + place)];
  read.sum.add(job_.checks->of({from, static_cast<size_t>(count_bytes)}), count_bytes);
  read.bytes += count_bytes;
}

int HostTransfer::entry_read(int place, int piece) const {
  using Operation = HostJob::Operation;
  if (job_.operation == Operation::broadcast) return 0;
  const bool theirs = job_.operation == Operation::all_gather || job_.operation == Operation::spread ||
                      (job_.operation == Operation::all_reduce && phase_ != Phase::meet_again);
  return piece * members().size() + (theirs ? place : members().place);
}

void HostTransfer::compare_read() {
  if (job_.checks == nullptr) return;
  for (int place = 0; place < members().size(); ++place) {
    for (int piece = 0; piece < pieces(); ++piece) {
      Read& read = read_[static_cast<size_t>(piece * members().size() + place)];
      if (read.bytes == 0) continue;
      const uint64_t address = flags(place).checksums.load(std::memory_order_relaxed) +
                               sizeof(Checksum) * static_cast<uint64_t>(entry_read(place, piece));
      const int slot = members().slots[static_cast<size_t>(place)];
      constexpr auto kSize = static_cast<int64_t>(sizeof(Checksum));
      Checksum lent;
      if (const std::byte* const there = memory_.view(slot, address, kSize)) {
        std::memcpy(&lent, there, sizeof lent);
      } else {
        memory_.read(slot, address, {reinterpret_cast<std::byte*>(&lent), sizeof lent});
      }
      compare(place, lent, read.sum.total(), read.bytes);
      read = {};
    }
  }
}

int64_t HostTransfer::block_elements() const {
  return block_bytes(job_, members().size()) / bytes_of(job_.type);
}

void HostTransfer::announce(const std::byte* address, int64_t size, uint64_t ticket) {
  Board::Flags& mine = flags(members().place);
  mine.address.store(reinterpret_cast<uint64_t>(address), std::memory_order_relaxed);
  mine.bytes.store(size, std::memory_order_relaxed);
  if (job_.checks != nullptr) {
    mine.checksums.store(reinterpret_cast<uint64_t>(table()), std::memory_order_relaxed);
  }
  mine.ready.store(ticket);  // before it looks at the others'
  last_ = true;
}

void HostTransfer::finish() {
  flags(members().place).finished.store(job_.ticket);  // likewise
  last_ = true;
}

bool HostTransfer::come(bool all) {
  if (all && last_) ring(board_);
  last_ = false;
  return all;
}

bool HostTransfer::all_ready(uint64_t ticket) {
  for (; met_ < members().size(); ++met_) {
    const Board::Flags& peer = flags(met_);
    if (peer.ready.load() < ticket) return false;
    const int64_t theirs = peer.bytes.load(std::memory_order_relaxed);
    const int64_t mine = flags(members().place).bytes.load(std::memory_order_relaxed);
    // A peer of a barrier may be in the next call already.
    if (job_.operation != HostJob::Operation::barrier && theirs != mine)
      wrong_size(members().first + met_, mine, theirs);
  }
  return true;
}

bool HostTransfer::all_finished() const {
  for (int place = 0; place < members().size(); ++place) {
    if (place == members().place) continue;
    if (flags(place).finished.load() < job_.ticket) return false;
  }
  return true;
}

const std::byte* HostTransfer::view(int place, int64_t offset_bytes, int64_t count_bytes) const {
  const uint64_t address = flags(place).address.load(std::memory_order_relaxed);
  return memory_.view(members().slots[static_cast<size_t>(place)],
                      address + static_cast<uint64_t>(offset_bytes), count_bytes);
}

void HostTransfer::read(int place, int64_t offset_bytes, std::byte* to, int64_t count_bytes) const {
  const uint64_t address = flags(place).address.load(std::memory_order_relaxed);
  memory_.read(members().slots[static_cast<size_t>(place)], address + static_cast<uint64_t>(offset_bytes),
               {to, static_cast<size_t>(count_bytes)});
}

HostTransfer::Share HostTransfer::share_of(int peer, int piece) const {
  const int place = members().place;
  const int of = piece * members().size() + peer;
  const int64_t first = bytes(boundary(of)), all = bytes(boundary(of + 1)) - first;
  const bool own = peer == place;
  switch (job_.operation) {
    case HostJob::Operation::all_gather:
      return {job_.out + first, 0, all};
    case HostJob::Operation::all_reduce:
    case HostJob::Operation::spread:
      return {job_.out + first, first, own ? 0 : all};
    case HostJob::Operation::all_to_all:
      return {job_.out + first, bytes(boundary(place)), all};
    case HostJob::Operation::broadcast:
      return {job_.out, 0, peer == job_.root && !own ? bytes(job_.elements) : 0};
    default:
      return {};
  }
}

bool HostTransfer::views(int64_t count_bytes) const {
  for (int place = 0; place < members().size(); ++place) {
    if (place != members().place && view(place, 0, count_bytes) == nullptr) return false;
  }
  return true;
}

// The own share, then the peers' one after another, beginning with the next rank's, so that not all read the
// same one.
bool HostTransfer::copy_some() {
  const int size = members().size();
  int64_t budget = kHostBytesAStep;
  for (; peer_ < size; ++peer_, piece_ = 0) {
    const int peer = (members().place + peer_) % size;
    for (; piece_ < pieces(); ++piece_, offset_ = 0) {
      const Share share = share_of(peer, piece_);
      while (offset_ < share.bytes) {
        if (budget <= 0) return false;
        const int64_t most = job_.checks == nullptr ? kCopyBlock : kCheckBlock;
        const int64_t count = std::min(most, share.bytes - offset_);
        copy(peer, share.from + offset_, share.to + offset_, count);
        offset_ += count;
        budget -= count;
      }
    }
  }
  return true;
}

void HostTransfer::copy(int place, int64_t offset_bytes, std::byte* to, int64_t count_bytes) {
  const bool own = place == members().place;
  const std::byte* const there = own ? job_.in + offset_bytes : view(place, offset_bytes, count_bytes);
  if (there == nullptr) {
    read(place, offset_bytes, to, count_bytes);
    note_read(place, to, count_bytes);
  } else if (there == to) {
    return;
  } else if (streams_) {
    note_read(place, there, count_bytes);
    cpu::stream_copy(to, there, count_bytes);
  } else {
    std::memcpy(to, there, static_cast<size_t>(count_bytes));
    note_read(place, to, count_bytes);
  }
}

// One block of this rank's rows. An entry of the tree lies in its place of the staging memory, or where the
// rank has it.
void HostTransfer::sum_block(int64_t offset_bytes, int64_t count, std::byte* to) {
  const int size = members().size();
  const int64_t slot_bytes = block_bytes(job_, size);
  // The own rows of an all_reduce have just been read: they are in the cache.
  const bool streamed = streams_ && job_.operation == HostJob::Operation::reduce_scatter;
  const auto rows_of = [&](int rank, int64_t entry) -> const std::byte* {
    if (rank == members().place) return job_.in + offset_bytes;
    const std::byte* const there = view(rank, offset_bytes, bytes(count));
    if (there != nullptr) {
      note_read(rank, there, bytes(count));
      return there;
    }
    std::byte* const copy = job_.staging + entry * slot_bytes;
    read(rank, offset_bytes, copy, bytes(count));
    note_read(rank, copy, bytes(count));
    return copy;
  };
  const auto add = [&](int64_t entry, bool last, const std::byte* a, const std::byte* b) -> const std::byte* {
    // The very last sum goes where it is wanted.
    std::byte* const target = last && !streamed ? to : job_.staging + entry * slot_bytes;
    combine(job_.type, job_.how, target, a, b, count);
    return target;
  };
  const std::byte* const sum = sum_as_tree(size, rows_of, add);
  if (sum != to) cpu::stream_copy(to, sum, bytes(count));
}

void HostTransfer::sum_in_one_pass(int64_t offset_bytes, int64_t count, std::byte* to) {
  std::array<const float*, 8> rows{};
  const auto size = static_cast<size_t>(members().size());
  for (size_t rank = 0; rank < size; ++rank) {
    const int place = static_cast<int>(rank);
    const std::byte* const at =
        place == members().place ? job_.in + offset_bytes : view(place, offset_bytes, bytes(count));
    rows.at(rank) = reinterpret_cast<const float*>(at);
    note_read(place, at, bytes(count));
  }
  // Sums that go where the own summands were write lines that have just been read.
  const bool streams = streams_ && job_.operation == HostJob::Operation::reduce_scatter;
  cpu::sum_rows(reinterpret_cast<float*>(to), std::span(rows).first(size), count, streams);
}

bool HostTransfer::sum_some() {
  const int size = members().size();
  const bool views = this->views(bytes(job_.elements));
  const bool in_one_pass =
      views && job_.type == DType::f32 && job_.how == Combine::sum && cpu::sums_in_one_pass(size);
  // Small blocks would cost the kernel's way of reading dearly.
  int64_t block = block_elements();
  if (views) block = std::min(block, kViewBlock / bytes_of(job_.type));
  if (in_one_pass) {
    block = (job_.checks == nullptr ? kHostBytesAStep : kCheckBlock) / bytes_of(job_.type) / size;
  }
  int64_t budget = kHostBytesAStep;
  for (; piece_ < pieces(); ++piece_, offset_ = 0) {
    const int place = piece_ * size + members().place;
    const int64_t rows = boundary(place + 1) - boundary(place);
    while (offset_ < rows) {
      if (budget <= 0) return false;
      const int64_t count = std::min(block, rows - offset_);
      const int64_t offset = bytes(boundary(place) + offset_);
      const bool scatters = job_.operation == HostJob::Operation::reduce_scatter;
      std::byte* const to = scatters ? job_.out + bytes(offset_) : job_.in + offset;
      if (in_one_pass) {
        sum_in_one_pass(offset, count, to);
      } else {
        sum_block(offset, count, to);
      }
      offset_ += count;
      budget -= bytes(count) * size;
    }
  }
  piece_ = 0;
  return true;
}

void HostTransfer::announce_sums() {
  met_ = 0;
  ++job_.ticket;
  announce(job_.in, bytes(job_.elements), job_.ticket);
  phase_ = Phase::meet_again;
}

WatchedTransfer::Progress HostTransfer::step() {
  using Operation = HostJob::Operation;
  bool moved = false;
  while (true) {
    switch (phase_) {
      case Phase::open: {
        announce(job_.in, bytes(job_.elements), job_.ticket);
        phase_ = Phase::meet;
        break;
      }
      case Phase::meet:
        if (!come(all_ready(job_.ticket))) return moved ? Progress::moved : Progress::waiting;
        if (job_.operation == Operation::barrier) return Progress::done;
        phase_ = sums(job_.operation) ? Phase::sum : Phase::copy;
        break;
      case Phase::sum:
        if (!sum_some()) return Progress::moved;
        if (job_.checks != nullptr) {
          plan_lending(job_.operation == Operation::all_reduce);
          phase_ = Phase::lend;
        } else if (job_.operation != Operation::all_reduce) {
          finish();
          phase_ = Phase::close;
        } else {
          announce_sums();
        }
        break;
      case Phase::meet_again:
        if (!come(all_ready(job_.ticket))) return moved ? Progress::moved : Progress::waiting;
        compare_read();
        phase_ = Phase::copy;
        break;
      case Phase::copy:
        if (!copy_some()) return Progress::moved;
        if (job_.checks == nullptr) {
          finish();
          phase_ = Phase::close;
        } else if (job_.operation == Operation::all_reduce) {
          phase_ = Phase::compare;  // its sums were lent before they were announced
        } else {
          plan_lending(false);
          phase_ = Phase::lend;
        }
        break;
      case Phase::lend:
        if (!lend_some()) return Progress::moved;
        if (job_.operation == Operation::all_reduce) {
          flags(members().place).lent.store(job_.ticket + 1);
          announce_sums();
        } else {
          flags(members().place).lent.store(job_.ticket);
          last_ = true;
          phase_ = Phase::compare;
        }
        break;
      case Phase::compare:
        if (!come(all_lent())) return moved ? Progress::moved : Progress::waiting;
        compare_read();
        finish();
        phase_ = Phase::close;
        break;
      case Phase::close:
        if (!come(all_finished())) return moved ? Progress::moved : Progress::waiting;
        return Progress::done;
    }
    moved = true;
  }
}

}  // namespace toroid
