#include "train/config/stale.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>
#include <utility>

#include "train/config/reflection.h"
#include "train/config/resolve.h"

namespace toroid::config {
namespace {

namespace pb = google::protobuf;

// Takes out the value at `path`, and each message on the way to it that has nothing else: an arm of a choice
// is set as long as it is there.
void clear(pb::Message& message, const std::string& path) {
  const size_t dot = path.find('.');
  const pb::Reflection* reflection = message.GetReflection();
  const pb::FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(path.substr(0, dot));
  if (field == nullptr || field->is_repeated() || !reflection->HasField(message, field)) return;
  if (dot != std::string::npos) {
    if (field->message_type() == nullptr) return;
    pb::Message& nested = *reflection->MutableMessage(&message, field);
    clear(nested, path.substr(dot + 1));
    std::vector<const pb::FieldDescriptor*> left;
    nested.GetReflection()->ListFields(nested, &left);
    if (!left.empty()) return;
  }
  reflection->ClearField(&message, field);
}

std::map<std::string, std::string> literals(const RunConfig& run) {
  std::map<std::string, std::string> all;
  for_each_value(run, "", [&](const Value& value) { all[value.path] = literal(value); });
  return all;
}

}  // namespace

std::vector<StaleValue> stale_values(const Resolved& resolved) {
  // Values of one message that came from one place came together, as the fields of an arm do.
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> groups;
  for (const auto& [path, origin] : resolved.origins) {
    const size_t dot = path.rfind('.');
    if (const auto source = source_of(origin); source && dot != std::string::npos) {
      groups[{path.substr(0, dot), *source}].push_back(path);
    }
  }
  const auto now = literals(resolved.run);
  const auto find = [](const std::map<std::string, std::string>& all, const std::string& path) {
    const auto found = all.find(path);
    return found == all.end() ? std::string() : found->second;
  };
  std::vector<StaleValue> stale;
  for (const auto& [group, paths] : groups) {
    RunConfig again = resolved.run;
    for (const std::string& path : paths) clear(again, path);
    Origins unused;
    resolve(again, unused);
    const auto derived = literals(again);
    for (const std::string& path : paths) {
      const std::string is = find(now, path), would_be = find(derived, path);
      if (is != would_be) stale.push_back({path, is, group.second, find(now, group.second), would_be});
    }
  }
  return stale;
}

std::string to_text(const StaleValue& stale) {
  const std::string start = stale.path + " is " + stale.value + ", which followed from " + stale.source +
                            "; that is now " + (stale.source_value.empty() ? "not set" : stale.source_value);
  if (stale.derived.empty()) {
    return start +
           ", from which it would not follow, but it stays; take it out of a config of your own, or set " +
           stale.path + "=" + stale.value + " to keep it";
  }
  return start + ", from which " + stale.derived + " would follow, but it stays; set " + stale.path + "=" +
         stale.derived + " to let it follow, or " + stale.path + "=" + stale.value + " to keep it";
}

}  // namespace toroid::config
