#include "parallel/comm/round_by_round.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "parallel/comm/combine.h"
#include "parallel/comm/scheduled_communicator.h"
#include "parallel/comm/traffic.h"

namespace toroid {
namespace {

using schedule::Algorithm;
using schedule::Move;
using schedule::Operation;
using schedule::Plan;

constexpr int64_t kBytesAStep = int64_t{4} << 20;
constexpr size_t kMoreOperands = 3;  // than a round has moves: input, own rows, staging

}  // namespace

OnceARank::OnceARank(int ranks, std::function<void(int rank)> work)
    : done_(static_cast<size_t>(ranks)), work_(std::move(work)) {}

void OnceARank::of(std::span<const int> ranks) {
  for (const int rank : ranks) {
    if (done_[static_cast<size_t>(rank)]) continue;
    done_[static_cast<size_t>(rank)] = true;
    work_(rank);
  }
}

RoundInfo::RoundInfo(CollectiveInfo whole, DType type, DType wire, schedule::Algorithm algorithm,
                     size_t rounds)
    : said_(std::move(whole)),
      bytes_(said_.bytes),
      wire_bytes_(said_.bytes / bytes_of(type) * bytes_of(wire)),
      rounds_(static_cast<int>(rounds)),
      name_length_(said_.tensor.size()),
      suffix_(" of " + std::to_string(rounds_)) {
  said_.method = schedule::name(algorithm);
  said_.type = type;
}

const CollectiveInfo& RoundInfo::of(std::string_view operation, size_t index) {
  const int round = static_cast<int>(index);
  said_.operation = operation;
  said_.bytes = share(bytes_, round);
  said_.wire_bytes = share(wire_bytes_, round);
  said_.tensor.resize(name_length_);
  said_.tensor.append(", round ").append(std::to_string(round + 1)).append(suffix_);
  said_.round = round;
  return said_;
}

const CollectiveInfo& RoundInfo::of_sum(size_t index) {
  of(kSum, index);
  said_.bytes = said_.wire_bytes = 0;
  return said_;
}

std::vector<Round> rounds_of(const Plan& plan, int ranks) {
  const int64_t each = plan.chunks / ranks;
  std::vector<Round> rounds(static_cast<size_t>(plan.rounds));
  for (size_t r = 0; r < rounds.size(); ++r) {
    Round& round = rounds[r];
    round.plan = schedule::round_of(plan, static_cast<int>(r));
    for (const Move& move : round.plan.moves) {
      const int64_t rank = move.first / each;
      require(move.chunks() == move.count && move.first + move.count <= (rank + 1) * each,
              "a move is of one rank's rows");
      (move.receive ? round.received : round.sent).push_back(static_cast<int>(rank));
    }
  }
  return rounds;
}

SumTransfer::SumTransfer(DType type, std::vector<Part> parts, Part copy)
    : type_(type), parts_(std::move(parts)), copy_(copy) {}

// About a millisecond's work at a time: other queues go on in between.
bool SumTransfer::advance() {
  if (at_ < parts_.size()) {
    Part& part = parts_[at_];
    const int64_t elements = std::min(part.elements, kBytesAStep / bytes_of(type_)),
                  bytes = elements * bytes_of(type_);
    combine(type_, Combine::sum, part.to, part.to, part.from, elements);
    part = {part.to + bytes, part.from + bytes, part.elements - elements};
    if (part.elements == 0) ++at_;
    return false;
  }
  if (copy_.elements > 0)
    std::memcpy(copy_.to, copy_.from, static_cast<size_t>(copy_.elements * bytes_of(type_)));
  return true;
}

std::optional<Algorithm> ScheduledCommunicator::cut_by(Operation operation, const Tensor& whole) const {
  const int size = members().size();
  if (options_.cut == Cut::never || options_.deterministic) return std::nullopt;
  if (shape_.dimensions() > 1) return std::nullopt;
  const Algorithm ring = size == 2 ? Algorithm::direct : Algorithm::bidirectional_ring;
  if (options_.cut == Cut::always) return ring;
  const Method method = method_of(operation, whole.bytes(), whole.type);
  const bool rings = method.by == Method::By::messages && method.algorithm == ring;
  return rings && whole.rows() / size >= kFewestRows ? std::optional(ring) : std::nullopt;
}

const std::vector<Round>& ScheduledCommunicator::planned_rounds(Algorithm algorithm, Operation operation) {
  std::vector<Round>& out = planned_rounds_[{algorithm.operator->(), operation}];
  if (out.empty()) out = rounds_of(planned(algorithm, operation, 0), members().size());
  return out;
}

void ScheduledCommunicator::issue_round(MessageJob job, std::vector<Operand> operands, Algorithm algorithm,
                                        const CollectiveInfo& said) {
  ++sequence_;
  job.segment_bytes = segment_bytes_for(algorithm, members().size());
  job.checks = checks();
  count(job, members(), *group_->traffic);
  const Tensor scratch = staging(staging_bytes(job));
  if (scratch) operands.push_back({scratch, Access::inout});
  job.staging = scratch.data();
  std::unique_ptr<Transfer> transfer;
  if (transports_.transport != nullptr) {
    const int channel = channel_of(said);
    transfer = std::make_unique<MessageTransfer>(group_, sequence_, said, *transports_.transport, channel,
                                                 std::move(job));
  }
  device_.transfer(std::move(transfer), operands, said, queue_);
}

Array ScheduledCommunicator::all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) {
  require(in.tensor.dense(), "what is gathered is dense");
  const int size = members().size(), place = members().place;
  const int64_t rows = in.tensor.rows();
  Tensor whole = in.tensor;  // for its shape
  whole.shape = in.tensor.shape.with_rows(rows * size);
  const std::optional<Algorithm> algorithm = cut_by(Operation::all_gather, whole);
  if (!algorithm) return Communicator::all_gather_beside(std::move(in), use, label);
  Array out;
  out.owner = device_.allocate(whole.bytes(), label.holder, queue_);
  out.owner.block()->cut(size);
  out.tensor = out.owner.view(whole.type, whole.shape);
  const auto rows_of = [&](int rank) { return out.tensor.slice_rows(rank * rows, rows); };
  const std::vector<Round>& rounds = planned_rounds(*algorithm, Operation::all_gather);
  RoundInfo info(describe("all_gather", whole.bytes(), label), whole.type, whole.type, *algorithm,
                 rounds.size());
  for (size_t r = 0; r < rounds.size(); ++r) {
    MessageJob job;
    job.plan = rounds[r].plan;
    job.type = whole.type;
    job.elements = whole.elements();
    job.sent = job.received = out.tensor.data();
    std::vector<Operand> operands;
    operands.reserve(rounds[r].plan.moves.size() + kMoreOperands);
    if (r == 0) {
      job.before = {rows_of(place).data(), in.tensor.data(), in.tensor.bytes()};
      operands.push_back({in.tensor, Access::in});
      operands.push_back({rows_of(place), Access::out});
    }
    for (const int rank : rounds[r].sent) operands.push_back({rows_of(rank), Access::in});
    for (const int rank : rounds[r].received) operands.push_back({rows_of(rank), Access::out});
    issue_round(std::move(job), std::move(operands), *algorithm, info.of("all_gather", r));
  }
  // Of its own rows the same numbers are at hand, without waiting for their copy.
  OnceARank used(size, [&](int rank) { use(rank == place ? in.tensor : rows_of(rank), rank * rows); });
  used.of({&place, 1});
  for (const Round& round : rounds) used.of(round.received);
  return out;
}

Array ScheduledCommunicator::reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                                                   const CollectiveLabel& label) {
  const int size = members().size(), place = members().place;
  require(in.tensor.dense() && in.tensor.rows() % size == 0,
          "what is scattered is dense and has as many rows for each rank");
  const Tensor whole = in.tensor;
  const std::optional<Algorithm> algorithm = cut_by(Operation::reduce_scatter, whole);
  if (!algorithm) return Communicator::reduce_scatter_beside(std::move(in), wire, make, label);
  require(in.owner.block() == whole.block && in.owner.bytes() == whole.bytes(),
          "what is scattered has memory of its own");
  in.owner.block()->cut(size);
  const int64_t rows = whole.rows() / size;
  const auto rows_of = [&](int rank) { return whole.slice_rows(rank * rows, rows); };
  const Tensor own = rows_of(place);
  const bool rounds_sums = wire == Wire::bf16 && whole.type == DType::f32;
  const std::vector<Round>& rounds = planned_rounds(*algorithm, Operation::reduce_scatter);
  const int64_t each = rounds.front().plan.chunks / size;
  size_t most = 0;
  for (const Round& round : rounds) most = std::max(most, round.received.size());
  Array out;
  out.owner = device_.allocate(own.bytes(), label.holder, queue_);
  out.tensor = out.owner.view(whole.type, own.shape);
  // A place for the rows of each receive of a round.
  const Buffer landing = device_.allocate(static_cast<int64_t>(most) * own.bytes(), "transfer", queue_);
  const auto landed = [&](size_t slot) {
    return landing.view(whole.type, own.shape, static_cast<int64_t>(slot) * own.bytes());
  };
  OnceARank made(size, [&](int rank) { make(rows_of(rank), rank * rows); });
  const std::string operation(schedule::name(Operation::reduce_scatter));
  RoundInfo info(describe(operation, whole.bytes(), label), whole.type,
                 rounds_sums ? DType::bf16 : whole.type, *algorithm, rounds.size());
  for (size_t r = 0; r < rounds.size(); ++r) {
    const Round& round = rounds[r];
    made.of(round.sent);
    MessageJob job;
    job.plan = round.plan;
    job.type = whole.type;
    job.elements = whole.elements();
    job.sent = whole.data();
    job.received = landing.view(DType::u8, {landing.bytes()}).data();
    job.bf16_wire = rounds_sums;
    std::vector<Operand> operands, sums;
    operands.reserve(round.plan.moves.size() + kMoreOperands);
    sums.reserve(2 * round.received.size() + kMoreOperands);
    // Rounding for the wire rounds what is sent as well.
    for (const int rank : round.sent) operands.push_back({rows_of(rank), Access::inout});
    std::vector<SumTransfer::Part> parts;
    size_t slot = 0;
    for (Move& move : job.plan.moves) {
      if (!move.receive) continue;
      const int64_t in_rank = move.first % each, rank = move.first / each;
      const auto element = [&](int64_t chunk) { return own.elements() * chunk / each; };
      const int64_t first = element(in_rank), elements = element(in_rank + move.count) - first;
      const Tensor to = rows_of(static_cast<int>(rank)), from = landed(slot);
      operands.push_back({from, Access::out});
      sums.push_back({from, Access::in});
      sums.push_back({to, Access::inout});
      if (to.data() != nullptr) {
        const int64_t offset = first * bytes_of(whole.type);
        parts.push_back({to.data() + offset, from.data() + offset, elements});
      }
      move.combine = false;
      move.first = static_cast<int64_t>(slot++) * each + in_rank;
    }
    issue_round(std::move(job), std::move(operands), *algorithm, info.of(operation, r));
    made.of(round.received);
    SumTransfer::Part copy;
    if (r + 1 == rounds.size()) {
      made.of({&place, 1});
      sums.push_back({own, Access::in});
      sums.push_back({out.tensor, Access::out});
      copy = {out.tensor.data(), own.data(), own.elements()};
    }
    std::unique_ptr<Transfer> sum;
    if (transports_.transport != nullptr)
      sum = std::make_unique<SumTransfer>(whole.type, std::move(parts), copy);
    device_.transfer(std::move(sum), sums, info.of_sum(r), queue_);
  }
  return out;
}

}  // namespace toroid
