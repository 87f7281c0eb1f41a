// Finds memory that changes although nothing is written there: what a rank holds from one update to the next
// (masters, the rule's states, their average, what pods keep) has a checksum for each 4096 elements, taken
// when an update has written it and compared when the next one is about to. An update goes over its tensors
// in pieces that stay in the caches, so that taking and comparing cost no journey to memory of their own.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/checksum.h"
#include "core/base/clock.h"
#include "core/device/device.h"

namespace toroid {

// A block of what this rank holds that is not as it was left.
struct StateFault {
  std::string tensor, part;            // "model.layers.0.mlp.down_proj.weight", "exp_avg"
  int64_t first = 0, last = 0;         // elements of this rank's run of it that the block has
  std::optional<ChangedWord> element;  // within the block, where one explains it
  int64_t blocks = 0;                  // that differ in all
  std::string text() const;  // "exp_avg of NAME, elements 0 to 4095 of this rank's: bit 3 of element 17"
};

class StateChecksums {
 public:
  // Arrays of one length that are written together, by name.
  struct Group {
    std::vector<Tensor> arrays;  // f32[n] or bf16[n]
    std::string tensor;
    std::vector<std::string> parts;  // of each array
    bool around = false;             // written within around() alone; else anywhere in an update
    bool shared = true;              // twins in other pods hold the same bits
  };
  // Compares in every `every`th update. A piece has at most `at_once` elements of each array; 0: all.
  StateChecksums(Device& device, std::vector<Group> groups, int64_t every, int64_t at_once);

  // An update: compares what is written anywhere in it; then, for each group that is written around(), goes
  // over it in pieces of `count` elements from `first` on, and compares before and takes after; then takes
  // what was written anywhere, or, where `all` was written once more, all of it.
  using Write = std::function<void(int64_t first, int64_t count)>;
  void begin_update();
  void around(size_t group, const Write& write);
  void end_update(bool all);
  // After all was written from outside.
  void note_all();

  // What the last update found, or the one before it; blocks until that is known.
  std::optional<StateFault> found(int updates_ago);
  // Compares all at once, as before it is saved; nothing where the last update was not noted.
  std::optional<StateFault> look();
  // One of all that the groups hold which are `shared` with other ranks, to be compared with theirs; blocks.
  Checksum digest();

  // Processor time of the thread that issues within these calls: on a CPU what they cost, and the same for
  // every thread of the team.
  Seconds spent() const { return spent_; }

 private:
  // Elements [first, first + count) of each array of a group, and its first row of the tables.
  struct Piece {
    size_t group = 0;
    int64_t first = 0, count = 0, row = 0;
  };
  std::vector<Tensor> arrays_of(const Piece& piece) const;
  Tensor rows_of(const Tensor& table, const Piece& piece) const;
  void take(const Piece& piece, const Tensor& table);
  void take_all(const Tensor& table, bool written_around = true);
  std::optional<StateFault> read(const Tensor& differing);
  const Piece& piece_at(int64_t row) const;

  Device& device_;
  std::vector<Group> groups_;
  std::vector<std::vector<Piece>> pieces_;  // by group
  int64_t every_, rows_ = 0, updates_ = 0;
  // i64[rows, 2]: as an update finds it, and as two of them left it, in turn.
  Array seen_, noted_[2];
  int left_ = 0;               // which of the two is the last one's
  bool fresh_ = false;         // it is of all that is held now
  Array differing_[2], look_;  // of two updates, in turn, and of a look between them
  bool compared_[2] = {};      // whether that update was one that compares
  int latest_ = 0;
  bool compares_ = false, notes_ = false;  // this update
  Seconds spent_{0};
};

}  // namespace toroid
