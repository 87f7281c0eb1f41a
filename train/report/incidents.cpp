#include "train/report/incidents.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utc_time.h"

namespace toroid::train {

void append_incident(const Path& run_directory, const Incident& incident) {
  nlohmann::ordered_json json;
  json["time"] = utc_time();
  json["kind"] = incident.kind;
  json["detector"] = incident.detector;
  json["rank"] = incident.rank < 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(incident.rank);
  json["host"] = incident.host;
  json["step"] = incident.step;
  json["what"] = incident.what;
  json["lasting"] =
      incident.lasting ? nlohmann::ordered_json(*incident.lasting) : nlohmann::ordered_json(nullptr);
  const std::string line = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const Path path = run_directory / "incidents.jsonl";
  const int file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) throw SystemError("cannot open " + in_quotes(path.string()), errno);
  const ssize_t written = ::write(file, line.data(), line.size());
  const int error = written < 0 || ::fsync(file) != 0 ? errno : 0;
  ::close(file);
  if (error != 0 || written != static_cast<ssize_t>(line.size())) {
    throw SystemError("cannot write " + in_quotes(path.string()), error == 0 ? ENOSPC : error);
  }
}

}  // namespace toroid::train
