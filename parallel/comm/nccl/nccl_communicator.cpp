#include "parallel/comm/nccl/nccl_communicator.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "core/op/elementwise.h"
#include "parallel/comm/traffic.h"
#include "parallel/schedule/algorithm.h"

namespace toroid {
namespace {

// Up to here every rank gathers all summands and adds them: one call instead of two.
constexpr int64_t kFewBytes = int64_t{64} << 10;
// Rows of what lands begin where the kernel reads vectors.
constexpr int64_t kRowAlignment = 8;

Tensor flat(const Tensor& tensor) {
  return tensor.reshape({tensor.elements()});
}

// Rows of `elements` that are `stride` apart.
Tensor strided_rows(const Buffer& buffer, DType type, int64_t rows, int64_t elements, int64_t stride) {
  Tensor out = buffer.view(type, {rows, stride});
  out.shape = {rows, elements};
  return out;
}

StreamJob::Part part_of(int peer, bool receive, const Tensor& tensor) {
  return {peer, receive, tensor.data(), tensor.elements()};
}

bool is_float(DType type) {
  return type == DType::f32 || type == DType::bf16;
}

// The elements of one rank's rows that a move carries.
struct Carried {
  int rank = 0;
  int64_t first = 0, elements = 0;
};
Carried carried_by(const schedule::Move& move, int64_t chunks_of_rank, int64_t elements_of_rank) {
  const int64_t in_rank = move.first % chunks_of_rank;
  const auto element = [&](int64_t chunk) { return elements_of_rank * chunk / chunks_of_rank; };
  const int64_t first = element(in_rank);
  return {static_cast<int>(move.first / chunks_of_rank), first, element(in_rank + move.count) - first};
}

// One of the two exchanges of an all_reduce, whose bytes add up to the array's.
CollectiveInfo half_of(CollectiveInfo info, int round, int64_t wire_bytes) {
  const auto share = [round](int64_t bytes) { return round == 0 ? bytes / 2 : bytes - bytes / 2; };
  info.round = round;
  info.bytes = share(info.bytes);
  info.wire_bytes = share(wire_bytes);
  return info;
}

void count_parts(const StreamJob& job, const GroupState& group) {
  for (const StreamJob::Part& part : job.parts) {
    const int world_rank = group.members.ranks[static_cast<size_t>(part.peer)];
    if (!part.receive)
      group.traffic->sent_bytes[static_cast<size_t>(world_rank)] += part.elements * bytes_of(job.type);
  }
}

}  // namespace

NcclCommunicator::NcclCommunicator(Device& device, Queue queue, std::string axis,
                                   std::shared_ptr<const GroupState> group, schedule::GroupShape shape,
                                   std::shared_ptr<StreamCollectives> library, GroupOptions options)
    : device_(device),
      queue_(queue),
      axis_(std::move(axis)),
      group_(std::move(group)),
      shape_(shape),
      library_(std::move(library)),
      options_(std::move(options)) {
  require(shape_.size() == size(), "a group's shape has as many places as the group has ranks");
  if (options_.deterministic) require_power_of_two(axis_, size());
}

CollectiveInfo NcclCommunicator::describe(std::string operation, DType type, int64_t bytes,
                                          const CollectiveLabel& label) const {
  CollectiveInfo out;
  out.operation = std::move(operation);
  out.axis = axis_;
  out.tensor = label.tensor;
  out.bytes = out.wire_bytes = bytes;
  out.ranks = size();
  out.method = "nccl";
  out.phase = label.phase;
  out.type = type;
  return out;
}

void NcclCommunicator::issue(StreamJob job, const CollectiveInfo& info, std::span<const Operand> operands) {
  std::unique_ptr<Transfer> transfer;
  ++sequence_;
  if (library_ != nullptr) transfer = library_->transfer(std::move(job), sequence_, info);
  device_.transfer(std::move(transfer), operands, info, queue_);
}

void NcclCommunicator::count(HostJob::Operation operation, DType type, int64_t elements, int root) {
  HostJob job;
  job.operation = operation;
  job.type = type;
  job.elements = elements;
  job.root = root;
  toroid::count(job, group_->members, *group_->traffic);
}

void NcclCommunicator::launch(Call call, Phase phase) {
  call.phase = phase;
  device_.launch(call, queue_);
}

std::optional<NcclCommunicator::OwnSum> NcclCommunicator::own_sum(DType type, Combine how, Wire wire) const {
  if (how != Combine::sum || !is_float(type)) return std::nullopt;
  if (options_.deterministic) return OwnSum{op::RowOrder::tree, type};
  if (type != DType::f32) return std::nullopt;
  if (options_.sums_in_order && size() > 2) return OwnSum{};
  if (wire == Wire::bf16) return OwnSum{op::RowOrder::in_turn, DType::bf16};
  return std::nullopt;
}

Array NcclCommunicator::all_gather(Array in, const CollectiveLabel& label) {
  require(in.tensor.dense(), "what is gathered is dense");
  const Shape shape = in.tensor.shape.with_rows(in.tensor.rows() * size());
  // A share that lies in its place of an array for all of them is gathered there.
  const bool in_place = in.owner && in.owner.block() == in.tensor.block &&
                        in.tensor.block->bytes == in.tensor.bytes() * size() &&
                        in.tensor.offset_bytes == in.tensor.bytes() * rank();
  Array out;
  if (in_place) {
    out.owner = std::move(in.owner);
  } else {
    out.owner = device_.allocate(in.tensor.bytes() * size(), label.holder, queue_);
  }
  out.tensor = out.owner.view(in.tensor.type, shape);
  StreamJob job;
  job.operation = Operation::all_gather;
  job.type = in.tensor.type;
  job.elements = out.tensor.elements();
  job.in = in.tensor.data();
  job.out = out.tensor.data();
  count(HostJob::Operation::all_gather, job.type, job.elements);
  const std::array<Operand, 2> operands{Operand{out.tensor, in_place ? Access::inout : Access::out},
                                        Operand{in_place ? Tensor() : in.tensor, Access::in}};
  issue(std::move(job), describe("all_gather", in.tensor.type, out.tensor.bytes(), label), operands);
  return out;
}

void NcclCommunicator::add_up(const Tensor& whole, const Tensor& total, const OwnSum& how,
                              const CollectiveInfo& info) {
  Tensor source = whole;
  Buffer rounded, sums;
  if (whole.type != how.wire) {
    rounded = device_.allocate(whole.elements() * bytes_of(how.wire), "transfer", queue_);
    source = rounded.view(how.wire, whole.shape);
    launch(op::cast(whole, source), info.phase);
  }
  const int64_t mine = total.elements();
  const int64_t stride = (mine + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  const Buffer landing = device_.allocate(size() * stride * bytes_of(how.wire), "transfer", queue_);
  const Tensor rows = strided_rows(landing, how.wire, size(), mine, stride);
  StreamJob job;
  job.type = how.wire;
  for (int peer = 0; peer < size(); ++peer) {
    const int64_t first = boundary(whole.elements(), peer),
                  elements = boundary(whole.elements(), peer + 1) - first;
    if (elements > 0) job.parts.push_back(part_of(peer, false, source.slice_rows(first, elements)));
    if (mine > 0) job.parts.push_back({peer, true, rows.slice_rows(peer, 1).data(), mine});
  }
  count(HostJob::Operation::reduce_scatter, how.wire, whole.elements());
  const std::array<Operand, 2> operands{Operand{source, Access::in}, Operand{rows, Access::out}};
  issue(std::move(job), info, operands);
  if (mine == 0) return;
  Tensor sum = total;
  if (total.type != DType::f32) {
    sums = device_.allocate(mine * bytes_of(DType::f32), "transfer", queue_);
    sum = sums.view(DType::f32, {mine});
  }
  launch(op::sum_wires(rows, sum, how.order), info.phase);
  if (total.type != DType::f32) launch(op::cast(sum, total), info.phase);
}

Array NcclCommunicator::reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) {
  require(in.tensor.dense() && in.tensor.rows() % size() == 0,
          "what is scattered is dense and has as many rows for each rank");
  Array out;
  out.owner = device_.allocate(in.tensor.bytes() / size(), label.holder, queue_);
  out.tensor = out.owner.view(in.tensor.type, in.tensor.shape.with_rows(in.tensor.rows() / size()));
  const DType type = in.tensor.type;
  CollectiveInfo info = describe("reduce_scatter", type, in.tensor.bytes(), label);
  if (const auto how = own_sum(type, Combine::sum, wire)) {
    info.wire_bytes = in.tensor.elements() * bytes_of(how->wire);
    add_up(flat(in.tensor), flat(out.tensor), *how, info);
    return out;
  }
  StreamJob job;
  job.operation = Operation::reduce_scatter;
  job.type = type;
  job.elements = in.tensor.elements();
  job.in = in.tensor.data();
  job.out = out.tensor.data();
  count(HostJob::Operation::reduce_scatter, type, job.elements);
  const std::array<Operand, 2> operands{Operand{in.tensor, Access::in}, Operand{out.tensor, Access::out}};
  issue(std::move(job), info, operands);
  return out;
}

void NcclCommunicator::all_reduce(const Tensor& in_place, Combine combine, Wire wire,
                                  const CollectiveLabel& label) {
  require(in_place.dense(), "what is reduced is dense");
  CollectiveInfo info = describe("all_reduce", in_place.type, in_place.bytes(), label);
  if (const auto how = own_sum(in_place.type, combine, wire)) {
    const bool few = in_place.bytes() * size() <= kFewBytes;
    return few ? reduce_few(flat(in_place), *how, std::move(info))
               : reduce_at_owners(flat(in_place), *how, info);
  }
  StreamJob job;
  job.operation = Operation::all_reduce;
  job.type = in_place.type;
  job.how = combine;
  job.elements = in_place.elements();
  job.in = job.out = in_place.data();
  count(HostJob::Operation::all_reduce, in_place.type, job.elements);
  const Operand operand{in_place, Access::inout};
  issue(std::move(job), info, {&operand, 1});
}

void NcclCommunicator::reduce_few(const Tensor& in_place, const OwnSum& how, CollectiveInfo info) {
  const int64_t n = in_place.elements();
  const Buffer all = device_.allocate(in_place.bytes() * size(), "transfer", queue_);
  const Tensor rows = all.view(in_place.type, {size(), n});
  StreamJob job;
  job.operation = Operation::all_gather;
  job.type = in_place.type;
  job.elements = rows.elements();
  job.in = in_place.data();
  job.out = rows.data();
  info.wire_bytes = rows.bytes();
  count(HostJob::Operation::all_gather, in_place.type, job.elements);
  const std::array<Operand, 2> operands{Operand{in_place, Access::in}, Operand{rows, Access::out}};
  issue(std::move(job), info, operands);
  if (in_place.type == DType::f32) return launch(op::sum_wires(rows, in_place, how.order), info.phase);
  const Buffer sums = device_.allocate(n * bytes_of(DType::f32), "transfer", queue_);
  launch(op::sum_wires(rows, sums.view(DType::f32, {n}), how.order), info.phase);
  launch(op::cast(sums.view(DType::f32, {n}), in_place), info.phase);
}

void NcclCommunicator::reduce_at_owners(const Tensor& in_place, const OwnSum& how,
                                        const CollectiveInfo& info) {
  const int64_t n = in_place.elements();
  const auto part = [&](const Tensor& of, int rank) {
    const int64_t first = boundary(n, rank);
    return of.slice_rows(first, boundary(n, rank + 1) - first);
  };
  const int64_t wire_bytes = n * bytes_of(how.wire);
  add_up(in_place, part(in_place, rank()), how, half_of(info, 0, wire_bytes));
  // The sums travel as the summands did, and all ranks go on from the same numbers.
  Tensor spread = in_place;
  Buffer rounded;
  if (in_place.type != how.wire) {
    rounded = device_.allocate(n * bytes_of(how.wire), "transfer", queue_);
    spread = rounded.view(how.wire, {n});
    launch(op::cast(part(in_place, rank()), part(spread, rank())), info.phase);
  }
  StreamJob job;
  job.type = how.wire;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    const Tensor mine = part(spread, rank()), theirs = part(spread, peer);
    if (mine.elements() > 0) job.parts.push_back(part_of(peer, false, mine));
    if (theirs.elements() > 0) job.parts.push_back(part_of(peer, true, theirs));
  }
  count(HostJob::Operation::all_gather, how.wire, n);
  const Operand operand{spread, Access::inout};
  issue(std::move(job), half_of(info, 1, wire_bytes), {&operand, 1});
  if (in_place.type != how.wire) launch(op::cast(spread, in_place), info.phase);
}

void NcclCommunicator::broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) {
  require(in_place.dense() && root >= 0 && root < size(),
          "what is broadcast is dense, by a rank of the group");
  StreamJob job;
  job.operation = Operation::broadcast;
  job.type = in_place.type;
  job.elements = in_place.elements();
  job.root = root;
  job.in = job.out = in_place.data();
  count(HostJob::Operation::broadcast, job.type, job.elements, root);
  const Operand operand{in_place, Access::inout};
  issue(std::move(job), describe("broadcast", in_place.type, in_place.bytes(), label), {&operand, 1});
}

void NcclCommunicator::all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) {
  require(in.dense() && out.dense() && in.type == out.type && in.elements() == out.elements() &&
              in.elements() % size() == 0 && in.block != out.block,
          "all_to_all is between two dense arrays of one size, with as many elements for each rank");
  const int64_t share = in.elements() / size();
  StreamJob job;
  job.type = in.type;
  for (int peer = 0; peer < size() && share > 0; ++peer) {
    job.parts.push_back(part_of(peer, false, flat(in).slice_rows(peer * share, share)));
    job.parts.push_back(part_of(peer, true, flat(out).slice_rows(peer * share, share)));
  }
  count(HostJob::Operation::all_to_all, in.type, in.elements());
  const std::array<Operand, 2> operands{Operand{in, Access::in}, Operand{out, Access::out}};
  issue(std::move(job), describe("all_to_all", in.type, in.bytes(), label), operands);
}

void NcclCommunicator::exchange(const Tensor& tensor, int peer, bool receive, const CollectiveLabel& label) {
  require(tensor.dense() && peer >= 0 && peer < size() && peer != rank(),
          "a message is a dense tensor and goes to another rank of the group");
  const int world_rank = group_->members.ranks[static_cast<size_t>(peer)];
  const CollectiveInfo info =
      describe((receive ? "receive from rank " : "send to rank ") + std::to_string(world_rank), tensor.type,
               tensor.bytes(), label);
  StreamJob job;
  job.type = tensor.type;
  if (tensor.elements() > 0) job.parts.push_back(part_of(peer, receive, tensor));
  count_parts(job, *group_);
  std::unique_ptr<Transfer> transfer;
  if (library_ != nullptr) transfer = library_->transfer(std::move(job), 0, info);
  const Operand operand{tensor, receive ? Access::out : Access::in};
  device_.transfer(std::move(transfer), {&operand, 1}, info, queue_);
}

void NcclCommunicator::send(const Tensor& from, int peer, const CollectiveLabel& label) {
  exchange(from, peer, false, label);
}

void NcclCommunicator::receive(const Tensor& to, int peer, const CollectiveLabel& label) {
  exchange(to, peer, true, label);
}

Event NcclCommunicator::barrier(const CollectiveLabel& label) {
  if (!token_) token_ = device_.allocate(1, "transfer", queue_);
  const Tensor token = token_.view(DType::u8, {1});
  StreamJob job;
  job.operation = Operation::all_reduce;
  job.type = DType::u8;
  job.how = Combine::max;
  job.elements = 1;
  job.in = job.out = token.data();
  const Operand operand{token, Access::inout};
  issue(std::move(job), describe("barrier", DType::u8, 1, label), {&operand, 1});
  return device_.record(queue_);
}

Tensor NcclCommunicator::own(const Tensor& gathered) const {
  const int64_t rows = gathered.rows() / size();
  return gathered.slice_rows(rank() * rows, rows);
}

std::optional<schedule::Algorithm> NcclCommunicator::cut_by(const Tensor& whole) const {
  if (options_.cut == Cut::never || options_.deterministic || shape_.dimensions() > 1) return std::nullopt;
  if (options_.cut == Cut::by_rule && whole.rows() / size() < kFewestRows) return std::nullopt;
  return size() == 2 ? schedule::Algorithm::direct : schedule::Algorithm::bidirectional_ring;
}

const std::vector<Round>& NcclCommunicator::planned_rounds(schedule::Algorithm algorithm,
                                                           schedule::Operation operation) {
  std::vector<Round>& out = planned_[{algorithm.operator->(), operation}];
  if (out.empty()) out = rounds_of(schedule::plan(algorithm, operation, shape_, rank()), size());
  return out;
}

Array NcclCommunicator::all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) {
  require(in.tensor.dense(), "what is gathered is dense");
  const int64_t rows = in.tensor.rows();
  Tensor whole = in.tensor;  // for its shape
  whole.shape = in.tensor.shape.with_rows(rows * size());
  const auto algorithm = cut_by(whole);
  if (!algorithm) return Communicator::all_gather_beside(std::move(in), use, label);
  Array out;
  out.owner = device_.allocate(whole.bytes(), label.holder, queue_);
  out.owner.block()->cut(size());
  out.tensor = out.owner.view(whole.type, whole.shape);
  const auto rows_of = [&](int rank) { return out.tensor.slice_rows(rank * rows, rows); };
  device_.copy(rows_of(rank()), in.tensor, queue_);
  const std::vector<Round>& rounds = planned_rounds(*algorithm, schedule::Operation::all_gather);
  RoundInfo info(describe("all_gather", whole.type, whole.bytes(), label), whole.type, whole.type, *algorithm,
                 rounds.size());
  for (size_t r = 0; r < rounds.size(); ++r) {
    const schedule::Plan& plan = rounds[r].plan;
    StreamJob job;
    job.type = whole.type;
    std::vector<Operand> operands;
    for (const schedule::Move& move : plan.moves) {
      const Carried carried = carried_by(move, plan.chunks / size(), in.tensor.elements());
      const Tensor of_rank = rows_of(carried.rank);
      const Tensor part = flat(of_rank).slice_rows(carried.first, carried.elements);
      if (carried.elements > 0) job.parts.push_back(part_of(move.peer, move.receive, part));
      operands.push_back({of_rank, move.receive ? Access::out : Access::in});
    }
    count_parts(job, *group_);
    issue(std::move(job), info.of("all_gather", r), operands);
  }
  const int own = rank();
  // Of its own rows the same numbers are at hand, without waiting for their copy.
  OnceARank used(size(), [&](int rank) { use(rank == own ? in.tensor : rows_of(rank), rank * rows); });
  used.of({&own, 1});
  for (const Round& round : rounds) used.of(round.received);
  return out;
}

Array NcclCommunicator::reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                                              const CollectiveLabel& label) {
  require(in.tensor.dense() && in.tensor.rows() % size() == 0,
          "what is scattered is dense and has as many rows for each rank");
  const Tensor whole = in.tensor;
  const auto algorithm = cut_by(whole);
  if (!algorithm) return Communicator::reduce_scatter_beside(std::move(in), wire, make, label);
  require(in.owner.block() == whole.block && in.owner.bytes() == whole.bytes(),
          "what is scattered has memory of its own");
  in.owner.block()->cut(size());
  const int64_t rows = whole.rows() / size();
  const auto rows_of = [&](int rank) { return whole.slice_rows(rank * rows, rows); };
  const Tensor own = rows_of(rank());
  const DType wire_type = wire == Wire::bf16 && whole.type == DType::f32 ? DType::bf16 : whole.type;
  const std::vector<Round>& rounds = planned_rounds(*algorithm, schedule::Operation::reduce_scatter);
  size_t most = 0;
  for (const Round& round : rounds) most = std::max(most, round.plan.moves.size());
  Array out;
  out.owner = device_.allocate(own.bytes(), label.holder, queue_);
  out.tensor = out.owner.view(whole.type, own.shape);
  // A place for what each move brings, and for what it takes where that is rounded.
  const int64_t slot_elements = (own.elements() + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  const Buffer moved =
      device_.allocate(static_cast<int64_t>(most) * slot_elements * bytes_of(wire_type), "transfer", queue_);
  const auto slot = [&](size_t index, int64_t elements) {
    return moved.view(wire_type, {elements},
                      static_cast<int64_t>(index) * slot_elements * bytes_of(wire_type));
  };
  OnceARank made(size(), [&](int rank) { make(rows_of(rank), rank * rows); });
  RoundInfo info(describe("reduce_scatter", whole.type, whole.bytes(), label), whole.type, wire_type,
                 *algorithm, rounds.size());
  for (size_t r = 0; r < rounds.size(); ++r) {
    const Round& round = rounds[r];
    made.of(round.sent);
    StreamJob job;
    job.type = wire_type;
    std::vector<Operand> operands;
    std::vector<std::pair<Tensor, Tensor>> sums;
    for (size_t i = 0; i < round.plan.moves.size(); ++i) {
      const schedule::Move& move = round.plan.moves[i];
      const Carried carried = carried_by(move, round.plan.chunks / size(), own.elements());
      const Tensor part = flat(rows_of(carried.rank)).slice_rows(carried.first, carried.elements);
      Tensor sent = part;
      if (move.receive) {
        sent = slot(i, carried.elements);
        if (carried.elements > 0) sums.emplace_back(sent, part);
      } else if (wire_type != whole.type) {
        sent = slot(i, carried.elements);
        if (carried.elements > 0) launch(op::cast(part, sent), label.phase);
      }
      if (carried.elements > 0) job.parts.push_back(part_of(move.peer, move.receive, sent));
      operands.push_back({sent, move.receive ? Access::out : Access::in});
    }
    count_parts(job, *group_);
    issue(std::move(job), info.of("reduce_scatter", r), operands);
    made.of(round.received);
    for (const auto& [from, to] : sums) launch(op::add(from, to), label.phase);
  }
  const int last = rank();
  made.of({&last, 1});
  device_.copy(out.tensor, own, queue_);
  return out;
}

namespace {

class RecordedGroups final : public DeviceGroups {
 public:
  bool serves(const Device& device) const override { return device.name() == "recorder"; }
  std::unique_ptr<Communicator> make(Device& device, Queue queue, std::string axis,
                                     std::shared_ptr<const GroupState> state, schedule::GroupShape shape,
                                     const GroupOptions& options) override {
    return std::make_unique<NcclCommunicator>(device, queue, std::move(axis), std::move(state), shape,
                                              nullptr, options);
  }
  void stand_by(const std::string&) override {}
};

}  // namespace

std::shared_ptr<DeviceGroups> make_recorded_nccl_groups() {
  return std::make_shared<RecordedGroups>();
}

}  // namespace toroid
