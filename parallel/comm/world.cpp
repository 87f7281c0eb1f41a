#include "parallel/comm/world.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <thread>
#include <utility>

#include "parallel/comm/mpi/mpi_world.h"

namespace toroid {
namespace {

// What peers that do not exist are said to be able to do.
struct Abilities {
  bool reads_memory = true, every_host_reads = true, relays = true, has_library = false;
};

class SingleWorld final : public World {
 public:
  SingleWorld(int rank, int size, std::vector<int> host_ranks, const Abilities& abilities)
      : World(rank, size, std::move(host_ranks)),
        abilities_(abilities),
        relay_(nullptr, static_cast<int>(this->host_ranks().size())) {}

 protected:
  // No board says where the peers are.
  ScheduledCommunicator::Transports transports() override {
    ScheduledCommunicator::Transports out;
    if (abilities_.reads_memory) out.memory = &memory_;
    if (abilities_.relays) out.relay = &relay_;
    out.every_host_reads = abilities_.every_host_reads;
    out.has_library = abilities_.has_library;
    return out;
  }

 private:
  Abilities abilities_;
  Relay relay_;
  ThreadMemory memory_;
};

class BoardBell final : public cpu::Bell {
 public:
  BoardBell(Board& board, int slot) : board_(board), slot_(slot) {}
  uint32_t count() const override { return board_.rings(slot_); }
  void sleep(uint32_t count, std::chrono::microseconds longest) override {
    board_.sleep(slot_, count, longest);
  }
  void ring() override { board_.ring(slot_); }

 private:
  Board& board_;
  int slot_;
};

// Whether a group is ever to use the transport's own collectives, the same on all its ranks.
bool wants_library(const GroupOptions& options, const GroupMembers& members) {
  if (options.method) return options.method->by == Method::By::library;
  return std::any_of(options.choices.begin(), options.choices.end(), [&](const Choice& row) {
    return row.method.by == Method::By::library && row.ranks == members.size() &&
           row.ranks_per_host == members.per_host;
  });
}

}  // namespace

World::World(int rank, int size, std::vector<int> host_ranks)
    : rank_(rank),
      size_(size),
      host_ranks_(std::move(host_ranks)),
      crowded_(crowds_cores(host_ranks_.size())),
      hosts_(static_cast<size_t>(size), 0),
      traffic_(std::make_shared<Traffic>(size)) {}

World::~World() = default;

HostExchange& World::exchange() {
  if (exchange_ == nullptr) exchange_ = std::make_unique<HostExchange>(*this);
  return *exchange_;
}

void World::end_transfers() {
  device_groups_.reset();
  exchange_.reset();
  transfers()->set_bell(nullptr, false);
  transfers()->end();
}

int World::slot_of(int world_rank) const {
  const auto found = std::find(host_ranks_.begin(), host_ranks_.end(), world_rank);
  return found == host_ranks_.end() ? -1 : static_cast<int>(found - host_ranks_.begin());
}

std::unique_ptr<Communicator> World::group(Device& device, Queue queue, std::string axis,
                                           const std::vector<int>& world_ranks, schedule::GroupShape shape,
                                           const GroupOptions& options) {
  const bool by_device = device_groups_ != nullptr && device_groups_->serves(device);
  if (world_ranks.size() == 1) {
    if (by_device) device_groups_->stand_by(axis);
    return make_group_of_one();
  }
  auto state = std::make_shared<GroupState>();
  GroupMembers& members = state->members;
  members.context = groups_++;
  members.ranks = world_ranks;
  members.place = -1;
  for (size_t i = 0; i < world_ranks.size(); ++i) {
    require(world_ranks[i] >= 0 && world_ranks[i] < size_, "a group is of ranks of the world");
    if (world_ranks[i] == rank_) members.place = static_cast<int>(i);
    members.slots.push_back(slot_of(world_ranks[i]));
  }
  require(members.place >= 0, "a rank makes only groups that it is in");
  require(members.context < Board::kContexts, "a rank is in at most 32 groups");
  members.per_host = ranks_per_host(world_ranks);
  const auto host = [&](size_t place) { return hosts_[static_cast<size_t>(world_ranks[place])]; };
  members.host_by_host = members.per_host > 0;
  for (size_t i = 0; members.host_by_host && i < world_ranks.size(); ++i)
    members.host_by_host = host(i) == host(i - i % static_cast<size_t>(members.per_host));
  state->watch = watch_;
  state->traffic = traffic_;
  state->checks = checks_;
  if (by_device)
    return device_groups_->make(device, queue, std::move(axis), std::move(state), shape, options);
  return make_group(device, queue, std::move(axis), std::move(state), shape, options);
}

std::unique_ptr<Communicator> World::make_group(Device& device, Queue queue, std::string axis,
                                                std::shared_ptr<const GroupState> state,
                                                schedule::GroupShape shape, const GroupOptions& options) {
  ScheduledCommunicator::Transports transports = this->transports();
  transports.crowded = crowded();
  const GroupMembers& members = state->members;
  if (transports.has_library && wants_library(options, members)) transports.library = library(members);
  return std::make_unique<ScheduledCommunicator>(device, queue, std::move(axis), std::move(state), shape,
                                                 std::move(transports), options);
}

void World::check_wire(int64_t every, std::vector<std::string> hosts) {
  checks_ = std::make_shared<WireChecks>(every, std::move(hosts));
}

int World::ranks_per_host(const std::vector<int>& world_ranks) const {
  std::map<int, int> counts;
  for (const int rank : world_ranks) ++counts[hosts_.at(static_cast<size_t>(rank))];
  const int first = counts.empty() ? 0 : counts.begin()->second;
  for (const auto& [host, count] : counts) {
    if (count != first) return 0;
  }
  return first;
}

Seconds World::deadline() const {
  constexpr Seconds kAlone(600);
  return watch_ == nullptr ? kAlone : watch_->deadline();
}

void World::learn_deadlines(Seconds floor) {
  if (watch_ != nullptr) watch_->learn(floor);
}

void World::describe(const std::string& coordinate) {
  if (watch_ != nullptr && watch_->board() != nullptr) watch_->board()->describe(slot_of(rank_), coordinate);
}

std::shared_ptr<cpu::Bell> World::bell() const {
  if (watch_ == nullptr || watch_->board() == nullptr) return nullptr;
  return std::make_shared<BoardBell>(*watch_->board(), slot_of(rank_));
}

void World::abort(ExitCode code) {
  std::_Exit(static_cast<int>(code));
}

std::unique_ptr<World> make_single_world() {
  return std::make_unique<SingleWorld>(0, 1, std::vector<int>{0}, Abilities{});
}

std::unique_ptr<World> make_recorded_world(int rank, int size, bool has_library, int cores) {
  require(rank >= 0 && rank < size, "a rank is one of the world's");
  std::vector<int> everybody(static_cast<size_t>(size));
  std::iota(everybody.begin(), everybody.end(), 0);
  Abilities abilities;
  abilities.has_library = has_library;
  auto out = std::make_unique<SingleWorld>(rank, size, std::move(everybody), abilities);
  if (cores > 0) out->crowded_ = size > cores;
  return out;
}

std::unique_ptr<World> make_simulated_world(int rank, int size) {
  require(rank >= 0 && rank < size, "a rank is one of the world's");
  const Abilities messages_alone{false, false, false, false};
  auto out = std::make_unique<SingleWorld>(rank, size, std::vector<int>{rank}, messages_alone);
  std::vector<int> hosts(static_cast<size_t>(size));
  std::iota(hosts.begin(), hosts.end(), 0);
  out->place_hosts(std::move(hosts));
  return out;
}

std::unique_ptr<World> make_recorded_world(World& world) {
  const ScheduledCommunicator::Transports transports = world.transports();
  const Abilities abilities{transports.memory != nullptr, transports.every_host_reads,
                            transports.relay != nullptr, transports.has_library};
  auto out = std::make_unique<SingleWorld>(world.rank(), world.size(), world.host_ranks(), abilities);
  out->place_hosts(world.hosts_);
  out->crowded_ = world.crowded_;
  return out;
}

bool crowds_cores(size_t ranks) {
  return ranks > std::max(1u, std::thread::hardware_concurrency());
}

int launched_ranks() {
  // OpenMPI's mpirun; other launchers through PMI.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* const text = std::getenv(name);
    if (text != nullptr) return std::max(1, std::atoi(text));
  }
  // srun with PMIx says how many tasks the step has.
  if (std::getenv("PMIX_RANK") != nullptr) {
    const char* const text = std::getenv("SLURM_STEP_NUM_TASKS");
    return text == nullptr ? 2 : std::max(1, std::atoi(text));
  }
  return 1;
}

std::unique_ptr<World> make_world(Seconds deadline) {
  if (launched_ranks() == 1) return make_single_world();
  return mpi::make_mpi_world(deadline);
}

}  // namespace toroid
