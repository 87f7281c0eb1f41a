// What watching over collectives costs a rank, in processor time of its own: telling the board that a call
// begins and ends (the flight recorder), comparing it with what the peers say, keeping the longest wait, and
// each look at the peers while nothing comes. Given how many collectives a step has and how long it takes
// (what a run says at its end, or a trace), also their share of it.
//
//   watch_cost [ranks] [collectives a step] [step, ms]
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/io/file.h"
#include "core/base/median.h"
#include "core/base/processor_time.h"
#include "parallel/comm/watch/watch.h"

namespace toroid {
namespace {

constexpr int kBatches = 5000, kLooks = 2000, kRounds = 9;

struct Cost {
  Seconds call, look;  // one call, from its begin to its end; one look at the peers
  Seconds interval;    // between two looks
};

// Rank 0 is measured; the others have made the same calls before it.
Cost cost_of(int ranks) {
  PageBuffer memory(static_cast<size_t>(Board::bytes_for(ranks)));
  Board board(memory.bytes().data(), ranks);
  GroupMembers group;
  for (int rank = 0; rank < ranks; ++rank) {
    board.enter(rank, ::getpid());
    board.describe(rank, "pod 0 (0, " + std::to_string(rank) + ")");
    group.ranks.push_back(rank);
    group.slots.push_back(rank);
  }
  CollectiveInfo info;
  info.operation = "reduce_scatter";
  info.tensor = "layer.3 gradients";
  info.bytes = int64_t{32} << 20;
  Watch watch(&board, 0, 0, Seconds(600));
  watch.learn(Seconds(120));
  std::vector<double> calls, looks;
  uint64_t sequence = 0;
  for (int round = 0; round < kRounds; ++round) {
    Seconds spent{0};
    for (int batch = 0; batch < kBatches; ++batch) {
      for (uint64_t i = 1; i <= Board::kKept; ++i) {  // as many as the board remembers
        for (int rank = 1; rank < ranks; ++rank) {
          board.publish(rank, 0,
                        {sequence + i, info.bytes, info.phase, false, 0, info.operation, info.tensor});
        }
      }
      const Seconds before = thread_processor_time();
      for (uint64_t i = 1; i <= Board::kKept; ++i) {
        const Watch::Call call{&group, sequence + i, &info};
        (void)watch.interval();
        require(watch.arrive(call), "the peers make the same call");
        watch.waited(call, Seconds(0.001));
        watch.finish(call);
      }
      spent += thread_processor_time() - before;
      sequence += Board::kKept;
    }
    calls.push_back(spent.count() / (kBatches * static_cast<double>(Board::kKept)));
    const Watch::Call call{&group, sequence, &info};
    const Seconds before = thread_processor_time();
    for (int i = 0; i < kLooks; ++i) watch.check(call, Seconds(1));
    looks.push_back((thread_processor_time() - before).count() / kLooks);
  }
  return {Seconds(median(calls)), Seconds(median(looks)), watch.interval()};
}

int run(int argc, char** argv) {
  const int ranks = argc > 1 ? std::atoi(argv[1]) : 4;
  const double collectives = argc > 2 ? std::atof(argv[2]) : 0;
  const double step = argc > 3 ? 1e-3 * std::atof(argv[3]) : 0;
  if (ranks < 1 || ranks > 4096) {
    std::fprintf(stderr, "watch_cost: %s ranks; give a number from 1 to 4096\n", argv[1]);
    return 2;
  }
  const Cost cost = cost_of(ranks);
  std::printf("%d ranks on a host, medians of %d rounds, processor time\n", ranks, kRounds);
  std::printf("a collective, told and compared  %8.2f us\n", 1e6 * cost.call.count());
  std::printf("a look while nothing comes       %8.2f us, every %.0f ms: %.3f %% of the wait\n",
              1e6 * cost.look.count(), 1e3 * cost.interval.count(), 100 * (cost.look / cost.interval));
  if (collectives > 0 && step > 0) {
    std::printf("of a step of %.1f ms with %.0f collectives: %.3f %% at most\n", 1e3 * step, collectives,
                100 * (collectives * cost.call.count() / step + cost.look / cost.interval));
  }
  return 0;
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  return toroid::run(argc, argv);
}
