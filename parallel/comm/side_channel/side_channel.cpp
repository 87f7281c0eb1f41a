#include "parallel/comm/side_channel/side_channel.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "core/base/error.h"
#include "parallel/comm/side_channel/bytes.h"
#include "parallel/comm/side_channel/descriptor.h"

namespace toroid {
namespace {

std::string error_text(int error) {
  if (error == ECONNREFUSED) return "nobody listens any more: its first ranks have ended";
  return std::error_code(error, std::generic_category()).message();
}

// One question to one server.
class Attempt {
 public:
  Attempt(HostAnswer& answer, const Endpoint& server, const Token& token, int context)
      : answer_(&answer), token_(&token) {
    exchange_.host = answer.host->number;
    exchange_.client = random_bytes();
    exchange_.group = static_cast<uint32_t>(context);
    socket_ = Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = ::htons(server.port);
    name.sin_addr.s_addr = ::htonl(server.address);
    if (!socket_ || (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 &&
                     errno != EINPROGRESS)) {
      fail(error_text(errno));
    }
  }

  // Also where another server of the host has answered.
  bool ended() const { return !socket_ || answer_->snapshot; }
  pollfd watched() const {
    const bool sends = step_ == Step::connecting || sent_ < question_.size();
    return {socket_.get(), static_cast<short>(sends ? POLLOUT | POLLIN : POLLIN), 0};
  }
  void time_is_up() {
    fail(step_ == Step::connecting ? "no connection in time" : "connected, but no answer in time");
  }

  // Does what can be done without waiting.
  void advance() {
    if (step_ == Step::connecting && !connected()) return;
    while (!ended()) {
      if (!send_question()) return;
      std::array<char, 4096> buffer;
      const ssize_t got =
          ::recv(socket_.get(), buffer.data(), std::min(buffer.size(), wanted_ - in_.size()), 0);
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
      if (got < 0) return fail(error_text(errno));
      if (got == 0) return fail(step_ == Step::greeted ? "it refused the question" : "it hung up");
      in_.append(buffer.data(), static_cast<size_t>(got));
      if (in_.size() == wanted_) take();
    }
  }

 private:
  enum class Step : uint8_t { connecting, hello, greeted, head };

  bool connected() {
    int error = 0;
    socklen_t bytes = sizeof error;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
    if (error != 0) {
      fail(error_text(error));
      return false;
    }
    step_ = Step::hello;
    return true;
  }

  bool send_question() {
    while (sent_ < question_.size()) {
      const ssize_t put =
          ::send(socket_.get(), question_.data() + sent_, question_.size() - sent_, MSG_NOSIGNAL);
      if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return true;
      if (put <= 0) {
        fail(error_text(errno));
        return false;
      }
      sent_ += static_cast<size_t>(put);
    }
    return true;
  }

  // What is wanted has come.
  void take() {
    const std::string_view in = in_;
    if (step_ == Step::hello) {
      if (!in.starts_with(SideWire::kGreeting)) return fail("something else listens there");
      std::copy_n(in.begin() + SideWire::kGreeting.size(), sizeof(Nonce), exchange_.server.begin());
      question_ = view(exchange_.client);
      append(question_, exchange_.group);
      question_ += view(code_of_question(*token_, exchange_));
      in_.clear();
      wanted_ = SideWire::kAnswerHead;
      step_ = Step::greeted;
    } else if (step_ == Step::greeted) {
      const size_t board = load<uint32_t>(in);
      if (board > SnapshotLayout::kMostBytes) return fail("its answer is too long");
      wanted_ += board;
      step_ = Step::head;
      if (board == 0) finish();
    } else {
      finish();
    }
  }

  void finish() {
    const std::string_view in = in_, board = in.substr(SideWire::kAnswerHead);
    if (!same(code_of_answer(*token_, exchange_, board), in.substr(sizeof(uint32_t), sizeof(Code)))) {
      return fail("its answer is not this job's");
    }
    try {
      answer_->snapshot = decode_snapshot(board);
      socket_.reset();
    } catch (const UserError& error) {
      fail(error.what());
    }
  }

  void fail(const std::string& why) {
    answer_->failure = why;
    socket_.reset();
  }

  HostAnswer* answer_;
  const Token* token_;
  Exchange exchange_;
  Descriptor socket_;
  Step step_ = Step::connecting;
  std::string question_, in_;
  size_t sent_ = 0, wanted_ = SideWire::kHello;
};

void run(std::vector<Attempt>& attempts, Seconds patience) {
  const Stopwatch watch;
  std::vector<pollfd> watched;
  for (;;) {
    std::erase_if(attempts, [](const Attempt& attempt) { return attempt.ended(); });
    if (attempts.empty()) return;
    const Seconds left = patience - watch.elapsed();
    if (left <= Seconds(0)) break;
    watched.clear();
    for (const Attempt& attempt : attempts) watched.push_back(attempt.watched());
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    if (::poll(watched.data(), watched.size(), static_cast<int>(wait)) < 0 && errno != EINTR) break;
    for (size_t i = 0; i < attempts.size(); ++i) {
      if (watched[i].revents != 0 && !attempts[i].ended()) attempts[i].advance();
    }
  }
  for (Attempt& attempt : attempts) attempt.time_is_up();
}

}  // namespace

const RankSnapshot* HostAnswer::find(int rank) const {
  if (!snapshot) return nullptr;
  const auto found = std::find_if(snapshot->begin(), snapshot->end(),
                                  [&](const RankSnapshot& row) { return row.rank == rank; });
  return found == snapshot->end() ? nullptr : &*found;
}

SideChannel::SideChannel(const Token& token, std::vector<ServingHost> others, Seconds patience)
    : token_(token), others_(std::move(others)), patience_(patience) {}

std::vector<HostAnswer> SideChannel::ask(int context) const {
  std::vector<HostAnswer> answers;
  for (const ServingHost& host : others_)
    answers.push_back({&host, std::nullopt, host.servers.empty() ? "none of its ranks could listen" : ""});
  std::vector<Attempt> attempts;
  for (HostAnswer& answer : answers) {
    for (const Endpoint& server : answer.host->servers)
      attempts.emplace_back(answer, server, token_, context);
  }
  run(attempts, patience_);
  return answers;
}

}  // namespace toroid
