#include "core/device/sim/chip.h"

#include <algorithm>
#include <cmath>
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
  chip.mxu = {mxu.rows(), mxu.columns(), mxu.count()};
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

// Causal attention sees (T + 1) / 2 keys a query on average; in blocks it computes those of whole ones.
double computed_in_blocks(const Cost& cost, int64_t block) {
  if (cost.products.empty() || block == 0) return 1;
  const auto seen = static_cast<double>(std::max<int64_t>(cost.products[0].n, 1));
  const auto most = static_cast<double>(std::max(cost.products[0].m, cost.products[0].n));
  return std::min(most, seen + static_cast<double>(block) / 2) / seen;
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

Seconds Chip::product_time(const Product& product) const {
  const auto peak = peak_flops_per_s.find(product.type);
  if (peak == peak_flops_per_s.end()) {
    throw UserError("chip " + name + " has no peak for products of " + std::string(name_of(product.type)) +
                    "; set train.precision to one that it has, or add a peak to its file");
  }
  if (product.flops() == 0) return Seconds(0);
  const auto cycles = [&](int64_t streamed, int64_t kept) {
    const int64_t weights = divide_up(product.k, mxu.rows) * divide_up(kept, mxu.columns) * product.count;
    return static_cast<double>(divide_up(weights, mxu.count)) *
           static_cast<double>(std::max(streamed, mxu.rows));
  };
  const auto depth = static_cast<double>(mxu.rows + mxu.columns - 2);
  const double all = std::min(cycles(product.m, product.n), cycles(product.n, product.m)) + depth;
  const double flops_a_cycle = 2.0 * static_cast<double>(mxu.rows * mxu.columns * mxu.count);
  return Seconds(all * flops_a_cycle / (peak->second * constants.product_efficiency));
}

double Chip::shape_efficiency(const Product& product) const {
  if (product.flops() == 0) return 1;
  const double peak = peak_flops_per_s.at(product.type) * constants.product_efficiency;
  return static_cast<double>(product.flops()) / (peak * product_time(product).count());
}

double Chip::bytes_read_again(const Product& product) const {
  if (on_chip_bytes == 0 || product.count != 1) return 0;
  const auto size = static_cast<double>(bytes_of(product.type));
  const auto m = static_cast<double>(product.m), n = static_cast<double>(product.n);
  const double left = m * static_cast<double>(product.k) * size,
               right = static_cast<double>(product.k) * n * size;
  const double room = static_cast<double>(on_chip_bytes) / 2;
  if (std::min(left, right) <= room) return 0;
  const double side = std::sqrt(room / sizeof(float));
  return left * (std::ceil(n / side) - 1) + right * (std::ceil(m / side) - 1);
}

OperatorTime::Bound OperatorTime::bound() const {
  if (bytes > products && bytes > vector) return Bound::memory;
  return vector > products ? Bound::vector : Bound::products;
}

OperatorTime time_of(const Chip& chip, std::string_view kind, const Cost& cost) {
  OperatorTime out;
  if (chip.measured) {
    out.total = chip.measured->time(kind, cost);
    (cost.products.empty() ? out.bytes : out.products) = out.total;
    return out;
  }
  auto bytes = static_cast<double>(cost.bytes_read + cost.bytes_written);
  for (const Product& product : cost.products) {
    out.products += chip.product_time(product);
    bytes += chip.bytes_read_again(product);
  }
  // Panels of a product stream; what is between products is what comes and goes more often than it would have
  // to.
  const double efficiency = cost.products.empty() ? chip.constants.memory_efficiency : 1;
  out.bytes = Seconds(bytes / (chip.memory_bytes_per_s * efficiency));
  if (chip.vector_flops_per_s > 0)
    out.vector = Seconds(static_cast<double>(cost.vector_flops) / chip.vector_flops_per_s);
  if (kind.starts_with("attention")) {
    const double more = computed_in_blocks(cost, chip.attention_block) / chip.constants.attention_efficiency;
    out.products = more * (out.products + out.vector);
    out.vector = Seconds(0);
  }
  out.total = std::max({out.products, out.vector, out.bytes}) + chip.constants.operator_overhead;
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
  if (config.has_vector_flops_per_s())
    check_range("vector_flops_per_s", config.vector_flops_per_s(), kLeastRate, kMostRate);
  chip.vector_flops_per_s = config.vector_flops_per_s();
  check_range("attention_block", config.attention_block(), int64_t{0}, int64_t{1} << 16);
  chip.attention_block = config.attention_block();
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
