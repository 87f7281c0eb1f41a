#include "parallel/comm/scheduled_communicator.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "parallel/comm/chained_transfer.h"
#include "parallel/comm/traffic.h"
#include "parallel/schedule/algorithm.h"

namespace toroid {
namespace {

using schedule::Algorithm;
using schedule::Operation;
using schedule::sums;

constexpr int64_t kGatheredByRelay = int64_t{4} << 20;

// Where ranks that share cores were measured to relay more quickly than they read: 4 of them on two cores. On
// cores of their own they read more quickly (docs/performance.md).
bool relays_first(Operation operation, int ranks, int64_t bytes) {
  return ranks > 2 && bytes <= (operation == Operation::all_gather ? kGatheredByRelay : schedule::kFewBytes);
}

// Several hosts with several ranks each, one host's after the other's.
bool spans_hosts(const GroupMembers& members) {
  return members.host_by_host && members.per_host > 1 && members.per_host < members.size();
}

HostJob::Operation host_operation(Operation operation) {
  switch (operation) {
    case Operation::all_gather:
      return HostJob::Operation::all_gather;
    case Operation::reduce_scatter:
      return HostJob::Operation::reduce_scatter;
    case Operation::all_reduce:
      return HostJob::Operation::all_reduce;
    case Operation::broadcast:
      return HostJob::Operation::broadcast;
    case Operation::all_to_all:
      return HostJob::Operation::all_to_all;
  }
  throw InternalError("an unknown operation");
}

}  // namespace

void require_power_of_two(const std::string& axis, int ranks) {
  if (schedule::power_of_two(ranks)) return;
  throw UserError("deterministic mode sums over powers of two, and axis " + axis + " has " +
                  std::to_string(ranks) +
                  " ranks; choose a mesh whose axes are powers of two, or switch `deterministic` off");
}

// One collective, before it is known how it is carried out.
struct ScheduledCommunicator::Work {
  Operation operation = Operation::all_reduce;
  bool barrier = false;
  Tensor in, out;  // out may be in
  int64_t elements = 0;
  DType type = DType::u8;
  Combine how = Combine::sum;
  bool bf16_wire = false;
  int root = 0;
};

ScheduledCommunicator::ScheduledCommunicator(Device& device, Queue queue, std::string axis,
                                             std::shared_ptr<const GroupState> group,
                                             schedule::GroupShape shape, Transports transports,
                                             const GroupOptions& options)
    : device_(device),
      queue_(queue),
      axis_(std::move(axis)),
      group_(std::move(group)),
      shape_(shape),
      transports_(std::move(transports)),
      options_(options) {
  require(shape_.size() == members().size(), "a group's shape has as many places as the group has ranks");
  if (!members().on_one_host() || members().size() > Relay::kMostRanks) transports_.relay = nullptr;
  if (options_.deterministic) require_power_of_two(axis_, members().size());
  if (!spans_hosts(members())) return;
  auto unwatched = std::make_shared<GroupState>(*group_);
  unwatched->watch = nullptr;
  auto on_host = std::make_shared<GroupState>(*unwatched);
  GroupMembers& local = on_host->members;
  local.first = local.place / local.per_host * local.per_host;
  local.place -= local.first;
  const auto keep = [&](std::vector<int>& of) {
    of = std::vector<int>(of.begin() + local.first, of.begin() + local.first + local.per_host);
  };
  keep(local.ranks);
  keep(local.slots);
  unwatched_ = std::move(unwatched);
  on_host_ = std::move(on_host);
}

CollectiveInfo ScheduledCommunicator::describe(std::string operation, int64_t bytes,
                                               const CollectiveLabel& label) const {
  CollectiveInfo out;
  out.operation = std::move(operation);
  out.axis = axis_;
  out.tensor = label.tensor;
  out.bytes = out.wire_bytes = bytes;
  out.ranks = members().size();
  out.phase = label.phase;
  return out;
}

// The number under which the messages of a call travel. Calls of other operations or tensors have others (but
// for one pair in 512), so that ranks which are out of step wait and are named instead of summing what does
// not belong together. Below 2^15, MPI's smallest largest tag.
int ScheduledCommunicator::channel_of(const CollectiveInfo& info) const {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const std::string* text : {&info.operation, &info.tensor}) {
    for (const char c : *text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    hash *= 16777619u;
  }
  static_assert(2 * Board::kContexts * 512 == 1 << 15);
  return static_cast<int>((hash >> 23) * (2 * Board::kContexts)) + 2 * members().context;
}

// One piece of memory serves all calls: they follow each other on the queue.
Tensor ScheduledCommunicator::staging(int64_t bytes) {
  if (bytes == 0) return {};
  if (staging_.bytes() < bytes) {
    staging_.release();
    staging_ = device_.allocate(bytes, "transfer", queue_);
  }
  return staging_.view(DType::u8, {bytes});
}

// Without ticket and staging.
HostJob ScheduledCommunicator::host_job(const Work& work) const {
  HostJob job;
  job.operation = work.barrier ? HostJob::Operation::barrier : host_operation(work.operation);
  job.type = work.type;
  job.how = work.how;
  job.elements = work.elements;
  job.root = work.root;
  job.in = work.in.data();
  job.out = work.out.data();
  job.checks = checks();
  return job;
}

WireChecks* ScheduledCommunicator::checks() const {
  return group_->checks != nullptr && group_->checks->takes(sequence_) ? group_->checks.get() : nullptr;
}

std::unique_ptr<Transfer> ScheduledCommunicator::by_host(const Work& work, Method method,
                                                         std::vector<Operand>& operands,
                                                         CollectiveInfo info) {
  HostJob job = host_job(work);
  count(job, members(), *group_->traffic);
  if (method.by == Method::By::library) {
    if (transports_.library == nullptr) return nullptr;
    return std::make_unique<LibraryTransfer>(group_, sequence_, std::move(info), transports_.library, job);
  }
  if (method.by == Method::By::relay) {
    job.ticket = rounds_ + 1;
    rounds_ += static_cast<uint64_t>(relay_rounds(job, members().size(), *transports_.relay));
    if (transports_.board == nullptr) return nullptr;
    return std::make_unique<RelayTransfer>(group_, sequence_, std::move(info), *transports_.board,
                                           *transports_.relay, job);
  }
  job.ticket = ++ticket_;
  if (job.operation == HostJob::Operation::all_reduce) ++ticket_;
  const Tensor scratch = staging(host_staging_bytes(job, members().size()));
  if (scratch) operands.push_back({scratch, Access::inout});
  job.staging = scratch.data();
  if (transports_.board == nullptr) return nullptr;
  return std::make_unique<HostTransfer>(group_, sequence_, std::move(info), *transports_.board,
                                        *transports_.memory, job);
}

// Sums within the host, then between hosts; gathers the other way round.
std::unique_ptr<Transfer> ScheduledCommunicator::by_hosts(const Work& work, std::vector<Operand>& operands,
                                                          CollectiveInfo info) {
  const int per_host = members().per_host;
  const bool gathers = work.operation != Operation::reduce_scatter;
  HostJob sum = host_job(work), spread = host_job(work);
  sum.operation = HostJob::Operation::sum;
  spread.operation = HostJob::Operation::spread;
  spread.in = spread.out;
  sum.places = spread.places = members().size();
  MessageJob between = message_job(
      work,
      schedule::plan_between_hosts(work.operation, members().size() / per_host, per_host, members().place));
  between.segment_bytes = segment_bytes_for(Algorithm::ring, members().size());
  int64_t needed = staging_bytes(between);
  if (sums(work.operation)) needed = std::max(needed, host_staging_bytes(sum, per_host));
  if (gathers) needed = std::max(needed, host_staging_bytes(spread, per_host));
  const Tensor scratch = staging(needed);
  if (scratch) operands.push_back({scratch, Access::inout});
  sum.staging = spread.staging = between.staging = scratch.data();
  count(between, members(), *group_->traffic);
  std::vector<std::unique_ptr<WatchedTransfer>> parts;
  const bool recorded = transports_.board == nullptr;
  const auto add_host_part = [&](HostJob& job) {
    count(job, on_host_->members, *group_->traffic);
    job.ticket = ++ticket_;
    if (recorded) return;
    parts.push_back(std::make_unique<HostTransfer>(on_host_, sequence_, info, *transports_.board,
                                                   *transports_.memory, job));
  };
  if (sums(work.operation)) add_host_part(sum);
  if (!recorded) {
    parts.push_back(std::make_unique<MessageTransfer>(unwatched_, sequence_, info, *transports_.transport,
                                                      channel_of(info), std::move(between)));
  }
  if (gathers) add_host_part(spread);
  if (recorded) return nullptr;
  return std::make_unique<ChainedTransfer>(group_, sequence_, std::move(info), std::move(parts));
}

bool ScheduledCommunicator::serves(const Method& method, Operation operation, int64_t bytes, DType type,
                                   Combine how) const {
  const bool given = options_.deterministic && sums(operation);  // the order of sums is
  switch (method.by) {
    case Method::By::messages:
      return !given && schedule::serves(method.algorithm, operation, shape_);
    case Method::By::read:
      return transports_.memory != nullptr && members().on_one_host();
    case Method::By::relay:
      return transports_.relay != nullptr;
    case Method::By::hierarchical:
      return transports_.every_host_reads && spans_hosts(members()) &&
             (operation == Operation::all_gather || sums(operation));
    case Method::By::library:
      return !given && checks() == nullptr && transports_.has_library &&
             (transports_.library == nullptr ||
              transports_.library->serves(operation, type, how, bytes / bytes_of(type)));
  }
  return false;
}

bool ScheduledCommunicator::in_order(Operation operation, DType type, Combine how) const {
  return options_.sums_in_order && !options_.deterministic && sums(operation) && type == DType::f32 &&
         how == Combine::sum && members().size() > 2;
}

Method ScheduledCommunicator::method_of(Operation operation, int64_t bytes, DType type, Combine how) const {
  const auto has = [&](const Method& method) { return serves(method, operation, bytes, type, how); };
  const Method rule = schedule::automatic_algorithm(operation, shape_, bytes, options_.deterministic);
  if (in_order(operation, type, how)) return Algorithm::direct;
  if (options_.method) return has(*options_.method) ? *options_.method : rule;
  const Choice* const choice = options_.deterministic ? nullptr
                                                      : choose(options_.choices, operation, members().size(),
                                                               members().per_host, bytes);
  if (choice != nullptr && has(choice->method)) return choice->method;
  if (transports_.crowded && relays_first(operation, members().size(), bytes) && has(Method::By::relay))
    return Method::By::relay;
  for (const Method::By host : {Method::By::read, Method::By::relay}) {
    if (has(host)) return host;
  }
  return rule;
}

// Partial sums that are read in place, or that the transport adds, do not travel as bf16.
bool ScheduledCommunicator::rounds_on_the_way(const Work& work, const Method& method) const {
  const bool sends = method.by == Method::By::messages || method.by == Method::By::hierarchical;
  return sends && work.bf16_wire && work.type == DType::f32 && !options_.deterministic;
}

MessageJob ScheduledCommunicator::message_job(const Work& work, schedule::Plan plan) const {
  MessageJob job;
  job.plan = std::move(plan);
  job.type = work.type;
  job.elements = work.elements;
  job.how = work.how;
  job.bf16_wire = rounds_on_the_way(work, Method::By::hierarchical);
  job.checks = checks();
  job.sent = work.in.data();
  job.received = work.out.data();
  const int64_t share = work.elements / members().size() * bytes_of(work.type);
  if (work.operation == Operation::all_gather) {
    std::byte* const whole = work.out.data();
    job.sent = whole;
    if (whole != nullptr) job.before = {whole + members().place * share, work.in.data(), share};
  } else if (work.operation == Operation::reduce_scatter) {
    job.received = work.in.data();
    if (job.received != nullptr) job.after = {work.out.data(), job.received + members().place * share, share};
  } else if (work.operation == Operation::all_to_all && job.sent != nullptr) {
    job.before = {job.received + members().place * share, job.sent + members().place * share, share};
  }
  return job;
}

const schedule::Plan& ScheduledCommunicator::planned(Algorithm algorithm, Operation operation, int root) {
  const std::tuple key{algorithm.operator->(), operation, root};
  const auto known = planned_.find(key);
  if (known != planned_.end()) return known->second;
  return planned_.emplace(key, schedule::plan(algorithm, operation, shape_, members().place, root))
      .first->second;
}

std::unique_ptr<Transfer> ScheduledCommunicator::by_messages(const Work& work, Algorithm algorithm,
                                                             std::vector<Operand>& operands,
                                                             CollectiveInfo info) {
  const GroupMembers& group = members();
  MessageJob job = message_job(work, in_order(work.operation, work.type, work.how)
                                         ? schedule::plan_in_order(work.operation, group.size(), group.place)
                                         : planned(algorithm, work.operation, work.root));
  job.segment_bytes = segment_bytes_for(algorithm, members().size());
  count(job, members(), *group_->traffic);
  const Tensor scratch = staging(staging_bytes(job));
  if (scratch) operands.push_back({scratch, Access::inout});
  job.staging = scratch.data();
  if (transports_.transport == nullptr) return nullptr;
  const int channel = channel_of(info);
  return std::make_unique<MessageTransfer>(group_, sequence_, std::move(info), *transports_.transport,
                                           channel, std::move(job));
}

void ScheduledCommunicator::issue(Work work, std::string operation, const CollectiveLabel& label) {
  ++sequence_;
  std::vector<Operand> operands;
  const bool same = work.in.block == work.out.block;
  if (same && work.in) {
    operands.push_back({work.out, Access::inout});
  } else if (work.in) {
    operands.push_back({work.in, sums(work.operation) ? Access::inout : Access::in});
    operands.push_back({work.out, Access::out});
  }
  CollectiveInfo said = describe(std::move(operation), work.elements * bytes_of(work.type), label);
  said.type = work.type;
  const Method method = method_of(work.operation, said.bytes, work.type, work.how);
  said.method = name(method);
  if (rounds_on_the_way(work, method)) said.wire_bytes = work.elements * bytes_of(DType::bf16);
  std::unique_ptr<Transfer> transfer;
  switch (method.by) {
    case Method::By::messages:
      transfer = by_messages(work, method.algorithm, operands, said);
      break;
    case Method::By::hierarchical:
      transfer = by_hosts(work, operands, said);
      break;
    default:
      transfer = by_host(work, method, operands, said);
  }
  device_.transfer(std::move(transfer), operands, said, queue_);
}

Array ScheduledCommunicator::all_gather(Array in, const CollectiveLabel& label) {
  const int size = members().size();
  require(in.tensor.dense(), "what is gathered is dense");
  Work work;
  work.operation = Operation::all_gather;
  work.in = in.tensor;
  work.type = in.tensor.type;
  work.elements = in.tensor.elements() * size;
  const Shape shape = in.tensor.shape.with_rows(in.tensor.rows() * size);
  // A share that lies in its place of an array for all of them is gathered there.
  const bool in_place = in.owner && in.owner.block() == in.tensor.block &&
                        in.tensor.block->bytes == in.tensor.bytes() * size &&
                        in.tensor.offset_bytes == in.tensor.bytes() * members().place;
  Array out;
  if (in_place) {
    out.owner = std::move(in.owner);
  } else {
    out.owner = device_.allocate(in.tensor.bytes() * size, label.holder, queue_);
  }
  out.tensor = out.owner.view(in.tensor.type, shape);
  work.out = out.tensor;
  issue(std::move(work), "all_gather", label);
  return out;
}

Array ScheduledCommunicator::reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) {
  const int size = members().size();
  require(in.tensor.dense() && in.tensor.rows() % size == 0,
          "what is scattered is dense and has as many rows for each rank");
  Array out;
  const Shape shape = in.tensor.shape.with_rows(in.tensor.rows() / size);
  out.owner = device_.allocate(in.tensor.bytes() / size, label.holder, queue_);
  out.tensor = out.owner.view(in.tensor.type, shape);
  Work work;
  work.operation = Operation::reduce_scatter;
  work.in = in.tensor;
  work.out = out.tensor;
  work.type = in.tensor.type;
  work.elements = in.tensor.elements();
  work.bf16_wire = wire == Wire::bf16;
  issue(std::move(work), "reduce_scatter", label);
  return out;
}

void ScheduledCommunicator::all_reduce(const Tensor& in_place, Combine how, Wire wire,
                                       const CollectiveLabel& label) {
  require(in_place.dense(), "what is reduced is dense");
  Work work;
  work.operation = Operation::all_reduce;
  work.in = work.out = in_place;
  work.type = in_place.type;
  work.elements = in_place.elements();
  work.how = how;
  work.bf16_wire = wire == Wire::bf16;
  issue(std::move(work), "all_reduce", label);
}

void ScheduledCommunicator::broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) {
  require(in_place.dense() && root >= 0 && root < members().size(),
          "what is broadcast is dense, by a rank of the group");
  Work work;
  work.operation = Operation::broadcast;
  work.in = work.out = in_place;
  work.type = in_place.type;
  work.elements = in_place.elements();
  work.root = root;
  issue(std::move(work), "broadcast", label);
}

void ScheduledCommunicator::all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) {
  const int size = members().size();
  require(in.dense() && out.dense() && in.type == out.type && in.elements() == out.elements() &&
              in.elements() % size == 0 && in.block != out.block,
          "all_to_all is between two dense arrays of one size, with as many elements for each rank");
  Work work;
  work.operation = Operation::all_to_all;
  work.in = in;
  work.out = out;
  work.type = in.type;
  work.elements = in.elements();
  issue(std::move(work), "all_to_all", label);
}

void ScheduledCommunicator::exchange(const Tensor& tensor, int peer, bool receive,
                                     const CollectiveLabel& label) {
  require(tensor.dense() && peer >= 0 && peer < members().size() && peer != members().place,
          "a message is a dense tensor and goes to another rank of the group");
  MessageJob job;
  job.plan.chunks = 1;
  job.plan.rounds = 1;
  schedule::Move move;
  move.peer = peer;
  move.receive = receive;
  move.count = 1;
  job.plan.moves.push_back(move);
  job.type = tensor.type;
  job.elements = tensor.elements();
  job.sent = job.received = tensor.data();
  job.segment_bytes = segment_bytes_for(Algorithm::direct, 1);
  job.checks = group_->checks.get();
  count(job, members(), *group_->traffic);
  const CollectiveInfo said = describe((receive ? "receive from rank " : "send to rank ") +
                                           std::to_string(members().ranks[static_cast<size_t>(peer)]),
                                       tensor.bytes(), label);
  std::unique_ptr<Transfer> transfer;
  if (transports_.transport != nullptr) {
    transfer = std::make_unique<MessageTransfer>(group_, 0, said, *transports_.transport,
                                                 2 * members().context + 1, std::move(job));
  }
  const Operand operand{tensor, receive ? Access::out : Access::in};
  device_.transfer(std::move(transfer), {&operand, 1}, said, queue_);
}

void ScheduledCommunicator::send(const Tensor& from, int peer, const CollectiveLabel& label) {
  exchange(from, peer, false, label);
}

void ScheduledCommunicator::receive(const Tensor& to, int peer, const CollectiveLabel& label) {
  exchange(to, peer, true, label);
}

// As messages it is a reduction of one byte a rank.
Event ScheduledCommunicator::barrier(const CollectiveLabel& label) {
  Work work;
  work.barrier = true;
  work.type = DType::u8;
  work.how = Combine::max;
  work.elements = members().size();
  const Method::By by = method_of(work.operation, work.elements, work.type, work.how).by;
  if (by == Method::By::messages || by == Method::By::hierarchical) {
    if (!token_) token_ = device_.allocate(members().size(), "transfer", queue_);
    work.in = work.out = token_.view(DType::u8, {members().size()});
  }
  issue(std::move(work), "barrier", label);
  return device_.record(queue_);
}

Tensor ScheduledCommunicator::own(const Tensor& gathered) const {
  const int64_t rows = gathered.rows() / members().size();
  return gathered.slice_rows(members().place * rows, rows);
}

DType ScheduledCommunicator::wire_type(DType, DType exact) const {
  return exact;
}

}  // namespace toroid
