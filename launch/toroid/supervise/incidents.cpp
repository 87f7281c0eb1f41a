#include "launch/toroid/supervise/incidents.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "core/base/log.h"

namespace toroid::launch {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostBytes = int64_t{64} << 20;

template <class Value>
Json json(const std::optional<Value>& value) {
  return value ? Json(*value) : Json();
}

std::string line(const Incident& incident) {
  const Incident& at = incident;
  Json out{{"time", at.time},
           {"kind", "job ended"},
           {"start", at.start},
           {"code", at.code},
           {"meaning", at.meaning}};
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

std::set<std::string> spoiled_hosts(const Path& run) {
  std::set<std::string> out;
  try {
    const Path file = run / Incidents::kName;
    std::istringstream lines(is_present(file) ? read_file(file, kMostBytes) : "");
    for (std::string each; std::getline(lines, each);) {
      const Json row = Json::parse(each, nullptr, false);
      if (!row.is_object() || !row.contains("lasting") || row["lasting"] != true) continue;
      if (!row.contains("host") || !row["host"].is_string()) continue;
      const auto host = row["host"].get<std::string>();
      if (host.empty()) continue;
      out.insert(host);
      out.insert(host.substr(0, host.find('.')));
    }
  } catch (const Error& error) {
    log::warn("supervise: {}", error.what());
  }
  return out;
}

void Incidents::add(Incident incident) {
  rows_.push_back(std::move(incident));
  write();
}

void Incidents::write() {
  try {
    if (!is_present_directory(file_.parent_path())) return;
    // Ranks write there too (train/report/incidents.h), and earlier supervisions did: only this one's own
    // lines are replaced.
    std::string text;
    std::vector<bool> there(rows_.size());
    std::istringstream before(is_present(file_) ? read_file(file_, kMostBytes) : "");
    for (std::string each; std::getline(before, each);) {
      const auto own = std::find(written_.begin(), written_.end(), each + "\n");
      const auto row = static_cast<size_t>(own - written_.begin());
      if (own != written_.end()) there[row] = true;
      text += own != written_.end() ? line(rows_[row]) : each + "\n";
    }
    for (size_t row = 0; row < rows_.size(); ++row) {
      if (!there[row]) text += line(rows_[row]);
    }
    write_file(file_, text);
    written_.clear();
    for (const Incident& row : rows_) written_.push_back(line(row));
  } catch (const Error& error) {
    log::warn("supervise: {}", error.what());
  }
}

}  // namespace toroid::launch
