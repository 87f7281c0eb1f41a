#include "launch/toroid/supervise/places.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::launch {
namespace {

constexpr Seconds kLongestCheck{20};
constexpr const char* kOverSsh = "ssh -o BatchMode=yes -o ConnectTimeout=10 \"$1\" true";

std::optional<int64_t> number_of(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size() || out < 0) return std::nullopt;
  return out;
}

// Whether a shell command ends with 0 in time.
bool succeeds(const std::string& command, const std::string& argument) {
  const pid_t pid = ::fork();
  if (pid < 0) throw SystemError("cannot start a check of a host", errno);
  if (pid == 0) {
    (void)::setpgid(0, 0);
    if (const int nothing = ::open("/dev/null", O_RDWR); nothing >= 0) {
      (void)::dup2(nothing, 0);
      (void)::dup2(nothing, 1);
    }
    ::execl("/bin/sh", "sh", "-c", command.c_str(), "check-host", argument.c_str(), nullptr);
    ::_exit(127);
  }
  const Stopwatch since;
  for (int status = 0;;) {
    const pid_t got = ::waitpid(pid, &status, WNOHANG);
    if (got == pid) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (got < 0 && errno != EINTR) return false;
    if (since.elapsed() > kLongestCheck) {
      (void)::kill(-pid, SIGKILL);
      (void)::waitpid(pid, &status, 0);
      return false;
    }
    ::usleep(20'000);
  }
}

bool is_this_machine(const std::string& host) {
  char name[256] = {};
  (void)::gethostname(name, sizeof name - 1);
  return host == "localhost" || host == name || host.starts_with("127.");
}

}  // namespace

std::vector<HostSlots> parse_hosts(const std::string& list) {
  std::vector<HostSlots> out;
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    const std::string word = list.substr(at, end - at);
    const size_t colon = word.rfind(':');
    const auto slots =
        colon == std::string::npos ? std::optional<int64_t>(1) : number_of(word.substr(colon + 1));
    HostSlots host{word.substr(0, colon), 0};
    if (host.name.empty() || !slots || *slots < 1 || *slots > 100'000) {
      throw UserError("--hosts holds " + in_quotes(word) +
                      ", which is not a host and its ranks, such as a:2");
    }
    host.slots = static_cast<int>(*slots);
    out.push_back(std::move(host));
    at = end + 1;
  }
  return out;
}

std::string to_list(const std::vector<HostSlots>& hosts) {
  std::string out;
  for (const HostSlots& host : hosts) {
    out += (out.empty() ? "" : ",") + host.name + ":" + std::to_string(host.slots);
  }
  return out;
}

PlaceFinder::PlaceFinder(Sources sources, int64_t pods, int64_t chips_per_pod)
    : sources_(std::move(sources)), hosts_(parse_hosts(sources_.hosts)), pods_(pods), chips_(chips_per_pod) {
  if (!sources_.command.empty() && hosts_.empty()) {
    throw UserError("--check-host asks hosts, and --hosts names none; give both, or --pods-file");
  }
}

bool PlaceFinder::answers(const std::string& host) const {
  if (!sources_.command.empty()) return succeeds(sources_.command + " \"$1\"", host);
  return is_this_machine(host) || succeeds(kOverSsh, host);
}

Places PlaceFinder::find() const {
  Places out;
  out.pods = pods_;
  out.hosts = sources_.hosts;
  if (!sources_.elastic) return out;
  if (!sources_.pods_file.empty() && is_present(sources_.pods_file)) {
    const std::string text = read_file(sources_.pods_file, 4096);
    const auto pods = number_of(text);
    if (!pods) {
      out.lacks.push_back(quoted(sources_.pods_file) + " holds " + in_quotes(text, 50) +
                          " and no number of pods; it is not heeded");
    } else if (*pods < pods_) {
      out.pods = *pods;
      out.lacks.push_back(quoted(sources_.pods_file) + " says " + std::to_string(*pods));
    }
  }
  if (hosts_.empty()) return out;
  std::vector<HostSlots> there;
  int64_t slots = 0;
  const std::set<std::string> spoiled = sources_.spoiled ? sources_.spoiled() : std::set<std::string>();
  for (const HostSlots& host : hosts_) {
    if (spoiled.contains(host.name) || spoiled.contains(host.name.substr(0, host.name.find('.')))) {
      out.lacks.push_back("host " + printable(host.name) +
                          " spoils what it computes or holds (incidents.jsonl) and is left out");
      continue;
    }
    if (!answers(host.name)) {
      out.lacks.push_back("host " + printable(host.name) + " does not answer");
      continue;
    }
    there.push_back(host);
    slots += host.slots;
  }
  out.pods = std::min(out.pods, slots / chips_);
  // As many of them as the pods need, in their order.
  int64_t wanted = out.pods * chips_;
  for (HostSlots& host : there) {
    host.slots = static_cast<int>(std::min<int64_t>(host.slots, wanted));
    wanted -= host.slots;
  }
  std::erase_if(there, [](const HostSlots& host) { return host.slots == 0; });
  if (there.size() < hosts_.size() || out.pods < pods_) out.hosts = to_list(there);
  return out;
}

}  // namespace toroid::launch
