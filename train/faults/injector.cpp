#include "train/faults/injector.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/faults/record.h"

namespace toroid::faults {

using config::Fault;

Injector::Injector(const config::RunConfig& run, int rank, int ranks)
    : plan_(run.faults(), run.train().seed(), ranks), seed_(run.train().seed()), rank_(rank), ranks_(ranks) {}

train::AdaptGroups Injector::adapt() const {
  if (!plan_.has({Fault::GRADIENT, Fault::MESSAGE, Fault::DROP, Fault::SLOW})) return {};
  return [armed = armed_](train::AxisGroups groups, Device& device) {
    const auto spoiled = [&](std::unique_ptr<Communicator> inner, bool gradients) {
      return std::make_unique<SpoiledCommunicator>(std::move(inner), device, armed, gradients);
    };
    groups.gather = spoiled(std::move(groups.gather), false);
    groups.reduce = spoiled(std::move(groups.reduce), true);
    groups.model = spoiled(std::move(groups.model), false);
    groups.pod = spoiled(std::move(groups.pod), false);
    return groups;
  };
}

void Injector::begin(const Path& directory, bool leads) {
  if (off()) return;
  directory_ = directory;
  happened_ = recorded(directory);
  if (leads) remove_filler(directory);
  if (leads) say_plan();
}

void Injector::say_plan() const {
  log::warn("faults: this run HARMS ITSELF ON PURPOSE, as its config says; without `faults` it does not");
  for (const Planned& fault : plan_.listed()) {
    const bool alone =
        ranks_ == 1 && (fault.fault.kind() == Fault::MESSAGE || fault.fault.kind() == Fault::DROP);
    const char* const note = fault.rank >= ranks_                          ? "; there is no such rank"
                             : alone                                       ? "; a rank alone has no messages"
                             : fault.fault.repeat()                        ? "; each time"
                             : happened_.find(fault.id) != happened_.end() ? "; has happened"
                                                                           : "";
    log::warn("faults: {}: {}{}", fault.id, fault.text(), note);
  }
  if (!plan_.random().has_mean_steps()) return;
  std::string kinds;
  for (const int kind : plan_.random().kinds()) {
    kinds += (kinds.empty() ? "" : ", ") + Fault::Kind_Name(static_cast<Fault::Kind>(kind));
  }
  log::warn("faults: at random, {} steps between two of them on average: {}; {} have happened",
            plan_.random().mean_steps(), kinds, happened_.size());
}

void Injector::announce(const Planned& fault, int64_t step) const {
  record(directory_, fault, step);
  log::warn("faults: {} ({}) happens now, before step {} is over", fault.text(), fault.id, step);
}

void Injector::before_step(int64_t step, Device& device, Zero& zero) {
  if (off()) return;
  for (const Planned& fault : plan_.at(step)) {
    if (fault.rank != rank_) continue;
    if (!fault.fault.repeat() && !happened_.insert(fault.id).second) continue;
    happen(fault, step, device, zero);
  }
  std::erase_if(slow_,
                [&](const Planned& fault) { return step >= fault.fault.step() + fault.fault.steps(); });
  // Within the step, where a slow processor would lose its time.
  for (const Planned& fault : slow_) armed_->push_back({fault, seed_});
}

void Injector::happen(const Planned& fault, int64_t step, Device& device, Zero& zero) {
  const Fault::Kind kind = fault.fault.kind();
  if (kind == Fault::FULL_DISK || kind == Fault::FAIL_SAVE) {
    at_save_.push_back(fault);
    return;
  }
  const bool of_messages = kind == Fault::MESSAGE || kind == Fault::DROP;
  if (of_messages && ranks_ == 1) return;
  announce(fault, step);
  switch (kind) {
    case Fault::KILL:
      (void)::kill(::getpid(), SIGKILL);
      break;
    case Fault::STOP:
      (void)::kill(::getpid(), SIGSTOP);
      break;
    case Fault::SEGFAULT:
      (void)::raise(SIGSEGV);
      break;
    case Fault::SLOW:
      slow_.push_back(fault);
      break;
    case Fault::WEIGHT:
      spoil_weight(fault, device, zero);
      break;
    case Fault::GRADIENT:
    case Fault::MESSAGE:
    case Fault::DROP:
      // Not always the first one of the step.
      armed_->push_back({fault, seed_, static_cast<int64_t>(draw(seed_, fault.id, 12) % 8), {}});
      for (const Unit& unit : zero.units()) armed_->back().units.push_back(&unit);
      break;
    case Fault::FILE: {
      const std::string what = spoil_checkpoint(directory_, fault, seed_);
      log::warn("faults: {}: {}", fault.text(),
                what.empty() ? "there is no checkpoint yet" : "flipped " + what);
      break;
    }
    case Fault::FULL_DISK:
    case Fault::FAIL_SAVE:
      break;
  }
}

void Injector::spoil_weight(const Planned& fault, Device& device, Zero& zero) const {
  std::vector<NamedTensor> masters = zero.parts();
  std::erase_if(masters,
                [](const NamedTensor& part) { return part.part != "master" || part.tensor.elements() == 0; });
  if (masters.empty()) return;
  const NamedTensor& part = masters[draw(seed_, fault.id, 11) % masters.size()];
  log::warn("faults: {}: in {}", fault.text(), printable(part.name));
  spoil(device, part.tensor, {fault, seed_}, {{0, part.tensor.elements()}});
}

void Injector::before_save(int64_t step, std::vector<TensorSlice>& slices) {
  for (const Planned& fault : at_save_) {
    announce(fault, step);
    if (fault.fault.kind() == Fault::FULL_DISK) {
      full_ = std::make_unique<FullDisk>(directory_, fault.fault.megabytes() << 20);
      if (full_->full()) continue;
      log::warn("faults: {}: left out, more than faults.fault.megabytes ({}) are free in {}", fault.text(),
                fault.fault.megabytes(), printable(directory_.string()));
    } else if (!slices.empty()) {
      slices.front().fill = [text = fault.text()](int64_t, std::span<std::byte>) {
        throw SystemError("faults: " + text + ": this save fails on purpose");
      };
    }
  }
  at_save_.clear();
}

}  // namespace toroid::faults
