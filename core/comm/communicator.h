// Collectives on one mesh axis, issued on one queue. A group of one hands the same array on.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "core/device/device.h"

namespace toroid {

enum class Combine : uint8_t { sum, max };
// The type that travels: exact is fp32; in a group of one nothing travels and the compute type is kept.
enum class Wire : uint8_t { exact, bf16 };

class Communicator {
 public:
  virtual ~Communicator() = default;
  // Along dim 0. The result may be the input, or borrowed.
  virtual Array all_gather(Array in, std::string_view holder) = 0;
  virtual Array reduce_scatter(Array in, Wire wire, std::string_view holder) = 0;
  virtual void all_reduce(const Tensor& in_place, Combine combine, Wire wire) = 0;
  virtual Tensor own(const Tensor& gathered) const = 0;           // this rank's rows
  virtual DType wire_type(DType compute, DType exact) const = 0;  // compute in a group of one
  virtual std::pair<int, int> place() const = 0;  // {rank in the group, size}: for slice tables
};

std::unique_ptr<Communicator> make_group_of_one();

}  // namespace toroid
