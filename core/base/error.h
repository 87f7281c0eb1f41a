// The exception family. Throw UserError for bad input (say what was found, what was expected, what to do),
// SystemError where the machine failed (disk, memory, network), PeerError where another rank is the cause,
// CorruptionError where bits are found to have changed, InternalError for a bug. Only main ends the process.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace toroid {

// Exit codes of the toroid program, documented in docs/exit_codes.md.
enum class ExitCode : int {
  done = 0,
  internal_error = 1,
  bad_input = 2,
  system_error = 3,
  different = 4,
  saved_on_signal = 75,
  lost_peer = 76,
  too_many_skips = 77,
  corrupted = 78,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

class UserError : public Error {
 public:
  explicit UserError(const std::string& message) : Error(ExitCode::bad_input, message) {}
};

class SystemError : public Error {
 public:
  explicit SystemError(const std::string& message) : Error(ExitCode::system_error, message) {}
  // Appends the text of `error_number` (an errno).
  SystemError(const std::string& message, int error_number);
};

class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(ExitCode::internal_error, message) {}
};

// A peer did not come in time, is gone, or does something else than this rank; the message says who and what.
class PeerError : public Error {
 public:
  explicit PeerError(const std::string& message) : Error(ExitCode::lost_peer, message) {}
};

// Silent corruption as a detector found it (docs/operations.md).
struct Finding {
  std::string detector;         // "wire"
  int rank = -1, other = -1;    // of the world: whose it is, as far as is known, and the other end of a wire
  std::optional<bool> lasting;  // whether it came again when it was tried again; nothing: it was not
  std::string what;
};

class CorruptionError : public Error {
 public:
  explicit CorruptionError(Finding finding)
      : Error(ExitCode::corrupted, "silent corruption (" + finding.detector + "): " + finding.what +
                                       "; start again with --resume, from a checkpoint before it"),
        finding_(std::move(finding)) {}
  const Finding& finding() const { return finding_; }

 private:
  Finding finding_;
};

// Throws InternalError unless `condition` holds. For relations that only a bug can break.
inline void require(bool condition, const char* relation) {
  if (!condition) throw InternalError(std::string("internal relation does not hold: ") + relation);
}

}  // namespace toroid
