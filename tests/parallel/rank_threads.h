// Ranks as threads of this process.
#pragma once

#include <exception>
#include <string>
#include <thread>
#include <vector>

namespace toroid::testing {

// Calls work(rank) for all ranks at once and waits for them. What they threw, one line each; empty if
// nothing.
template <class Work>
std::string run_rank_threads(int ranks, const Work& work) {
  std::vector<std::string> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&failures, &work, rank] {
      try {
        work(rank);
      } catch (const std::exception& error) {
        failures[static_cast<size_t>(rank)] = "rank " + std::to_string(rank) + ": " + error.what() + "\n";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string out;
  for (const std::string& failure : failures) out += failure;
  return out;
}

}  // namespace toroid::testing
