#include "simulate/draw/timeline.h"

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::train {
namespace {

constexpr int kFirstLinkRow = 100;

nlohmann::json name_row(int row, const std::string& name) {
  return {{"ph", "M"}, {"pid", 0}, {"tid", row}, {"name", "thread_name"}, {"args", {{"name", name}}}};
}

nlohmann::json event(int row, const std::string& name, const sim::TimeSpan& span) {
  return {{"ph", "X"},
          {"pid", 0},
          {"tid", row},
          {"name", name},
          {"ts", span.begin.count() * 1e6},
          {"dur", (span.end - span.begin).count() * 1e6}};
}

std::string name_of_span(const Record& record) {
  switch (record.kind) {
    case Record::Kind::wait:
      return "wait";
    case Record::Kind::transfer:
      return record.info->operation + " " + record.info->tensor;
    case Record::Kind::copy:
      return "copy";
    default:
      return std::string(record.op);
  }
}

}  // namespace

void write_timeline(const Path& file, const sim::Played& played, sim::Network& network) {
  if (const Path folder = file.parent_path(); !folder.empty() && !is_present_directory(folder))
    throw UserError("--trace: there is no directory " + in_quotes(folder.string()));
  nlohmann::json events = nlohmann::json::array();
  events.push_back(
      {{"ph", "M"}, {"pid", 0}, {"name", "process_name"}, {"args", {{"name", "simulated chip 0"}}}});
  const char* const queues[] = {"compute", "gather", "reduce", "model", "pod", "host"};
  for (int q = 0; q < static_cast<int>(kQueues); ++q) events.push_back(name_row(q, queues[q]));
  for (int link = 0; link < sim::kLinks; ++link)
    events.push_back(name_row(kFirstLinkRow + link, "link " + sim::link_name(link)));
  for (const sim::TimeSpan& span : played.spans) {
    const Record& record = *span.record;
    nlohmann::json shown = event(static_cast<int>(span.queue), name_of_span(record), span);
    if (record.kind == Record::Kind::launch) shown["args"] = {{"phase", name_of(record.phase).data()}};
    if (record.kind == Record::Kind::transfer) {
      shown["args"] = {
          {"bytes", record.info->wire_bytes}, {"axis", record.info->axis}, {"way", record.info->method}};
      const sim::Flow& flow = network.flow(*record.info);
      for (int link = 0; link < sim::kLinks; ++link) {
        if (flow.bytes[static_cast<size_t>(link)] > 0)
          events.push_back(event(kFirstLinkRow + link, name_of_span(record), span));
      }
    }
    events.push_back(std::move(shown));
  }
  write_file(file, nlohmann::json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump());
}

}  // namespace toroid::train
