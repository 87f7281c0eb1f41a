// All ranks of a job, and the groups that they form. Every rank makes the same groups in the same order (of
// those that it is in), so that the groups' numbers agree without a word.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/comm/communicator.h"
#include "core/device/cpu/allocator.h"
#include "core/device/cpu/transfer_thread.h"
#include "parallel/comm/host_exchange.h"
#include "parallel/comm/scheduled_communicator.h"
#include "parallel/comm/traffic.h"

namespace toroid {

// Makes groups whose collectives a library of the device carries out on the device's own queues.
class DeviceGroups {
 public:
  virtual ~DeviceGroups() = default;
  // Whether it is for this device.
  virtual bool serves(const Device& device) const = 0;
  virtual std::unique_ptr<Communicator> make(Device& device, Queue queue, std::string axis,
                                             std::shared_ptr<const GroupState> state,
                                             schedule::GroupShape shape, const GroupOptions& options) = 0;
  // In place of that on a rank that is alone in its group: others of the world may make theirs.
  virtual void stand_by(const std::string& axis) = 0;
};

class World {
 public:
  virtual ~World();
  int rank() const { return rank_; }
  int size() const { return size_; }
  // Ranks whose processes are on this rank's host, this one among them, in order.
  const std::vector<int>& host_ranks() const { return host_ranks_; }
  // Whether the host has fewer cores than ranks.
  bool crowded() const { return crowded_; }

  // The group of `world_ranks`, in that order; this rank is one of them. Its collectives run on `queue`.
  // A group of one needs none of this and is make_group_of_one()'s.
  // Not while transfers are under way: a group that uses the transport's own collectives waits for its peers.
  std::unique_ptr<Communicator> group(Device& device, Queue queue, std::string axis,
                                      const std::vector<int>& world_ranks, schedule::GroupShape shape,
                                      const GroupOptions& options = {});
  // From now on `groups` makes the groups of the devices that it serves. All ranks of the world then make as
  // many groups on such a device, in the same order.
  void carry_out_by(std::shared_ptr<DeviceGroups> groups) { device_groups_ = std::move(groups); }
  // From now on groups check what their ranks receive of each other, of one collective in `every`. All ranks
  // of the world call it among the groups that they make; `hosts`: theirs, by name.
  void check_wire(int64_t every, std::vector<std::string> hosts);
  const WireChecks* wire_checks() const { return checks_.get(); }  // nullptr: there are none
  // Where this rank's device takes memory from that its peers on the host read in place; nullptr: there is
  // none.
  virtual std::shared_ptr<cpu::PageSource> pages() { return nullptr; }
  // The thread that serves this rank's transfers; nullptr where it has no peers.
  virtual std::shared_ptr<cpu::TransferThread> transfers() { return nullptr; }
  // What the ranks tell each other beside their devices. All of them call it for the first time at one place
  // among the groups that they make.
  HostExchange& exchange();
  // How many of these ranks each host has; 0 where not all have as many. The same on every rank.
  int ranks_per_host(const std::vector<int>& world_ranks) const;

  // How long the transport's own version of a collective takes, over all ranks, called without anything of
  // ours around it: what ours are measured against. Nothing where it has none; a few calls are timed as one.
  struct LibraryCall {
    schedule::Operation operation = schedule::Operation::all_reduce;
    int64_t elements = 0;  // fp32, of the whole array
    float* in = nullptr;   // the rank's share of an all_gather, else the whole array
    float* out = nullptr;  // the whole array, of a reduce_scatter the share; `in` where it is in place
    int calls = 1;
  };
  virtual std::optional<Seconds> time_library(const LibraryCall&) { return std::nullopt; }
  // Which the ranks of this host ring; nullptr where there are none. Not longer than this world.
  std::shared_ptr<cpu::Bell> bell() const;
  // How long a rank waits for its peers.
  Seconds deadline() const;
  // What the steps of a run show of that shortens it (Watch::learn).
  void learn_deadlines(Seconds floor);
  // What the groups of this world have sent, on this rank.
  const Traffic& traffic() const { return *traffic_; }
  // How reports name this rank: "data 3, model 1".
  void describe(const std::string& coordinate);
  // Ends the whole job, at once.
  [[noreturn]] virtual void abort(ExitCode code);

 protected:
  World(int rank, int size, std::vector<int> host_ranks);
  // What carries out the collectives of a group of several ranks; the default plays schedules over
  // transports().
  virtual std::unique_ptr<Communicator> make_group(Device& device, Queue queue, std::string axis,
                                                   std::shared_ptr<const GroupState> state,
                                                   schedule::GroupShape shape, const GroupOptions& options);
  // Where a group's bytes go; the default is nowhere.
  virtual ScheduledCommunicator::Transports transports() { return {}; }
  // The transport's own collectives for a group, which all its ranks make; nullptr: it has none.
  virtual std::shared_ptr<LibraryCollectives> library(const GroupMembers&) { return nullptr; }
  // First in the destructor of a world whose transfers a thread serves: no peer's bell rings it, it ends.
  void end_transfers();
  void watch_over(std::shared_ptr<Watch> watch) { watch_ = std::move(watch); }
  void set_crowded(bool crowded) { crowded_ = crowded; }  // alike on all ranks of a host
  int slot_of(int world_rank) const;                      // -1: on another host
  // The number of each rank's host; one host where nothing else is said.
  void place_hosts(std::vector<int> hosts) { hosts_ = std::move(hosts); }

 private:
  friend std::unique_ptr<World> make_recorded_world(World& world);
  friend std::unique_ptr<World> make_recorded_world(int rank, int size, bool has_library, int cores);
  friend std::unique_ptr<World> make_simulated_world(int rank, int size);

  int rank_, size_;
  std::vector<int> host_ranks_;
  bool crowded_;
  std::vector<int> hosts_;  // by rank of the world
  std::shared_ptr<Watch> watch_;
  std::shared_ptr<Traffic> traffic_;
  std::shared_ptr<WireChecks> checks_;
  int groups_ = 0;
  std::unique_ptr<HostExchange> exchange_;
  std::shared_ptr<DeviceGroups> device_groups_;
};

// This process alone.
std::unique_ptr<World> make_single_world();
// One of `size` ranks that do not exist, on one host, where they read each other's memory: for recording
// devices. `has_library`: as if their transport had collectives of its own, as MPI has. `cores` are the
// host's; 0: as many as this one has.
std::unique_ptr<World> make_recorded_world(int rank, int size, bool has_library = false, int cores = 0);
// One of `size` ranks that do not exist, each on a host of its own: all that they have is messages.
std::unique_ptr<World> make_simulated_world(int rank, int size);
// One that issues what `world` would: with its ranks on its hosts.
std::unique_ptr<World> make_recorded_world(World& world);

// Whether so many ranks have less than a core of this host each.
bool crowds_cores(size_t ranks);

// What the environment says: the job that mpirun started, or this process alone, which costs nothing. MPI is
// called on its transfer thread only. UserError where a launcher started several ranks and this build has no
// MPI.
std::unique_ptr<World> make_world(Seconds deadline = Seconds(600));
// How many ranks the launcher says that there are; 1 without one.
int launched_ranks();

}  // namespace toroid
