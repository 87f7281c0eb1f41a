// Plays the plans of all ranks of a group together, round by round, over values of any kind: sets of
// contributions for proofs, floats for the order of sums. It refuses what a transport would wait for in vain.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid::test {

class PlayFailed : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The chunks of a move, in the order in which they travel.
inline void append_chunks(const schedule::Move& move, std::vector<int64_t>& chunks) {
  move.for_each_run([&](int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) chunks.push_back(first + i);
  });
}

template <typename Value>
class Player {
 public:
  Player(schedule::Algorithm algorithm, schedule::Operation operation, const schedule::GroupShape& shape,
         int root = 0)
      : size_(shape.size()) {
    for (int rank = 0; rank < size_; ++rank) {
      plans_.push_back(plan(algorithm, operation, shape, rank, root));
    }
    check();
  }
  // The plans of all ranks, in order.
  explicit Player(std::vector<schedule::Plan> plans)
      : size_(static_cast<int>(plans.size())), plans_(std::move(plans)) {
    check();
  }

  int64_t chunks() const { return plans_[0].chunks; }
  int rounds() const { return plans_[0].rounds; }

  // Calls receive(rank, move, chunk, value) for each chunk that arrives. `held` is values by rank and chunk;
  // a receive changes them through `receive` alone. An all_to_all sends from `held` and receives elsewhere,
  // so that the chunks of the two sides differ.
  template <typename Receive>
  void play(const std::vector<std::vector<Value>>& held, bool same_chunks, const Receive& receive) const {
    std::vector<size_t> next(plans_.size(), 0);
    // By receiver and sender: this round's message that has not arrived yet.
    std::vector<const schedule::Move*> under_way(plans_.size() * plans_.size(), nullptr);
    // By rank and chunk: the last round in which it was sent, since in the same one it must not be received.
    std::vector<std::vector<int>> sent_in(plans_.size(), std::vector<int>(static_cast<size_t>(chunks()), -1));
    std::vector<int64_t> from, to;
    for (int round = 0; round < rounds(); ++round) {
      int64_t messages = 0;
      for (int rank = 0; rank < size_; ++rank) {
        const std::vector<schedule::Move>& moves = moves_of(rank);
        for (size_t i = next[index(rank)]; i < moves.size() && moves[i].round == round; ++i) {
          const schedule::Move& move = moves[i];
          expect(move.peer >= 0 && move.peer < size_ && move.peer != rank, rank, "no such peer");
          if (move.receive) continue;
          const schedule::Move*& slot = under_way[index(move.peer) * plans_.size() + index(rank)];
          expect(slot == nullptr, rank, "two messages to one peer in a round");
          slot = &move;
          ++messages;
          from.clear();
          append_chunks(move, from);
          for (const int64_t chunk : from) sent_in[index(rank)].at(static_cast<size_t>(chunk)) = round;
        }
      }
      for (int rank = 0; rank < size_; ++rank) {
        const std::vector<schedule::Move>& moves = moves_of(rank);
        size_t& i = next[index(rank)];
        for (; i < moves.size() && moves[i].round == round; ++i) {
          const schedule::Move& move = moves[i];
          if (!move.receive) continue;
          const schedule::Move*& slot = under_way[index(rank) * plans_.size() + index(move.peer)];
          expect(slot != nullptr, rank, "waits for a message that is not sent in this round");
          from.clear();
          to.clear();
          append_chunks(*slot, from);
          append_chunks(move, to);
          expect(same_chunks ? from == to : from.size() == to.size(), rank, "other chunks than were sent");
          for (size_t k = 0; k < to.size(); ++k) {
            expect(!same_chunks || sent_in[index(rank)].at(static_cast<size_t>(to[k])) != round, rank,
                   "a chunk is sent and received in one round");
            receive(rank, move, to[k], held[index(move.peer)].at(static_cast<size_t>(from[k])));
          }
          slot = nullptr;
          --messages;
        }
      }
      expect(messages == 0, 0, "a message was never received");
    }
    for (int rank = 0; rank < size_; ++rank)
      expect(next[index(rank)] == moves_of(rank).size(), rank, "moves are not in the order of rounds");
  }

 private:
  void check() const {
    for (int rank = 0; rank < size_; ++rank) {
      const schedule::Plan& plan = plans_[index(rank)];
      expect(plan.chunks == plans_[0].chunks && plan.rounds == plans_[0].rounds, rank,
             "another number of chunks or rounds than rank 0");
    }
  }
  static size_t index(int rank) { return static_cast<size_t>(rank); }
  const std::vector<schedule::Move>& moves_of(int rank) const { return plans_[index(rank)].moves; }
  static void expect(bool condition, int rank, const char* failure) {
    if (!condition) throw PlayFailed("rank " + std::to_string(rank) + ": " + failure);
  }

  int size_;
  std::vector<schedule::Plan> plans_;
};

}  // namespace toroid::test
