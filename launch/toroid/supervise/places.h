// Where a supervised run can have its ranks now: on all of its pods, or on as many whole ones as what is left
// of the machines carries.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid::launch {

struct HostSlots {
  std::string name;
  int slots = 1;
};

// Of mpirun's list "a:2,b:2"; a host without a number has one. UserError where it is no such list.
std::vector<HostSlots> parse_hosts(const std::string& list);
std::string to_list(const std::vector<HostSlots>& hosts);

struct Places {
  int64_t pods = 0;
  std::string hosts;               // for mpirun; empty: this machine
  std::vector<std::string> lacks;  // "host b does not answer", for the log
};

class PlaceFinder {
 public:
  struct Sources {
    std::string hosts;    // --hosts
    std::string command;  // --check-host, run by a shell with the host's name as its argument; "": ssh
    Path pods_file;       // --pods-file: holds how many pods may run; "": all
    bool elastic = true;  // false: neither is looked at
    // Hosts that are left out though they answer; nothing: none.
    std::function<std::set<std::string>()> spoiled = {};
  };
  // UserError where the sources do not go together.
  PlaceFinder(Sources sources, int64_t pods, int64_t chips_per_pod);

  // Asks now. Hosts are asked one after the other, each for at most twenty seconds.
  Places find() const;

 private:
  bool answers(const std::string& host) const;

  Sources sources_;
  std::vector<HostSlots> hosts_;
  int64_t pods_, chips_;
};

}  // namespace toroid::launch
