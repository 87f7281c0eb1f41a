// Checksums of what ranks send each other, or read of each other's memory: the rank that has the bytes takes
// one, and so does the rank that gets them, who compares. Asked by the thread that serves a rank's transfers.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/checksum.h"
#include "core/base/clock.h"
#include "core/device/transfer.h"

namespace toroid {

class WireChecks {
 public:
  // Of one collective in `every`, which all its ranks choose alike. `hosts`: each rank's, by name.
  WireChecks(int64_t every, std::vector<std::string> hosts) : every_(every), hosts_(std::move(hosts)) {}

  // Whether call number `sequence` of a group is checked; 0, a message between two ranks, always is.
  bool takes(uint64_t sequence) const;
  Checksum of(std::span<const std::byte> bytes);
  const std::vector<std::string>& hosts() const { return hosts_; }

  // Processor time of the thread within of(), and the bytes that it has seen.
  Seconds spent() const { return Seconds(1e-9 * static_cast<double>(nanoseconds_.load())); }
  int64_t bytes() const { return bytes_.load(); }

 private:
  int64_t every_;
  std::vector<std::string> hosts_;
  std::atomic<int64_t> nanoseconds_{0}, bytes_{0};
};

// What differs: a CorruptionError that names both ranks, their hosts, the call and the word.
struct WireFault {
  int sender = 0, receiver = 0;  // ranks of the world
  uint64_t sequence = 0;
  Checksum sent, received;
  int64_t bytes = 0;  // that the checksums are of
};
[[noreturn]] void corrupted(const WireFault& fault, const CollectiveInfo& info,
                            const std::vector<std::string>& hosts);

}  // namespace toroid
