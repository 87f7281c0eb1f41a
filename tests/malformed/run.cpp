// malformed_run CORPUS: opens every file or folder in CORPUS/<reader>/ with that reader, each in a process of
// its own, which must refuse it as the program would: exit code 2, one sentence on standard error, no signal,
// within a second of processor time and 256 MB. Prints what did not, and a closing count.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "tests/malformed/readers.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

constexpr double kSeconds = 1;
constexpr long kKilobytes = 256 * 1024;
constexpr unsigned kHangSeconds = 60;  // wall clock, for a reader that waits instead of computing

// In the child: what main() does with an exception.
int read_here(const MalformedReader& reader, const fs::path& path) {
  try {
    reader.read(path);
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::cerr << "not one of the program's own exceptions: " << error.what() << '\n';
    return static_cast<int>(ExitCode::internal_error);
  }
  return 0;
}

// Without what the log said before, such as that a checkpoint was passed over.
std::string without_log(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string line = text.substr(at, end - at);
    if (!line.starts_with('[') || line.find("] [warning] ") == std::string::npos) out += line;
    at = end;
  }
  return out;
}

// "" where the path was refused as it should be.
std::string verdict(const char* self, const MalformedReader& reader, const fs::path& path) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return "cannot make a pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(kHangSeconds);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    // A fresh program: the memory counted is the reader's, not what this process was using when it forked.
    ::execl(self, self, "--one", std::string(reader.folder).c_str(), path.c_str(), nullptr);
    ::_exit(126);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> piece;
  for (ssize_t n = 0; (n = ::read(ends[0], piece.data(), piece.size())) > 0;)
    text.append(piece.data(), static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  struct rusage use {};
  ::wait4(child, &status, 0, &use);
  if (WIFSIGNALED(status)) return "ended by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) == 0) return "was accepted";
  if (WEXITSTATUS(status) != static_cast<int>(ExitCode::bad_input)) {
    return "exit code " + std::to_string(WEXITSTATUS(status)) + ", not 2: " + text;
  }
  text = without_log(text);
  if (text.size() < 10 || text.size() > 4000 || std::count(text.begin(), text.end(), '\n') != 1) {
    return "does not say why in one line: " + text;
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const double seconds = static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                         static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
  if (seconds > kSeconds) return "took " + std::to_string(seconds) + " s";
  if (use.ru_maxrss > kKilobytes) return "used " + std::to_string(use.ru_maxrss / 1024) + " MB";
#endif
  if (std::getenv("TOROID_MALFORMED_SHOW") != nullptr) std::cout << text;
  return "";
}

using Folders = std::vector<std::pair<std::string, fs::path>>;  // of a reader

int run(const char* self, const Folders& folders) {
  int refused = 0, failed = 0;
  for (const auto& [name, folder] : folders) {
    const auto readers = malformed_readers();
    const auto reader = std::find_if(readers.begin(), readers.end(),
                                     [&name = name](const auto& r) { return r.folder == name; });
    if (reader == readers.end()) {
      std::cout << "no reader is named " << name << " in tests/malformed/readers.cpp\n";
      ++failed;
      continue;
    }
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string problem = verdict(self, *reader, entry.path());
      if (problem.empty()) {
        ++refused;
      } else {
        ++failed;
        std::cout << entry.path().string() << ": " << problem << '\n';
      }
    }
  }
  std::cout << refused << " refused, " << failed << " failed\n";
  return failed == 0 && refused > 0 ? 0 : 1;
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == "--one") {
    for (const auto& reader : toroid::malformed_readers()) {
      if (reader.folder == argv[2]) return toroid::read_here(reader, argv[3]);
    }
    return 126;
  }
  if (argc < 2) {
    std::cerr << "usage: malformed_run CORPUS [READER=FOLDER]...\n";
    return 2;
  }
  toroid::Folders folders;
  for (const auto& folder : std::filesystem::directory_iterator(argv[1])) {
    if (folder.is_directory()) folders.emplace_back(folder.path().filename().string(), folder.path());
  }
  for (int i = 2; i < argc; ++i) {
    const std::string_view pair(argv[i]);
    const size_t equals = std::min(pair.find('='), pair.size() - 1);
    folders.emplace_back(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return toroid::run("/proc/self/exe", folders);
}
