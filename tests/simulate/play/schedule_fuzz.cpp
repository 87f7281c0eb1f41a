// libFuzzer: the text of a schedule's file. Whatever it is, it is read or refused by a UserError, and what is
// read prices a reduction between pods with a number. Seeds: tests/malformed/schedule.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "parallel/mesh/mesh.pb.h"
#include "simulate/play/chips.h"
#include "simulate/play/schedule.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace toroid;
  try {
    const sim::Schedule schedule = train::parse_schedule({reinterpret_cast<const char*>(data), size}, "fuzz");
    sim::Chip chip;
    chip.name = "fuzz";
    chip.topology.pod = {4};
    chip.topology.bytes_per_s = chip.host.chip_bytes_per_s = 1e9;
    config::MeshConfig mesh;
    mesh.add_torus(4);
    mesh.set_data(4);
    mesh.set_pods(5);
    sim::Network network(mesh::Mesh(mesh), chip);
    sim::ScheduledNetwork scheduled(schedule, network);
    CollectiveInfo info;
    info.operation = "all_reduce";
    info.axis = "pod";
    info.ranks = 5;
    info.method = "ring";
    info.bytes = info.wire_bytes = 1000;
    const double seconds = scheduled.flow(info).alone().count();
    if (!std::isfinite(seconds) || seconds <= 0) std::abort();
  } catch (const UserError&) {
  }
  return 0;
}
