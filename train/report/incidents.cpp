#include "train/report/incidents.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::train {

void append_incident(const Path& run_directory, const Incident& incident) {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> time{};
  const size_t length = std::strftime(time.data(), time.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  nlohmann::ordered_json json;
  json["time"] = std::string(time.data(), length);
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
