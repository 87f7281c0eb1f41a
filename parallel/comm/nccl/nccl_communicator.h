// One axis of the mesh by the collectives of NCCL, on the stream of one queue of a GPU. Gathers, broadcasts
// and what moves pieces between ranks are NCCL's, and so are sums in fast mode: the same bits on every run,
// in an order that is NCCL's. What has an order of its own is sent to its owner, who adds up the ranks'
// pieces with our kernel on the same stream:
//   deterministic mode   as the balanced binary tree over the ranks, with nothing rounded on the way;
//   sums_in_order        ((0 + 1) + 2) + ..., of fp32 over more than two ranks;
//   a bf16 wire          each summand rounded once, added in fp32 in the order of the ranks; the sum of an
//                        all_reduce is rounded once more, where it is handed round.
// The bytes on the links are those of NCCL's own sums; staging memory is one array more. An all_reduce of few
// bytes gathers all of them on every rank instead, which adds them alike and rounds nothing.
//
// Collectives with work beside them are cut into the rounds of a ring as those of ScheduledCommunicator are;
// a round is sends and receives that go together. A maximum is NCCL's, which drops a NaN.
//
// Without a library the collectives are only recorded: a dry run then issues what a GPU would.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/op/wire.h"
#include "parallel/comm/nccl/stream_collectives.h"
#include "parallel/comm/round_by_round.h"
#include "parallel/comm/scheduled_communicator.h"
#include "parallel/comm/watch/watched_transfer.h"
#include "parallel/comm/world.h"

namespace toroid {

class NcclCommunicator final : public Communicator {
 public:
  // Of `options`, those on the order of sums and on cuts are kept. `library` of nullptr: only recorded.
  NcclCommunicator(Device& device, Queue queue, std::string axis, std::shared_ptr<const GroupState> group,
                   schedule::GroupShape shape, std::shared_ptr<StreamCollectives> library,
                   GroupOptions options);

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
  DType wire_type(DType, DType exact) const override { return exact; }
  Place place() const override { return {rank(), size()}; }
  std::string_view axis() const override { return axis_; }

 private:
  using Operation = StreamJob::Operation;
  int rank() const { return group_->members.place; }
  int size() const { return group_->members.size(); }
  // An array of `elements` is cut into the ranks' parts here.
  int64_t boundary(int64_t elements, int rank) const { return elements * rank / size(); }

  // How the owners of pieces add them up; nothing where the sum is NCCL's.
  struct OwnSum {
    op::RowOrder order = op::RowOrder::in_turn;
    DType wire = DType::f32;  // in which the pieces travel
  };
  std::optional<OwnSum> own_sum(DType type, Combine how, Wire wire) const;
  CollectiveInfo describe(std::string operation, DType type, int64_t bytes,
                          const CollectiveLabel& label) const;
  void issue(StreamJob job, const CollectiveInfo& info, std::span<const Operand> operands);
  void count(HostJob::Operation operation, DType type, int64_t elements, int root = 0);
  void launch(Call call, Phase phase);
  // Sends each rank its part of `whole` and adds up those that come for this one into `total`, of fp32.
  void add_up(const Tensor& whole, const Tensor& total, const OwnSum& how, const CollectiveInfo& info);
  void reduce_few(const Tensor& in_place, const OwnSum& how, CollectiveInfo info);
  void reduce_at_owners(const Tensor& in_place, const OwnSum& how, const CollectiveInfo& info);
  void exchange(const Tensor& tensor, int peer, bool receive, const CollectiveLabel& label);
  std::optional<schedule::Algorithm> cut_by(const Tensor& whole) const;
  const std::vector<Round>& planned_rounds(schedule::Algorithm algorithm, schedule::Operation operation);

  Device& device_;
  Queue queue_;
  std::string axis_;
  std::shared_ptr<const GroupState> group_;
  schedule::GroupShape shape_;
  std::shared_ptr<StreamCollectives> library_;
  GroupOptions options_;
  uint64_t sequence_ = 0;
  Buffer token_;  // what a barrier reduces
  std::map<std::pair<const schedule::AlgorithmDescription*, schedule::Operation>, std::vector<Round>>
      planned_;
};

// The groups of a dry run: what NCCL would carry out, for a device that records.
std::shared_ptr<DeviceGroups> make_recorded_nccl_groups();

}  // namespace toroid
