// Checksums of what ranks send each other and read of each other: nothing is found where nothing was changed,
// and a bit that flips on the way always is, whichever way bytes go.
#include "parallel/comm/watch/wire_checks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <latch>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "contract.h"
#include "core/base/error.h"
#include "core/device/cpu/cpu_device.h"
#include "tests/parallel/local_world.h"

namespace toroid {
namespace {

using schedule::Algorithm;

std::vector<std::string> hosts_of(int size) {
  std::vector<std::string> out;
  for (int rank = 0; rank < size; ++rank) out.push_back("host-of-" + std::to_string(rank));
  return out;
}

enum class Kind : uint8_t { all_gather, reduce_scatter, all_reduce, broadcast, all_to_all, send };

// One collective of each kind, all of whose bytes reach somebody. `rows`: of a rank's share.
Event issue(Communicator& group, Device& device, Kind kind, int64_t rows, std::vector<Array>& keep) {
  const auto [rank, size] = group.place();
  const auto array = [&](int64_t elements) {
    std::vector<float> values(static_cast<size_t>(elements));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(i + 1) * 0.37f + static_cast<float>(rank);
    Array out = device.array(DType::f32, {elements}, "test");
    device.write(out.tensor, std::as_bytes(std::span(values)), Queue::compute);
    return out;
  };
  const CollectiveLabel label{"wire", "test"};
  switch (kind) {
    case Kind::all_gather:
      keep.push_back(group.all_gather(array(rows), label));
      break;
    case Kind::reduce_scatter:
      keep.push_back(group.reduce_scatter(array(rows * size), Wire::exact, label));
      break;
    case Kind::all_reduce:
      keep.push_back(array(rows * size));
      group.all_reduce(keep.back().tensor, Combine::sum, Wire::exact, label);
      break;
    case Kind::broadcast:
      keep.push_back(array(rows * size));
      group.broadcast(keep.back().tensor, 0, label);
      break;
    case Kind::all_to_all:
      keep.push_back(array(rows * size));
      keep.push_back(array(rows * size));
      group.all_to_all(keep[keep.size() - 2].tensor, keep.back().tensor, label);
      break;
    case Kind::send:
      keep.push_back(array(rows));
      if (rank == 0) group.send(keep.back().tensor, 1, label);
      if (rank == 1) group.receive(keep.back().tensor, 0, label);
      break;
  }
  return device.record(Queue::reduce);
}

// What the ranks threw. One that found something ends the waits of the others.
struct Found {
  std::vector<std::string> corrupted, other;
};

template <class Before>
Found run(LocalJob& job, Kind kind, const GroupOptions& options, int64_t rows, int64_t every,
          const Before& before_issue) {
  Found out;
  std::mutex mutex;
  std::atomic<bool> stop{false};
  std::latch ended(job.size());
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < job.size(); ++rank) {
    ranks.emplace_back([&, rank] {
      const auto world = job.world(rank);
      world->check_wire(every, hosts_of(job.size()));
      std::vector<int> all;
      for (int i = 0; i < job.size(); ++i) all.push_back(i);
      std::vector<Array> keep;
      CpuDevice device(std::make_shared<DeviceKernels>(), world->transfers());
      try {
        const auto group = world->group(device, Queue::reduce, "test", all, {1, job.size()}, options);
        before_issue(rank);
        const Event event = issue(*group, device, kind, rows, keep);
        while (!stop) {
          try {
            device.synchronize(event, Seconds(0.02));
            break;
          } catch (const SystemError&) {  // not yet
          }
        }
      } catch (const CorruptionError& error) {
        const std::lock_guard lock(mutex);
        out.corrupted.emplace_back(error.what());
        stop = true;
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        out.other.emplace_back(error.what());
        stop = true;
      }
      world->transfers()->end();
      ended.arrive_and_wait();  // the others read this rank's memory until theirs have ended
      keep.clear();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  return out;
}

class Ranks : public ::testing::TestWithParam<int> {};

TEST_P(Ranks, FulfilTheContractWhereAllIsChecked) {
  for (const bool views : {true, false}) {
    LocalJob::Options options;
    options.views = views;
    LocalJob job(GetParam(), options);
    std::latch ended(job.size());
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < job.size(); ++rank) {
      ranks.emplace_back([&, rank] {
        const auto world = job.world(rank);
        world->check_wire(views ? 1 : 3, hosts_of(job.size()));
        world->transfers()->set_bell(world->bell(), rank % 2 == 0);
        CpuDevice device(std::make_shared<DeviceKernels>(), world->transfers());
        if (views) testing::check_all(*world, device);
        if (!views) testing::check_operations(*world, device, {});
        EXPECT_GT(world->wire_checks()->bytes(), 0);
        ended.arrive_and_wait();  // the others read this rank's memory until theirs have ended
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }
}

TEST_P(Ranks, FulfilTheContractPastTheCachesAndHostByHost) {
  for (const int hosts : {1, 2}) {
    if (GetParam() % hosts != 0) continue;
    LocalJob::Options options;
    options.hosts = hosts;
    LocalJob job(GetParam(), options);
    std::latch ended(job.size());
    std::vector<std::thread> ranks;
    for (int rank = 0; rank < job.size(); ++rank) {
      ranks.emplace_back([&, rank] {
        const auto world = job.world(rank);
        world->check_wire(1, hosts_of(job.size()));
        CpuDevice device(std::make_shared<DeviceKernels>(), world->transfers());
        if (hosts == 1) {
          testing::check_streamed(*world, device, Method::By::read);
          testing::check_streamed(*world, device, Method::By::relay);
        } else {
          testing::check_operations(*world, device, {false, Method::By::hierarchical});
        }
        ended.arrive_and_wait();  // the others read this rank's memory until theirs have ended
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }
}

INSTANTIATE_TEST_SUITE_P(Counts, Ranks, ::testing::Values(2, 3, 4));

// Flips one bit of the countdown'th run of bytes that passes.
class Spoiler {
 public:
  std::function<void(std::span<std::byte>)> hook() {
    return [this](std::span<std::byte> bytes) {
      // All of an array is looked at whether it can be, and not read.
      if (bytes.empty() || static_cast<int64_t>(bytes.size()) > longest) return;
      if (seen_++ != at) return;
      const uint64_t chosen = bit % (8 * bytes.size());
      bytes[chosen / 8] ^= static_cast<std::byte>(1u << (chosen % 8));
      spoilt_ = true;
    };
  }
  void reset(int64_t next, uint64_t which) {
    at = next;
    bit = which;
    seen_ = 0;
    spoilt_ = false;
  }
  int64_t seen() const { return seen_; }
  bool spoilt() const { return spoilt_; }
  int64_t at = -1;
  uint64_t bit = 0;
  int64_t longest = INT64_MAX;

 private:
  std::atomic<int64_t> seen_{0};
  std::atomic<bool> spoilt_{false};
};

// The finder names both ranks, what they did, and both hosts.
void expect_named(const std::string& message) {
  for (const char* part : {"silent corruption (wire)", "of 'wire' on axis test", "sequence number",
                           "on host 'host-of-", "bytes"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
}

struct Way {
  const char* name;
  GroupOptions options;
  bool messages, views;
};

TEST(WireFaults, AreAlwaysFoundInMessagesAndReads) {
  std::mt19937_64 random(21);
  const Way ways[] = {{"ring", {false, Method(Algorithm::ring)}, true, true},
                      {"bidirectional ring", {false, Method(Algorithm::bidirectional_ring)}, true, true},
                      {"direct", {false, Method(Algorithm::direct)}, true, true},
                      {"halving and doubling", {false, Method(Algorithm::halving_doubling)}, true, true},
                      {"reads in place", {false, Method::By::read}, false, true},
                      {"reads by copies", {false, Method::By::read}, false, false}};
  constexpr int kTrials = 100;
  int found = 0, clean = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Way& way = ways[trial % std::size(ways)];
    const int size = trial % 4 == 3 ? 4 : 2 + trial % 3;
    const int kinds = way.messages ? 6 : 5;
    const auto kind = static_cast<Kind>(random() % static_cast<uint64_t>(kinds));
    const int64_t rows = 1 + static_cast<int64_t>(random() % 70001);
    SCOPED_TRACE(std::string(way.name) + ", kind " + std::to_string(static_cast<int>(kind)) + ", " +
                 std::to_string(size) + " ranks, " + std::to_string(rows) + " rows");
    Spoiler spoiler;
    LocalJob::Options options;
    options.views = way.views;
    (way.messages ? options.spoil_message : options.spoil_read) = spoiler.hook();
    if (way.messages) options.reads_memory = options.relays = false;
    // The look whether all of an array can be read in place.
    const bool whole = kind == Kind::broadcast;
    spoiler.longest = whole || way.messages ? INT64_MAX : 4 * rows * size - 1;
    if (kind == Kind::all_gather) spoiler.longest = INT64_MAX;
    const auto go = [](int) {};
    // Without a fault first, which says how many runs of bytes there are.
    spoiler.reset(-1, 0);
    {
      LocalJob job(size, options);
      const Found nothing = run(job, kind, way.options, rows, 1, go);
      EXPECT_TRUE(nothing.corrupted.empty() && nothing.other.empty());
      clean += nothing.corrupted.empty() ? 1 : 0;
    }
    const int64_t runs = spoiler.seen();
    ASSERT_GT(runs, 0);
    spoiler.reset(static_cast<int64_t>(random() % static_cast<uint64_t>(runs)), random());
    LocalJob job(size, options);
    const Found faults = run(job, kind, way.options, rows, 1, go);
    EXPECT_TRUE(spoiler.spoilt());
    EXPECT_FALSE(faults.corrupted.empty());
    if (faults.corrupted.empty()) continue;
    ++found;
    expect_named(faults.corrupted[0]);
  }
  EXPECT_EQ(found, kTrials);
  EXPECT_EQ(clean, kTrials);
}

// A rank puts its pieces into its slots, a bit flips there, and then the others come.
TEST(WireFaults, AreAlwaysFoundInTheRelay) {
  std::mt19937_64 random(22);
  constexpr int kTrials = 100;
  int found = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const int size = 2 + trial % 3, faulty = static_cast<int>(random() % static_cast<uint64_t>(size));
    constexpr Kind kKinds[] = {Kind::all_gather, Kind::reduce_scatter, Kind::all_reduce, Kind::all_to_all};
    const Kind kind = kKinds[random() % std::size(kKinds)];
    const int64_t rows = 16 + static_cast<int64_t>(random() % 20000);
    SCOPED_TRACE("kind " + std::to_string(static_cast<int>(kind)) + ", " + std::to_string(size) + " ranks, " +
                 std::to_string(rows) + " rows");
    LocalJob job(size, {});
    std::latch spoilt(1);
    std::thread ray([&] {
      const auto& posted = job.board(0).rounds(faulty, 0).posted;
      while (posted.load() < 1) std::this_thread::yield();
      // Within the first 16 rows of the first block of the first round's slot.
      const uint64_t bit = random() % (16 * 32);
      job.relay(0).slot(faulty, 0, 1)[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      spoilt.count_down();
    });
    const Found faults = run(job, kind, {false, Method::By::relay}, rows, 1, [&](int rank) {
      if (rank != faulty) spoilt.wait();
    });
    ray.join();
    EXPECT_FALSE(faults.corrupted.empty()) << (faults.other.empty() ? "" : faults.other[0]);
    if (faults.corrupted.empty()) continue;
    ++found;
    expect_named(faults.corrupted[0]);
  }
  EXPECT_EQ(found, kTrials);
}

// One call in so many is checked, and not the same ones of every step.
TEST(WireChecks, TakeTheirShareOfTheCalls) {
  const WireChecks checks(8, {});
  int64_t taken = 0;
  std::vector<int> of_a_call(40);
  for (uint64_t sequence = 1; sequence <= 40000; ++sequence) {
    if (!checks.takes(sequence)) continue;
    ++taken;
    ++of_a_call[sequence % 40];
  }
  EXPECT_NEAR(static_cast<double>(taken), 5000, 300);
  for (const int count : of_a_call) EXPECT_GT(count, 60);
}

}  // namespace
}  // namespace toroid
