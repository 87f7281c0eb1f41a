#include "launch/toroid/supervise/incidents.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"

namespace toroid::launch {
namespace {

using Json = nlohmann::ordered_json;

template <class Value>
Json json(const std::optional<Value>& value) {
  return value ? Json(*value) : Json();
}

std::string line(const Incident& incident) {
  const Incident& at = incident;
  Json out{{"time", at.time}, {"start", at.start}, {"code", at.code}, {"meaning", at.meaning}};
  out["rank"] = json(at.rank);
  out["said"] = at.said;
  out["report"] = at.report.empty() ? Json() : Json(at.report);
  out["step"] = json(at.step);
  out["resumed"] = json(at.resumed);
  out["lost_steps"] = at.step && at.resumed ? Json(std::max<int64_t>(0, *at.step - *at.resumed)) : Json();
  out["recovery_s"] = at.recovery ? Json(std::round(at.recovery->count() * 1000) / 1000) : Json();
  out["pods_before"] = at.pods_before;
  out["pods_after"] = json(at.pods_after);
  return out.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string time_now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

void Incidents::add(Incident incident) {
  rows_.push_back(std::move(incident));
  write();
}

void Incidents::write() {
  constexpr int64_t kMost = int64_t{64} << 20;
  try {
    if (!before_) {
      before_ = is_present(file_) ? read_file(file_, kMost) : "";
      if (!before_->empty() && before_->back() != '\n') *before_ += '\n';
    }
    std::string text = *before_;
    for (const Incident& row : rows_) text += line(row);
    if (is_present_directory(file_.parent_path())) write_file(file_, text);
  } catch (const Error& error) {
    log::warn("supervise: {}", error.what());
  }
}

}  // namespace toroid::launch
