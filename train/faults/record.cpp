#include "train/faults/record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <sstream>
#include <string_view>

#include "core/base/error.h"
#include "parallel/comm/side_channel/descriptor.h"

namespace toroid::faults {
namespace {

constexpr std::string_view kBegin = R"({"fault":")";

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace

std::set<std::string> recorded(const Path& run) {
  constexpr int64_t kMost = int64_t{64} << 20;
  std::set<std::string> out;
  if (!is_present(run / kRecord)) return out;
  std::istringstream lines(read_file(run / kRecord, kMost));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(kBegin) || !line.ends_with('}')) continue;
    const size_t end = line.find('"', kBegin.size());
    out.insert(line.substr(kBegin.size(), end - kBegin.size()));
  }
  return out;
}

void record(const Path& run, const Planned& fault, int64_t step) {
  const Path path = run / kRecord;
  const Descriptor file(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (file.get() < 0) throw SystemError("cannot open " + quoted(path), errno);
  std::string line;
  // After a line that was cut short.
  char last = '\n';
  const off_t end = ::lseek(file.get(), 0, SEEK_END);
  if (end > 0 && ::pread(file.get(), &last, 1, end - 1) == 1 && last != '\n') line = "\n";
  line += std::string(kBegin) + fault.id + R"(","kind":")" + config::Fault::Kind_Name(fault.fault.kind()) +
          R"(","rank":)" + std::to_string(fault.rank) + R"(,"step":)" + std::to_string(step) +
          R"(,"time":")" + now() + "\"}\n";
  // In one call, so that lines of several ranks do not mix.
  if (::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()) ||
      ::fsync(file.get()) != 0) {
    throw SystemError("cannot write " + quoted(path), errno);
  }
}

}  // namespace toroid::faults
