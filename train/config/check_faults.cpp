// The check of rehearsed faults of their own config.
#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "train/config/check.h"
#include "train/faults/faults.pb.h"

namespace toroid::train {
namespace {

using config::Fault;

constexpr int64_t kMostFaults = 10'000;
constexpr int64_t kLatestStep = 1'000'000'000'000;

[[noreturn]] void refuse_value(const std::string& path, const char* field, Fault::Kind kind,
                               const char* whose) {
  throw UserError(path + "." + field + " is set, but " + path + ".kind is " + Fault::Kind_Name(kind) +
                  "; it is a value of " + whose);
}

void check_fault(const Fault& fault, const std::string& path) {
  if (!fault.has_kind()) throw UserError(path + ".kind is not set; it must be KILL, STOP, SLOW or another");
  check_range(path + ".step", fault.has_step(), fault.step(), int64_t{1}, kLatestStep);
  if (fault.has_rank()) check_range(path + ".rank", fault.rank(), 0, (int64_t{1} << 20) - 1);
  check_range(path + ".milliseconds", fault.milliseconds(), 0.0, 1e7);
  check_range(path + ".steps", fault.steps(), 1, kLatestStep);
  check_range(path + ".megabytes", fault.megabytes(), 1, 1'000'000);
  const Fault::Kind kind = fault.kind();
  const Fault usual;
  const bool slows = fault.milliseconds() != usual.milliseconds() || fault.steps() != usual.steps();
  if (slows && kind != Fault::SLOW) refuse_value(path, "milliseconds or .steps", kind, "SLOW");
  if (fault.megabytes() != usual.megabytes() && kind != Fault::FULL_DISK)
    refuse_value(path, "megabytes", kind, "FULL_DISK");
  const bool spoils = kind == Fault::GRADIENT || kind == Fault::WEIGHT;
  if (fault.has_value() && !spoils) refuse_value(path, "value", kind, "GRADIENT and WEIGHT");
  if (!fault.has_bit()) return;
  if (!spoils && kind != Fault::MESSAGE && kind != Fault::FILE)
    refuse_value(path, "bit", kind, "GRADIENT, WEIGHT, MESSAGE and FILE");
  if (fault.has_value()) throw UserError(path + " has a bit and a value; leave one of them out");
  check_range(path + ".bit", fault.bit(), 0, kind == Fault::FILE ? 7 : 31);
}

}  // namespace

void check(const config::FaultsConfig& faults) {
  check_range("the number of faults.fault", int64_t{faults.fault_size()}, int64_t{0}, kMostFaults);
  for (int i = 0; i < faults.fault_size(); ++i)
    check_fault(faults.fault(i), "faults.fault[" + std::to_string(i) + "]");
  if (!faults.has_random()) return;
  check_range("faults.random.mean_steps", faults.random().has_mean_steps(), faults.random().mean_steps(), 1.0,
              1e12);
  if (faults.random().kinds().empty()) {
    throw UserError("faults.random.kinds is not set; list what is to be drawn from, such as [KILL, STOP]");
  }
  check_range("the number of faults.random.kinds", int64_t{faults.random().kinds_size()}, int64_t{1},
              int64_t{1000});
}

}  // namespace toroid::train
