#include "parallel/comm/side_channel/snapshot.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/base/text.h"
#include "parallel/comm/side_channel/bytes.h"

namespace toroid {
namespace {

using Rows = SnapshotLayout;

constexpr std::string_view kMagic = "TRDBOARD";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kPhases = static_cast<uint32_t>(Phase::setup) + 1;

void append_text(std::string& bytes, std::string_view text, size_t width) {
  text = text.substr(0, std::min(width, text.find('\0')));
  bytes.append(text).append(width - text.size(), '\0');
}

// Takes fields one after the other.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}
  template <class T>
  T number(const char* what, uint64_t most) {
    const T value = load<T>(left_);
    left_.remove_prefix(sizeof(T));
    if (value > most) {
      throw UserError("a board has " + std::to_string(value) + " as " + what + ", where the most is " +
                      std::to_string(most));
    }
    return value;
  }
  std::string text(size_t width) {
    const std::string_view all = left_.substr(0, width);
    left_.remove_prefix(width);
    const std::string_view text = all.substr(0, all.find('\0'));
    if (all.find_first_not_of('\0', text.size()) != std::string_view::npos) {
      throw UserError("a board has bytes behind the end of the text " + in_quotes(text));
    }
    return std::string(text);
  }

 private:
  std::string_view left_;
};

void append_call(std::string& bytes, const Published& call) {
  append(bytes, call.sequence);
  append(bytes, static_cast<uint64_t>(call.bytes));
  append(bytes, static_cast<uint32_t>(call.phase));
  append(bytes, uint32_t{call.done ? 1u : 0u});
  append_text(bytes, call.operation, Rows::kOperation);
  append_text(bytes, call.tensor, Rows::kTensor);
}

Published read_call(Fields& fields) {
  Published call;
  call.sequence = fields.number<uint64_t>("a call's number", std::numeric_limits<uint64_t>::max());
  call.bytes = static_cast<int64_t>(
      fields.number<uint64_t>("a call's bytes", static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
  call.phase = static_cast<Phase>(fields.number<uint32_t>("a call's phase", kPhases - 1));
  call.done = fields.number<uint32_t>("the end of a call", 1) != 0;
  call.operation = fields.text(Rows::kOperation);
  call.tensor = fields.text(Rows::kTensor);
  return call;
}

RankSnapshot read_row(Fields& fields) {
  constexpr uint64_t kMostInt = std::numeric_limits<int>::max();
  RankSnapshot row;
  row.rank = static_cast<int>(fields.number<uint32_t>("a rank", kMostInt));
  row.process = static_cast<int>(fields.number<uint32_t>("a process", kMostInt));
  row.state = static_cast<ProcessState>(fields.number<uint32_t>("a process's state", 2));
  const auto calls = fields.number<uint32_t>("a rank's calls", Board::kKept);
  row.last = fields.number<uint64_t>("the last call", std::numeric_limits<uint64_t>::max());
  row.coordinate = fields.text(Rows::kCoordinate);
  for (size_t i = 0; i < Board::kKept; ++i) {
    Published call = read_call(fields);
    const uint64_t before = row.calls.empty() ? 0 : row.calls.back().sequence;
    if (i < calls) {
      if (call.sequence <= before) throw UserError("a board's calls are not in their order");
      row.calls.push_back(std::move(call));
    } else if (call.sequence != 0 || call.bytes != 0 || call.phase != Phase{} || call.done ||
               !call.operation.empty() || !call.tensor.empty()) {
      throw UserError("a board has a call behind the last one of rank " + std::to_string(row.rank));
    }
  }
  return row;
}

}  // namespace

const Published* RankSnapshot::find(uint64_t sequence) const {
  const auto found = std::find_if(calls.begin(), calls.end(),
                                  [&](const Published& call) { return call.sequence == sequence; });
  return found == calls.end() ? nullptr : &*found;
}

HostSnapshot take_snapshot(const Board& board, std::span<const int> ranks, int context) {
  HostSnapshot out;
  for (int slot = 0; slot < board.ranks(); ++slot) {
    RankSnapshot row;
    row.rank = ranks[static_cast<size_t>(slot)];
    row.process = board.process(slot);
    row.state = row.process == 0 ? ProcessState::gone : state_of(row.process);
    row.last = board.last_sequence(slot, context);
    row.coordinate = board.coordinate(slot);
    for (uint64_t sequence = row.last > Board::kKept ? row.last - Board::kKept + 1 : 1; sequence <= row.last;
         ++sequence) {
      if (auto call = board.find(slot, context, sequence)) row.calls.push_back(std::move(*call));
    }
    out.push_back(std::move(row));
  }
  return out;
}

std::string encode(const HostSnapshot& snapshot) {
  require(snapshot.size() <= Rows::kMostRanks, "a host has at most 1024 ranks");
  std::string bytes(kMagic);
  append(bytes, kVersion);
  append(bytes, static_cast<uint32_t>(snapshot.size()));
  for (const RankSnapshot& row : snapshot) {
    append(bytes, static_cast<uint32_t>(row.rank));
    append(bytes, static_cast<uint32_t>(row.process));
    append(bytes, static_cast<uint32_t>(row.state));
    append(bytes, static_cast<uint32_t>(row.calls.size()));
    append(bytes, row.last);
    append_text(bytes, row.coordinate, Rows::kCoordinate);
    for (const Published& call : row.calls) append_call(bytes, call);
    bytes.append((Board::kKept - row.calls.size()) * Rows::kCallBytes, '\0');
  }
  return bytes;
}

HostSnapshot decode_snapshot(std::string_view bytes) {
  if (bytes.size() < Rows::kHeaderBytes || !bytes.starts_with(kMagic)) {
    throw UserError("this is no board: it does not begin with " + std::string(kMagic));
  }
  bytes.remove_prefix(kMagic.size());
  const auto version = load<uint32_t>(bytes), rows = load<uint32_t>(bytes.substr(4));
  bytes.remove_prefix(8);
  if (version != kVersion) {
    throw UserError("a board of version " + std::to_string(version) + ", where version " +
                    std::to_string(kVersion) + " was expected");
  }
  if (rows > Rows::kMostRanks || bytes.size() != rows * Rows::kRowBytes) {
    throw UserError("a board of " + std::to_string(rows) + " ranks has " + std::to_string(bytes.size()) +
                    " bytes of rows; a row has " + std::to_string(Rows::kRowBytes) +
                    " and there are at most " + std::to_string(Rows::kMostRanks));
  }
  HostSnapshot out;
  Fields fields(bytes);
  for (uint32_t i = 0; i < rows; ++i) {
    RankSnapshot row = read_row(fields);
    if (!out.empty() && row.rank <= out.back().rank) throw UserError("a board's ranks do not rise");
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace toroid
