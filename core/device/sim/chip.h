// A chip that only keeps the clock: what an operator costs on it, and what joins chips into pods.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/device/sim/host.h"
#include "core/op/op.h"

namespace toroid::config {
class ChipConfig;
}

namespace toroid::sim {

struct Topology {
  enum class Wrap : uint8_t { never, exactly, multiples };
  bool is_switch = false;
  std::vector<int64_t> pod;  // the largest, along each dimension; of a switch its chips
  Wrap wrap = Wrap::never;
  int64_t wrap_size = 0;
  double bytes_per_s = 0;  // one way: of a link, or of a chip's port to the switch
  Seconds hop_latency{0};

  bool wraps(int64_t size) const;
  int64_t pod_chips() const;
};

// Between pods: chip, PCIe, host, network card. Chips of a host share its cards.
struct HostLinks {
  int64_t chips = 1;
  double chip_bytes_per_s = 0;  // one way, when all chips of the host send
  Seconds message_latency{0};   // of a collective between pods
  Seconds ring_step{0};         // of each step of a ring of pods
};

// What measurements say beyond the data sheet; the defaults are the data sheet's.
struct ChipConstants {
  double product_efficiency = 1;   // of the peak that well-shaped products reach
  double memory_efficiency = 1;    // of the memory's bandwidth
  double link_efficiency = 1;      // of a link's bandwidth
  Seconds collective_overhead{0};  // of starting one
  Seconds operator_overhead{0};    // of starting an operator
};

struct Chip {
  std::string name;
  std::map<DType, double> peak_flops_per_s;
  struct Mxu {
    int64_t rows = 1, columns = 1, count = 1, fill = 0;
  } mxu;
  int64_t memory_bytes = 0, on_chip_bytes = 0;
  double memory_bytes_per_s = 0, on_chip_bytes_per_s = 0;
  Topology topology;
  HostLinks host;
  double idle_watts = 0, busy_watts = 0;
  double price_per_hour = 0;
  ChipConstants constants;
  std::optional<MeasuredMachine> measured;  // of a rank on a computer: its figures replace peaks and links

  // The share of the peak that a product of this shape reaches: what the array's padding and filling leave.
  double shape_efficiency(const Product& product) const;
  // UserError where the chip has no products of the operands' type.
  Seconds product_time(const Product& product) const;
};

// max(products at the rate of their shapes, bytes at the memory's bandwidth).
struct OperatorTime {
  Seconds total{0}, products{0}, bytes{0};
  bool bound_by_memory() const { return bytes > products; }
};
OperatorTime time_of(const Chip& chip, const Cost& cost);
// The same where the chip may be a computer, whose figures go by the kind of operator.
OperatorTime time_of(const Chip& chip, std::string_view kind, const Cost& cost);

// UserError with the field and what it may be.
Chip make_chip(const config::ChipConfig& config);

}  // namespace toroid::sim
