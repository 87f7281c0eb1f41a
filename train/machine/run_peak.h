// The product rate that a run's MFU is a share of: what `toroid doctor` measured of this machine, until a
// step beats it.
#pragma once

#include <optional>
#include <string>

#include "core/device/cpu/host_info.h"
#include "core/tensor/dtype.h"
#include "parallel/comm/world.h"
#include "train/machine/host.pb.h"

namespace toroid::train {

// The run that asks.
struct PeakOf {
  DType type = DType::bf16;  // of its products
  int hosts = 1;             // of like ranks; 0: not alike
  int threads = 1;           // of all ranks on this host
};

// A run of `world`'s ranks with so many threads each.
PeakOf peak_asked(DType type, const World& world, int threads);

// The peak of all of the run's hosts, FLOP/s, if `figures` say it. Where they do not, because they are of
// another machine or of fewer threads, `why` is a sentence; empty where they say nothing of this type.
std::optional<double> peak_of(const config::MachineFigures& figures, const HostInfo& host, const PeakOf& run,
                              std::string& why);
// A sentence about a peak that is known to be doubtful, else empty: its rounds differed, or a run raised it.
std::string doubt_of(const config::MachineFigures& figures, DType type);

class RunPeak {
 public:
  RunPeak() = default;                  // none is known, and none is told
  explicit RunPeak(const PeakOf& run);  // from the machine's figures; tells the log what it finds wrong
  RunPeak(const PeakOf& run, double flops_per_s) : run_(run), peak_(flops_per_s) {}
  // By the data sheet of the run's devices, which no run raises; nothing: as if none were known.
  static RunPeak of_data_sheet(std::optional<double> flops_per_s) {
    RunPeak out;
    out.peak_ = flops_per_s;
    out.fixed_ = true;
    return out;
  }

  // The share that `flops_per_s` of the run are of the peak. Nothing where no peak is known, and where the
  // run is faster: the peak was measured too low then, and is the run's own rate from here on. The log says
  // so once, and the machine's figures take the new peak where they can be written.
  std::optional<double> share(double flops_per_s);
  std::optional<double> flops_per_s() const { return peak_; }

 private:
  PeakOf run_;
  std::optional<double> peak_;
  bool fixed_ = false;
  double written_ = 0;
};

}  // namespace toroid::train
