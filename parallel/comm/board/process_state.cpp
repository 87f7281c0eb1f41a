#include "parallel/comm/board/process_state.h"

#include <cerrno>
#include <csignal>
#include <fstream>
#include <string>

namespace toroid {

ProcessState state_of(int process) {
  if (::kill(process, 0) != 0 && errno == ESRCH) return ProcessState::gone;
  // "pid (name) state ...", where the name may hold anything.
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t end = text.rfind(')');
  if (end == std::string::npos || end + 2 >= text.size()) return ProcessState::running;
  switch (text[end + 2]) {
    case 'T':
    case 't':
      return ProcessState::stopped;
    case 'Z':
    case 'X':
      return ProcessState::gone;
    default:
      return ProcessState::running;
  }
}

}  // namespace toroid
