#include "parallel/comm/watch/wire_checks.h"

#include "core/base/error.h"
#include "core/base/processor_time.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"
#include "core/device/cpu/checksum.h"

namespace toroid {
namespace {

int64_t thread_nanoseconds() {
  return static_cast<int64_t>(1e9 * thread_processor_time().count());
}

}  // namespace

// Not every so many calls: a step makes about as many each time, and the same ones would never be taken.
bool WireChecks::takes(uint64_t sequence) const {
  if (sequence == 0 || every_ <= 1) return true;
  return hash_mix(sequence, 0) % static_cast<uint64_t>(every_) == 0;
}

Checksum WireChecks::of(std::span<const std::byte> bytes) {
  const int64_t before = thread_nanoseconds();
  const Checksum out = cpu::checksum(bytes);
  nanoseconds_.fetch_add(thread_nanoseconds() - before, std::memory_order_relaxed);
  bytes_.fetch_add(static_cast<int64_t>(bytes.size()), std::memory_order_relaxed);
  return out;
}

void corrupted(const WireFault& fault, const CollectiveInfo& info, const std::vector<std::string>& hosts) {
  const auto who = [&](int rank) {
    const auto index = static_cast<size_t>(rank);
    return "rank " + std::to_string(rank) +
           (index < hosts.size() ? " on host " + in_quotes(hosts[index]) : std::string());
  };
  std::string what = info.operation + " of " + in_quotes(info.tensor) + " on axis " + info.axis +
                     ", sequence number " + std::to_string(fault.sequence) + ", by " + info.method + ": of " +
                     with_commas(fault.bytes) + " bytes, " + who(fault.receiver) + " received others than " +
                     who(fault.sender) + " had";
  if (const auto word = changed_word(fault.sent, fault.received, (fault.bytes + 3) / 4)) {
    what += " (one word, at byte " + with_commas(4 * word->word) +
            (word->bit ? ", bit " + std::to_string(*word->bit) + ")" : std::string(")"));
  }
  Finding finding;
  finding.detector = "wire";
  finding.rank = fault.sender;
  finding.other = fault.receiver;
  finding.what = what;
  throw CorruptionError(finding);
}

}  // namespace toroid
