// Collectives on one mesh axis, issued on one queue in program order by every rank of the group. A group of
// one hands the same array on.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/device/device.h"

namespace toroid {

enum class Combine : uint8_t { sum, max };
// The type in which summands travel: exact is fp32; bf16 halves the bytes and is rounded once a hop. In a
// group of one nothing travels.
enum class Wire : uint8_t { exact, bf16 };

// Names the collective in reports; every rank of the group gives the same.
struct CollectiveLabel {
  std::string tensor;                    // "layer.3 weights"
  std::string_view holder = "transfer";  // of the memory that the result takes
  Phase phase = Phase::forward;
};

// A rank's place in a group.
struct Place {
  int rank = 0, size = 1;
};

// Called with rows of an array, where all rows together are the whole of it, and with the index of the first:
// launches what is done with them.
using RowWork = std::function<void(const Tensor& rows, int64_t first)>;

class Communicator {
 public:
  virtual ~Communicator() = default;
  // [rows, ...] -> [size * rows, ...] along dim 0, in the order of the ranks. The result may be the input, or
  // borrowed.
  virtual Array all_gather(Array in, const CollectiveLabel& label) = 0;
  // [size * rows, ...] -> this rank's [rows, ...] of the sum over the ranks.
  virtual Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) = 0;
  // The same beside work on parts of the array. A group that can cuts the collective into the rounds of its
  // schedule, so that work on the rows of one rank goes on while others travel; one that cannot calls the
  // work once, with all rows. The work is launched on the compute queue; calls come in the order in which
  // rows travel.
  //
  // Calls use() with rows of the result, its own ones where they were.
  virtual Array all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label);
  // Calls make() with rows of `in`, which it is to write, before they are sent. `in` is used up and has its
  // memory to itself; InternalError where not.
  virtual Array reduce_scatter_beside(Array in, Wire wire, const RowWork& make, const CollectiveLabel& label);
  virtual void all_reduce(const Tensor& in_place, Combine combine, Wire wire,
                          const CollectiveLabel& label) = 0;
  virtual void broadcast(const Tensor& in_place, int root, const CollectiveLabel& label) = 0;
  // Block i of `in` (along dim 0, `size` equal blocks) goes to rank i; block j of `out` comes from rank j.
  virtual void all_to_all(const Tensor& in, const Tensor& out, const CollectiveLabel& label) = 0;
  virtual void send(const Tensor& from, int peer, const CollectiveLabel& label) = 0;
  virtual void receive(const Tensor& to, int peer, const CollectiveLabel& label) = 0;
  // Done, on this group's queue, once every rank has issued it.
  virtual Event barrier(const CollectiveLabel& label) = 0;

  virtual Tensor own(const Tensor& gathered) const = 0;           // this rank's rows
  virtual DType wire_type(DType compute, DType exact) const = 0;  // compute in a group of one
  virtual Place place() const = 0;                                // for slice tables, not for layers
  virtual std::string_view axis() const = 0;
};

std::unique_ptr<Communicator> make_group_of_one();

}  // namespace toroid
