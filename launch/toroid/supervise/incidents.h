// incidents.jsonl of a run: what ended a job of it before its time, and how the run came back.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/io/file.h"

namespace toroid::launch {

struct Incident {
  std::string time;                 // when the job ended, UTC: "2026-01-31T12:00:00Z"
  int start = 1;                    // of this supervision, counted from 1
  int code = 0;                     // what the job ended with (docs/exit_codes.md)
  std::string meaning;              // in a few words
  std::optional<int> rank;          // that was named as the cause
  std::string said;                 // the sentence that names it, or why the supervisor ended the job
  std::string report;               // the file that says what each rank did last; "": there is none
  std::optional<int64_t> step;      // that the run had come to
  std::optional<int64_t> resumed;   // that it went on from; 0: from the beginning
  std::optional<Seconds> recovery;  // from the end of the job to the first step after it
  int64_t pods_before = 1;
  std::optional<int64_t> pods_after;
};

// Hosts with a lasting fault, as ranks have written it to the run's incidents.jsonl: by their names and by
// what comes before the first dot.
std::set<std::string> spoiled_hosts(const Path& run);

class Incidents {
 public:
  static constexpr const char* kName = "incidents.jsonl";
  explicit Incidents(Path run) : file_(std::move(run) / kName) {}

  // The latest one, written as it stands now; nullptr where there is none. What is not known yet is null.
  Incident* latest() { return rows_.empty() ? nullptr : &rows_.back(); }
  void add(Incident incident);
  // Writes what has become known of the latest, beside what others wrote. A failure is logged: the run
  // matters more.
  void write();

  const std::vector<Incident>& rows() const { return rows_; }

 private:
  Path file_;
  std::vector<Incident> rows_;
  std::vector<std::string> written_;  // their lines, as the file has them
};

}  // namespace toroid::launch
