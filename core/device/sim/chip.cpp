#include "core/device/sim/chip.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/round_up.h"
#include "core/base/text.h"
#include "core/device/sim/chip.pb.h"

namespace toroid::sim {
namespace {

constexpr double kLeastRate = 1, kMostRate = 1e24;  // FLOP/s and bytes/s
constexpr int64_t kMostBytes = int64_t{1} << 50;
constexpr double kLongest = 1e3;  // seconds of a latency

DType type_named(const std::string& name) {
  for (const DType type : {DType::bf16, DType::f32, DType::u8}) {
    if (name == name_of(type) || (name == "int8" && type == DType::u8)) return type;
  }
  throw UserError("peak.type is " + in_quotes(name) + "; it must be bf16, f32 or int8");
}

void read_peaks(const config::ChipConfig& config, Chip& chip) {
  if (config.peak_size() == 0)
    throw UserError("peak is not set; a chip needs one for each type it multiplies");
  for (int i = 0; i < config.peak_size(); ++i) {
    const std::string name = "peak[" + std::to_string(i) + "].flops_per_s";
    check_range(name, config.peak(i).has_flops_per_s(), config.peak(i).flops_per_s(), kLeastRate, kMostRate);
    const DType type = type_named(config.peak(i).type());
    if (!chip.peak_flops_per_s.emplace(type, config.peak(i).flops_per_s()).second) {
      throw UserError("peak[" + std::to_string(i) + "] is the second for " +
                      in_quotes(config.peak(i).type()) + "; a type has one peak");
    }
  }
}

void read_mxu(const config::ChipConfig::Mxu& mxu, Chip& chip) {
  constexpr int64_t kMost = 1 << 16;
  check_range("mxu.rows", mxu.has_rows(), mxu.rows(), int64_t{1}, kMost);
  check_range("mxu.columns", mxu.has_columns(), mxu.columns(), int64_t{1}, kMost);
  check_range("mxu.count", mxu.count(), int64_t{1}, kMost);
  check_range("mxu.fill", mxu.fill(), int64_t{0}, kMost);
  chip.mxu = {mxu.rows(), mxu.columns(), mxu.count(), mxu.fill()};
}

void read_memory(const std::string& name, const config::ChipConfig::Memory& memory, int64_t& bytes,
                 double& bytes_per_s) {
  check_range(name + ".bytes", memory.has_bytes(), memory.bytes(), int64_t{1}, kMostBytes);
  check_range(name + ".bytes_per_s", memory.has_bytes_per_s(), memory.bytes_per_s(), kLeastRate, kMostRate);
  bytes = memory.bytes();
  bytes_per_s = memory.bytes_per_s();
}

Topology torus_of(const config::ChipConfig::Torus& torus) {
  Topology out;
  if (torus.pod_size() < 1 || torus.pod_size() > 3)
    throw UserError("torus.pod has " + std::to_string(torus.pod_size()) + " dimensions; it must have 1 to 3");
  for (int i = 0; i < torus.pod_size(); ++i) {
    check_range("torus.pod[" + std::to_string(i) + "]", torus.pod(i), int64_t{1}, int64_t{1} << 16);
    out.pod.push_back(torus.pod(i));
  }
  out.wrap = static_cast<Topology::Wrap>(torus.wrap());
  if (out.wrap != Topology::Wrap::never)
    check_range("torus.wrap_size", torus.has_wrap_size(), torus.wrap_size(), int64_t{1}, int64_t{1} << 16);
  out.wrap_size = torus.wrap_size();
  check_range("torus.link_bytes_per_s", torus.has_link_bytes_per_s(), torus.link_bytes_per_s(), kLeastRate,
              kMostRate);
  check_range("torus.hop_latency_s", torus.has_hop_latency_s(), torus.hop_latency_s(), 0.0, kLongest);
  out.bytes_per_s = torus.link_bytes_per_s();
  out.hop_latency = Seconds(torus.hop_latency_s());
  return out;
}

Topology switch_of(const config::ChipConfig::Switch& joined) {
  Topology out;
  out.is_switch = true;
  check_range("switch.chips", joined.has_chips(), joined.chips(), int64_t{1}, int64_t{1} << 20);
  check_range("switch.port_bytes_per_s", joined.has_port_bytes_per_s(), joined.port_bytes_per_s(), kLeastRate,
              kMostRate);
  check_range("switch.latency_s", joined.has_latency_s(), joined.latency_s(), 0.0, kLongest);
  out.pod = {joined.chips()};
  out.bytes_per_s = joined.port_bytes_per_s();
  out.hop_latency = Seconds(joined.latency_s());
  return out;
}

HostLinks host_of(const config::ChipConfig::Host& host) {
  check_range("host.chips", host.chips(), int64_t{1}, int64_t{1} << 16);
  check_range("host.cards", host.cards(), int64_t{1}, int64_t{1} << 16);
  check_range("host.card_bytes_per_s", host.has_card_bytes_per_s(), host.card_bytes_per_s(), kLeastRate,
              kMostRate);
  check_range("host.pcie_bytes_per_s", host.has_pcie_bytes_per_s(), host.pcie_bytes_per_s(), kLeastRate,
              kMostRate);
  check_range("host.message_latency_s", host.message_latency_s(), 0.0, kLongest);
  check_range("host.ring_step_s", host.ring_step_s(), 0.0, kLongest);
  check_range("host.oversubscription", host.oversubscription(), 1.0, 1e6);
  HostLinks out;
  out.chips = host.chips();
  const double cards = static_cast<double>(host.cards()) * host.card_bytes_per_s() / host.oversubscription();
  out.chip_bytes_per_s = std::min(host.pcie_bytes_per_s(), cards / static_cast<double>(host.chips()));
  out.message_latency = Seconds(host.message_latency_s());
  out.ring_step = Seconds(host.ring_step_s());
  return out;
}

double padded_share(int64_t size, int64_t tile) {
  return static_cast<double>(size) / static_cast<double>(round_up(size, tile));
}

}  // namespace

bool Topology::wraps(int64_t size) const {
  if (is_switch) return true;
  if (wrap == Wrap::exactly) return size == wrap_size;
  return wrap == Wrap::multiples && size % wrap_size == 0;
}

int64_t Topology::pod_chips() const {
  int64_t chips = 1;
  for (const int64_t size : pod) chips *= size;
  return chips;
}

// A weight of rows x columns serves m rows of the other operand and then makes way: the array is full for m
// of the m + fill rows' time. k and n are padded to whole weights.
double Chip::shape_efficiency(const Product& product) const {
  if (product.m == 0 || product.n == 0 || product.k == 0) return 1;
  const auto m = static_cast<double>(product.m);
  return padded_share(product.k, mxu.rows) * padded_share(product.n, mxu.columns) * m /
         (m + static_cast<double>(mxu.fill));
}

Seconds Chip::product_time(const Product& product) const {
  const auto peak = peak_flops_per_s.find(product.type);
  if (peak == peak_flops_per_s.end()) {
    throw UserError("chip " + name + " has no peak for products of " + std::string(name_of(product.type)) +
                    "; set train.precision to one that it has, or add a peak to its file");
  }
  return Seconds(static_cast<double>(product.flops()) /
                 (peak->second * constants.product_efficiency * shape_efficiency(product)));
}

OperatorTime time_of(const Chip& chip, const Cost& cost) {
  OperatorTime out;
  for (const Product& product : cost.products) out.products += chip.product_time(product);
  out.bytes = Seconds(static_cast<double>(cost.bytes_read + cost.bytes_written) /
                      (chip.memory_bytes_per_s * chip.constants.memory_efficiency));
  out.total = std::max(out.products, out.bytes) + chip.constants.operator_overhead;
  return out;
}

OperatorTime time_of(const Chip& chip, std::string_view kind, const Cost& cost) {
  if (!chip.measured) return time_of(chip, cost);
  OperatorTime out;
  out.total = chip.measured->time(kind, cost);
  (cost.products.empty() ? out.bytes : out.products) = out.total;
  return out;
}

Chip make_chip(const config::ChipConfig& config) {
  Chip chip;
  if (config.name().empty()) throw UserError("name is not set; a chip has one");
  chip.name = printable(config.name());
  read_peaks(config, chip);
  if (config.has_mxu()) read_mxu(config.mxu(), chip);
  read_memory("memory", config.memory(), chip.memory_bytes, chip.memory_bytes_per_s);
  if (config.has_on_chip())
    read_memory("on_chip", config.on_chip(), chip.on_chip_bytes, chip.on_chip_bytes_per_s);
  switch (config.topology_case()) {
    case config::ChipConfig::kTorus:
      chip.topology = torus_of(config.torus());
      break;
    case config::ChipConfig::kSwitch:
      chip.topology = switch_of(config.switch_());
      break;
    case config::ChipConfig::TOPOLOGY_NOT_SET:
      throw UserError("neither torus nor switch is set; a chip's pod has one of them");
  }
  chip.host = host_of(config.host());
  check_range("power.idle_watts", config.power().idle_watts(), 0.0, 1e6);
  check_range("power.busy_watts", config.power().busy_watts(), 0.0, 1e6);
  check_range("price_per_hour", config.price_per_hour(), 0.0, 1e6);
  chip.idle_watts = config.power().idle_watts();
  chip.busy_watts = config.power().busy_watts();
  chip.price_per_hour = config.price_per_hour();
  return chip;
}

}  // namespace toroid::sim
