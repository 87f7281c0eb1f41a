#include "launch/toroid/flight_recorder.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "core/base/utc_time.h"
#include "parallel/comm/board/board.h"

namespace toroid::launch {
namespace {

constexpr size_t kAlignment = 64;
struct FreeAligned {
  void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t(kAlignment)); }
};
using Aligned = std::unique_ptr<std::byte[], FreeAligned>;

std::string text_of(const Published& call, int64_t now_us) {
  std::array<char, 32> ago{};
  std::snprintf(ago.data(), ago.size(), "%.3f s", 1e-6 * static_cast<double>(now_us - call.begun_us));
  return std::string(ago.data()) + " before: call " + std::to_string(call.sequence) + ", " +
         printable(call.operation) + " of '" + printable(call.tensor) + "' (" + with_commas(call.bytes) +
         " bytes), " + std::string(name_of(call.phase)) + (call.done ? ", done" : ", under way");
}

// A rank's last calls of one group, the latest first.
std::vector<Published> calls_of(const Board& board, int slot, int context) {
  std::vector<Published> out;
  const uint64_t last = board.last_sequence(slot, context);
  for (uint64_t back = 0; back < Board::kKept && back < last; ++back) {
    if (const auto call = board.find(slot, context, last - back)) out.push_back(*call);
  }
  return out;
}

// The last call of each rank in each group; sequence 0: it is in no such group, or has left in good order.
struct Last {
  uint64_t sequence = 0;
  bool done = true;
  int64_t begun_us = 0;
};
using Table = std::vector<std::array<Last, Board::kContexts>>;

// A rank is late in a group where others wait in a call that it has not begun, or began long after them: a
// rank that was stopped wakes when the job is ended. It waits for one in a group where it is itself in such a
// call. Who is late and waits for nobody is the cause.
std::vector<int> late_ranks(const Table& table) {
  constexpr int64_t kLate = 500'000;             // us
  std::array<Last, Board::kContexts> awaited{};  // since when
  for (const auto& rank : table) {
    for (size_t group = 0; group < rank.size(); ++group) {
      const Last& last = rank[group];
      if (last.done || last.sequence < awaited[group].sequence) continue;
      const bool earlier = last.begun_us < awaited[group].begun_us;
      if (last.sequence > awaited[group].sequence || earlier) awaited[group] = last;
    }
  }
  const auto is_late = [&](size_t rank, size_t group) {
    const Last& last = table[rank][group];
    if (last.sequence == 0) return false;
    if (last.sequence < awaited[group].sequence) return last.done;
    return last.sequence == awaited[group].sequence && last.begun_us - awaited[group].begun_us > kLate;
  };
  std::vector<int> out;
  for (size_t rank = 0; rank < table.size(); ++rank) {
    bool late = false, waits = false;
    for (size_t group = 0; group < awaited.size(); ++group) {
      late = late || is_late(rank, group);
      if (table[rank][group].done || is_late(rank, group)) continue;
      for (size_t other = 0; other < table.size(); ++other) waits = waits || is_late(other, group);
    }
    if (late && !waits) out.push_back(static_cast<int>(rank));
  }
  return out;
}

}  // namespace

std::optional<FlightRecord> read_flight_record(const Path& job_directory) {
  const Path file = job_directory / kBoardFile;
  constexpr int64_t kMostRanks = 4096;
  std::string bytes;
  try {
    if (job_directory.empty() || !is_present(file)) return std::nullopt;
    bytes = read_file(file, Board::bytes_for(1) * kMostRanks);
  } catch (const Error&) {
    return std::nullopt;
  }
  const int64_t ranks = static_cast<int64_t>(bytes.size()) / Board::bytes_for(1);
  if (ranks == 0 || Board::bytes_for(static_cast<int>(ranks)) != static_cast<int64_t>(bytes.size()))
    return std::nullopt;
  const Aligned memory(static_cast<std::byte*>(::operator new[](bytes.size(), std::align_val_t(kAlignment))));
  std::memcpy(memory.get(), bytes.data(), bytes.size());
  const Board board(memory.get(), static_cast<int>(ranks));

  FlightRecord out;
  Table table(static_cast<size_t>(board.ranks()));
  int64_t latest = 0;  // what began last: times are told from there
  for (int slot = 0; slot < board.ranks(); ++slot) {
    for (int context = 0; context < Board::kContexts; ++context) {
      for (const Published& call : calls_of(board, slot, context)) latest = std::max(latest, call.begun_us);
    }
  }
  for (int slot = 0; slot < board.ranks(); ++slot) {
    const bool left = board.process(slot) == 0;
    const std::string coordinate = board.coordinate(slot);
    out.text += coordinate.empty() ? "rank " + std::to_string(slot) : printable(coordinate);
    out.text += left ? ", which had left\n" : ", process " + std::to_string(board.process(slot)) + "\n";
    for (int context = 0; context < Board::kContexts; ++context) {
      const std::vector<Published> calls = calls_of(board, slot, context);
      if (!left && !calls.empty()) {
        table[static_cast<size_t>(slot)][static_cast<size_t>(context)] = {
            calls.front().sequence, calls.front().done, calls.front().begun_us};
      }
      for (const Published& call : calls) {
        out.text += "  group " + std::to_string(context) + ": " + text_of(call, latest) + "\n";
      }
    }
  }
  out.late = late_ranks(table);
  return out;
}

std::string write_hang_report(const Path& run, const std::string& how, const FlightRecord& record) {
  const std::string time = utc_time("%Y%m%dT%H%M%SZ");
  std::string late;
  for (const int rank : record.late) late += (late.empty() ? "" : ", ") + std::to_string(rank);
  const std::string text =
      how + "\n\n" +
      (late.empty() ? "No rank was late for a collective that others waited in."
                    : "Late for a collective that others waited in: rank " + late + ".") +
      "\n\nWhat each rank of this machine did last, a group's latest call first, with the time before the "
      "last call of "
      "all that it began:\n\n" +
      record.text;
  try {
    if (!is_present_directory(run)) return "";
    std::string name = std::string("hang-report-") + time + ".txt";
    for (int i = 2; is_present(run / name); ++i) {
      name = std::string("hang-report-") + time + "-" + std::to_string(i) + ".txt";
    }
    write_file(run / name, text);
    return name;
  } catch (const Error& error) {
    log::warn("the report of what the ranks did last is lost: {}", error.what());
    return "";
  }
}

}  // namespace toroid::launch
