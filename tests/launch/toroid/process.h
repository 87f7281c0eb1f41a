// Runs a program and says how it ended: for tests of the toroid program as a user meets it.
#pragma once

#include <string>
#include <vector>

namespace toroid::test {

struct Ended {
  int code = -1;    // exit status; -1 where a signal ended it
  int signal = 0;   // that ended it
  std::string out;  // standard output
  std::string err;  // standard error
  double seconds = 0;
  double peak_megabytes = 0;
};

// Waits for `program` with these arguments, standard input closed. A limit in seconds ends it with SIGKILL.
Ended run_program(const std::string& program, const std::vector<std::string>& arguments, double limit = 60);

}  // namespace toroid::test
