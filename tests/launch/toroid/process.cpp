#include "tests/launch/toroid/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <stdexcept>

namespace toroid::test {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] void become(const std::string& program, const std::vector<std::string>& arguments, int out,
                         int err) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, 0);
  dup2(out, 1);
  dup2(err, 2);
  execv(argv[0], argv.data());
  _exit(127);
}

// True while the pipe is open.
bool take(int descriptor, std::string& text) {
  std::array<char, 65536> buffer;
  const ssize_t bytes = read(descriptor, buffer.data(), buffer.size());
  if (bytes <= 0) return false;
  text.append(buffer.data(), static_cast<size_t>(bytes));
  return true;
}

}  // namespace

Ended run_program(const std::string& program, const std::vector<std::string>& arguments, double limit) {
  std::array<int, 2> out, err;
  if (pipe2(out.data(), O_CLOEXEC) != 0 || pipe2(err.data(), O_CLOEXEC) != 0)
    throw std::runtime_error("pipe2");
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) become(program, arguments, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  Ended ended;
  std::array<pollfd, 2> pipes{{{out[0], POLLIN, 0}, {err[0], POLLIN, 0}}};
  while (pipes[0].fd >= 0 || pipes[1].fd >= 0) {
    poll(pipes.data(), pipes.size(), 100);
    if (pipes[0].revents != 0 && !take(out[0], ended.out)) pipes[0].fd = -1;
    if (pipes[1].revents != 0 && !take(err[0], ended.err)) pipes[1].fd = -1;
    if (since(start) > limit) kill(child, SIGKILL);
  }
  close(out[0]);
  close(err[0]);
  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  ended.seconds = since(start);
  ended.peak_megabytes = static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;
  if (WIFEXITED(status)) ended.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
  return ended;
}

}  // namespace toroid::test
