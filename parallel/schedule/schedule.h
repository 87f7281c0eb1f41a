// A collective is a schedule before it is a transfer: a pure function from (algorithm, collective, shape of
// the group, rank) to that rank's moves. One executor sends the moves, another plays them on simulated links.
//
// The array is cut into chunks of nearly equal size; chunk c of an all_gather or a reduce_scatter belongs to
// rank c / chunks_per_rank. Moves of one round are under way together; a rank starts its round r + 1 when its
// own moves of round r are done. Ranks number the group's shape plane by plane and row by row.
//
// What holds for every plan: a rank sends at most one message to a peer in a round; in one round no chunk is
// both sent and received; a rank's receives are combined in the order of its list. In an all_to_all a send's
// chunks are of the input (chunk i goes to rank i) and a receive's of the output (chunk j is from rank j); a
// rank's own chunk is the caller's to copy.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace toroid::schedule {

enum class Operation : uint8_t { all_gather, reduce_scatter, all_reduce, broadcast, all_to_all };

struct AlgorithmDescription;  // algorithm.h

// One of the algorithms: a borrowed view of its description.
class Algorithm {
 public:
  constexpr explicit Algorithm(const AlgorithmDescription& description) : description_(&description) {}
  const AlgorithmDescription* operator->() const { return description_; }
  friend bool operator==(const Algorithm&, const Algorithm&) = default;

  // Each is in the file of its name, and has a line in all_algorithms().
  static const Algorithm ring;                // one direction
  static const Algorithm bidirectional_ring;  // every chunk both ways, half way round
  static const Algorithm torus;  // a part of the array for each dimension, along which it goes first
  static const Algorithm halving_doubling;  // partners at distance 1, 2, 4 ...: sums are balanced trees
  static const Algorithm direct;            // every rank exchanges with every other in one round

 private:
  const AlgorithmDescription* description_;
};

inline auto all_algorithms() {
  return std::array{Algorithm::ring, Algorithm::bidirectional_ring, Algorithm::torus,
                    Algorithm::halving_doubling, Algorithm::direct};
}

// `value` is a number of ranks, at least 1.
inline bool power_of_two(int value) {
  return (value & (value - 1)) == 0;
}

inline constexpr Operation kOperations[] = {Operation::all_gather, Operation::reduce_scatter,
                                            Operation::all_reduce, Operation::broadcast,
                                            Operation::all_to_all};

// The group's ranks laid on torus dimensions: {1, n} is a ring, {rows, columns} a 2D torus; of a 3D one there
// are several planes.
struct GroupShape {
  int rows = 1, columns = 1;
  // Whether the links close the ring of the `rows` ranks of a column, and of the `columns` ranks of a row.
  // Two ranks have one link between them either way.
  bool wrap_rows = true, wrap_columns = true;
  int planes = 1;
  bool wrap_planes = true;
  // Links join neighbours and nothing else does: a message takes as long as its links, so that few rounds
  // between ranks far apart are no quicker than many between neighbours.
  bool neighbours_alone = false;
  int size() const { return planes * rows * columns; }
  int dimensions() const { return (planes > 1 ? 1 : 0) + (rows > 1 ? 1 : 0) + (columns > 1 ? 1 : 0); }
};

// One message of one rank in one round.
struct Move {
  int round = 0;
  int peer = 0;          // rank in the group
  bool receive = false;  // else a send
  bool combine = false;  // a receive that is added to what is there, instead of overwriting it
  // Of plan_in_order() alone: a receive that is added with others of its kind. What they bring is added up in
  // their order, and what is there to that sum.
  bool precedes = false;
  int64_t first = 0, count = 0;  // chunks [first, first + count) ...
  int64_t blocks = 1;            // ... and again `stride` further on, `blocks` runs in all ...
  int64_t stride = 0;
  int64_t repeats = 1;  // ... and all of these again `repeat_stride` further on: one message
  int64_t repeat_stride = 0;

  int64_t chunks() const { return count * blocks * repeats; }
  // run(first chunk, chunks), in the order in which they travel.
  template <typename Run>
  void for_each_run(const Run& run) const {
    for (int64_t repeat = 0; repeat < repeats; ++repeat) {
      for (int64_t block = 0; block < blocks; ++block)
        run(first + repeat * repeat_stride + block * stride, count);
    }
  }
};

struct Plan {
  int64_t chunks = 0;  // of the whole array
  int rounds = 0;
  std::vector<Move> moves;  // this rank's, by round
};

// Whether the algorithm has this operation on this shape.
bool serves(Algorithm algorithm, Operation operation, const GroupShape& shape);

// `root` is for broadcast. UserError where the algorithm does not serve it.
Plan plan(Algorithm algorithm, Operation operation, const GroupShape& shape, int rank, int root = 0);

// The algorithm that serves an operation on `bytes` best, where none is asked for. `deterministic`: sums are
// balanced binary trees.
Algorithm automatic_algorithm(Operation operation, const GroupShape& shape, int64_t bytes,
                              bool deterministic);

// The moves of one round alone, as a plan of one round; of the same chunks.
Plan round_of(const Plan& plan, int round);

// A reduce_scatter or an all_reduce as `direct` has them, but that sums are taken in the order of the ranks,
// ((0 + 1) + 2) + ...: their bits follow neither from who makes them nor from how the array is cut.
Plan plan_in_order(Operation operation, int size, int rank);

// Ranks are numbered host by host, `per_host` on each, and the array is cut into a chunk for each rank. The
// plan is that of one rank among those that have its place on the other hosts, on their part of the array.
// For all_gather, reduce_scatter and all_reduce; sums are balanced binary trees where the number of hosts is
// a power of two.
Plan plan_between_hosts(Operation operation, int hosts, int per_host, int rank);

std::string_view name(Algorithm algorithm);
std::string_view name(Operation operation);
// "4 x 8", or "2 x 4 x 8" of several planes.
std::string text(const GroupShape& shape);

}  // namespace toroid::schedule
