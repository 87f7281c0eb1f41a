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
  double product_efficiency = 1;    // of the peak that well-shaped products reach
  double attention_efficiency = 1;  // of what attention's products and vector work would take one by one
  double memory_efficiency = 1;     // of the memory's bandwidth, by operators without products
  double link_efficiency = 1;       // of a link's bandwidth
  Seconds collective_overhead{0};   // of starting one
  Seconds operator_overhead{0};     // of starting an operator
};

struct Chip {
  std::string name;
  std::map<DType, double> peak_flops_per_s;
  struct Mxu {
    int64_t rows = 1, columns = 1, count = 1;
  } mxu;
  double vector_flops_per_s = 0;  // 0: not known, and vector work takes no time of its own
  int64_t attention_block =
      0;  // queries and keys that attention computes at a time; 0: no more than are seen
  int64_t memory_bytes = 0, on_chip_bytes = 0;
  double memory_bytes_per_s = 0, on_chip_bytes_per_s = 0;
  Topology topology;
  HostLinks host;
  double idle_watts = 0, busy_watts = 0;
  double price_per_hour = 0;
  ChipConstants constants;
  bool fitted = false;  // whether these were fitted to published measurements; else they are the data sheet's
  std::optional<MeasuredMachine> measured;  // of a rank on a computer: its figures replace peaks and links

  // Weights of rows x columns lie in the arrays while the other operand's rows stream past them, whichever
  // operand is the better one for that. Dimensions are padded to whole weights, weights are dealt to the
  // arrays, one takes at least as long as it takes to load the next, and the first and the last row take the
  // array's depth. UserError where the chip has no products of the operands' type.
  Seconds product_time(const Product& product) const;
  // That share of the peak.
  double shape_efficiency(const Product& product) const;
  // Bytes of the operands that are read more than once, as what the chip holds is too little for whole ones:
  // half of it holds a square of f32 sums, past which both operands go in panels.
  double bytes_read_again(const Product& product) const;
};

// What an operator takes: the longest of its products, its vector work and its bytes, and the chip's overhead
// of an operator. In attention a block's products and its softmax wait for each other and add up.
struct OperatorTime {
  enum class Bound : uint8_t { products, vector, memory };
  Seconds total{0}, products{0}, vector{0}, bytes{0};
  Bound bound() const;
};
// The figures of a computer go by the kind of operator.
OperatorTime time_of(const Chip& chip, std::string_view kind, const Cost& cost);

// UserError with the field and what it may be.
Chip make_chip(const config::ChipConfig& config);

}  // namespace toroid::sim
