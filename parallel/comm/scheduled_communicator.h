// One axis of the mesh over any transport. Each operation becomes a transfer on the group's queue, or, where
// there is work beside it, one for each round of a ring (round_by_round.h):
//   read      ranks of one host read each other's arrays (host_transfer.h);
//   relay     a few ranks of one host, through memory that all map (relay_transfer.h);
//   hierarchical  ranks of a host read, and each exchanges its part with those that have its place on the
//                 other hosts, by messages: as many bytes leave a host as must;
//   library   the transport itself, whose bytes nobody checks (library_transfer.h);
//   messages  a schedule's moves (message_transfer.h).
// Where nothing else is asked for or measured to be better, ranks of a host read; where they must not, they
// relay; all others send messages, by an algorithm that suits size and shape. On a device without numbers
// there is neither; the collective is only recorded.
//
// reduce_scatter uses up its input. A bf16 wire rounds the partial sums of fp32 arrays once a hop: with n
// ranks the result is off by at most h 2^-9 (|x1| + ... + |xn|), h = n - 1 hops one way round or on a line,
// n/2 both ways round a ring, log2 n in a tree, one more where the sum is handed round; within a host nothing
// is rounded, since partial sums do not travel.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/comm/communicator.h"
#include "parallel/comm/choice.h"
#include "parallel/comm/library_transfer.h"
#include "parallel/comm/messages/message_transfer.h"
#include "parallel/comm/messages/transport.h"
#include "parallel/comm/round_by_round.h"
#include "parallel/comm/watch/watched_transfer.h"
#include "parallel/comm/within_host/host_transfer.h"
#include "parallel/comm/within_host/relay_transfer.h"
#include "parallel/schedule/schedule.h"

namespace toroid {

struct GroupOptions {
  // Sums are balanced binary trees over the ranks in order, and nothing is rounded on the way. Takes a group
  // of a power of two.
  bool deterministic = false;
  // As far as the group has it and it serves the operation.
  std::optional<Method> method = {};
  // Measured, the same on all ranks of the group; asked where neither of the above decides.
  std::vector<Choice> choices = {};
  // Sums of fp32 over more than two ranks are taken in their order, ((0 + 1) + 2) + ..., by messages,
  // whatever is chosen above: the same bits over any transport. Deterministic mode has an order of its own,
  // two summands have one, and what is rounded on the way has none.
  bool sums_in_order = false;
  // Of collectives with work beside them. Not in deterministic mode, whose sums are trees.
  Cut cut = Cut::never;
};

// UserError where deterministic mode cannot sum over so many.
void require_power_of_two(const std::string& axis, int ranks);

class ScheduledCommunicator final : public Communicator {
 public:
  // What moves the bytes; borrowed. Neither transport nor board: the collective is only recorded.
  struct Transports {
    Transport* transport = nullptr;
    Board* board = nullptr;              // of ranks on this host
    const PeerMemory* memory = nullptr;  // nullptr: memory cannot be read across ranks
    const Relay* relay = nullptr;        // nullptr: there is no memory that all ranks of the host map
    bool every_host_reads = false;       // `memory` is there on all of them
    bool has_library = false;
    bool crowded = false;                                   // the host has more ranks than cores
    std::shared_ptr<LibraryCollectives> library = nullptr;  // of this group; nullptr: only recorded
  };
  ScheduledCommunicator(Device& device, Queue queue, std::string axis,
                        std::shared_ptr<const GroupState> group, schedule::GroupShape shape,
                        Transports transports, const GroupOptions& options);

  Array all_gather(Array in, const CollectiveLabel& label) override;
  Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) override;
  Array all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) override;
  Array reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                              const CollectiveLabel& label) override;
  void all_reduce(const Tensor& in_place, Combine how, Wire wire, const CollectiveLabel& label) override;
  void broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) override;
  void all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) override;
  void send(const Tensor& from, int peer, const CollectiveLabel& label) override;
  void receive(const Tensor& to, int peer, const CollectiveLabel& label) override;
  Event barrier(const CollectiveLabel& label) override;

  Tensor own(const Tensor& gathered) const override;
  DType wire_type(DType compute, DType exact) const override;
  // How an operation on an array of `bytes` in all is carried out.
  Method method_of(schedule::Operation operation, int64_t bytes, DType type = DType::f32,
                   Combine how = Combine::sum) const;
  Place place() const override { return {members().place, members().size()}; }
  std::string_view axis() const override { return axis_; }

 private:
  struct Work;
  const GroupMembers& members() const { return group_->members; }
  CollectiveInfo describe(std::string operation, int64_t bytes, const CollectiveLabel& label) const;
  void issue(Work work, std::string operation, const CollectiveLabel& label);
  int channel_of(const CollectiveInfo& info) const;
  // In round_by_round.cpp. The algorithm whose rounds are issued one by one, where they are.
  std::optional<schedule::Algorithm> cut_by(schedule::Operation operation, const Tensor& whole) const;
  const std::vector<Round>& planned_rounds(schedule::Algorithm algorithm, schedule::Operation operation);
  void issue_round(MessageJob job, std::vector<Operand> operands, schedule::Algorithm algorithm,
                   const CollectiveInfo& said);
  bool serves(const Method& method, schedule::Operation operation, int64_t bytes, DType type,
              Combine how) const;
  // Whether the order of its sums is that of the ranks.
  bool in_order(schedule::Operation operation, DType type, Combine how) const;
  std::unique_ptr<Transfer> by_messages(const Work& work, schedule::Algorithm algorithm,
                                        std::vector<Operand>& operands, CollectiveInfo info);
  std::unique_ptr<Transfer> by_host(const Work& work, Method method, std::vector<Operand>& operands,
                                    CollectiveInfo info);
  std::unique_ptr<Transfer> by_hosts(const Work& work, std::vector<Operand>& operands, CollectiveInfo info);
  HostJob host_job(const Work& work) const;
  WireChecks* checks() const;  // of the call under way; nullptr: it is not checked
  bool rounds_on_the_way(const Work& work, const Method& method) const;
  MessageJob message_job(const Work& work, schedule::Plan plan) const;
  const schedule::Plan& planned(schedule::Algorithm algorithm, schedule::Operation operation, int root);
  Tensor staging(int64_t bytes);
  void exchange(const Tensor& tensor, int peer, bool receive, const CollectiveLabel& label);

  Device& device_;
  Queue queue_;
  std::string axis_;
  std::shared_ptr<const GroupState> group_;
  // The same without a watch, and of the ranks of this host alone: for the parts of a hierarchical
  // collective.
  std::shared_ptr<const GroupState> unwatched_, on_host_;
  schedule::GroupShape shape_;
  Transports transports_;
  GroupOptions options_;
  uint64_t sequence_ = 0, ticket_ = 0;
  uint64_t rounds_ = 0;  // of the relay, so far
  Buffer staging_;       // as large as any call has needed so far
  Buffer token_;         // what a barrier sends
  // Every layer asks for the same plans again.
  using Planner = const schedule::AlgorithmDescription*;
  std::map<std::tuple<Planner, schedule::Operation, int>, schedule::Plan> planned_;
  std::map<std::pair<Planner, schedule::Operation>, std::vector<Round>> planned_rounds_;
};

}  // namespace toroid
