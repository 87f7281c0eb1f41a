#include "parallel/comm/side_channel/server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <list>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "parallel/comm/board/board.h"
#include "parallel/comm/side_channel/bytes.h"

namespace toroid {
namespace {

using Clock = std::chrono::steady_clock;

Descriptor listen_on(uint32_t address, Endpoint& endpoint) {
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = ::htonl(address);
  socklen_t bytes = sizeof name;
  auto* const any = reinterpret_cast<sockaddr*>(&name);
  if (!socket || ::bind(socket.get(), any, bytes) != 0 || ::listen(socket.get(), SOMAXCONN) != 0 ||
      ::getsockname(socket.get(), any, &bytes) != 0) {
    throw SystemError("cannot listen on " + Endpoint{address, 0}.text(), errno);
  }
  endpoint = {address, ::ntohs(name.sin_port)};
  return socket;
}

bool would_wait(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

class BoardServer::Loop {
 public:
  Loop(Descriptor listener, int stop, uint32_t host, const Token& token, Tell tell)
      : listener_(std::move(listener)), stop_(stop), host_(host), token_(token), tell_(std::move(tell)) {}

  void run() {
    std::vector<pollfd> watched;
    for (;;) {
      const Clock::time_point now = Clock::now();
      clients_.remove_if([&](const Client& client) { return client.until <= now; });
      const bool accepts = clients_.size() < kClients && now >= accept_again_;
      watched = {{stop_, POLLIN, 0}, {accepts ? listener_.get() : -1, POLLIN, 0}};
      for (const Client& client : clients_) {
        watched.push_back({client.socket.get(), client.events(), 0});
      }
      if (::poll(watched.data(), watched.size(), wait(now)) < 0 && errno != EINTR) return;
      if (watched[0].revents != 0) return;
      size_t at = 2;
      clients_.remove_if([&](Client& client) { return watched[at++].revents != 0 && !serve(client); });
      if (watched[1].revents != 0) accept();
    }
  }

 private:
  struct Client {
    Descriptor socket;
    Clock::time_point until;
    Exchange exchange;
    std::string in, out;
    size_t sent = 0;
    bool told = false;
    short events() const {  // once it is told nothing more is read
      const int reads = told ? 0 : POLLIN, sends = sent < out.size() ? POLLOUT : 0;
      return static_cast<short>(reads | sends);
    }
  };

  int wait(Clock::time_point now) const {
    Clock::time_point next = Clock::time_point::max();
    for (const Client& client : clients_) next = std::min(next, client.until);
    if (accept_again_ > now) next = std::min(next, accept_again_);
    if (next == Clock::time_point::max()) return -1;
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(next - now).count());
  }

  void accept() {
    Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      // Out of descriptors, most likely: the connection stays in the queue, and asking at once would spin.
      if (!would_wait(errno)) accept_again_ = Clock::now() + std::chrono::milliseconds(100);
      return;
    }
    Client client;
    client.socket = std::move(socket);
    client.until = Clock::now() + std::chrono::duration_cast<Clock::duration>(Seconds(kPatience));
    client.exchange.host = host_;
    client.exchange.server = random_bytes();
    client.out.append(SideWire::kGreeting).append(view(client.exchange.server));
    clients_.push_back(std::move(client));
  }

  // False where the connection is to be closed.
  bool serve(Client& client) {
    std::array<char, SideWire::kQuestion> buffer;
    while (!client.told) {
      const ssize_t got =
          ::recv(client.socket.get(), buffer.data(), SideWire::kQuestion - client.in.size(), 0);
      if (got < 0 && would_wait(errno)) break;
      if (got <= 0) return false;
      client.in.append(buffer.data(), static_cast<size_t>(got));
      if (client.in.size() < SideWire::kQuestion) continue;
      if (!tell(client)) return false;
    }
    while (client.sent < client.out.size()) {
      const ssize_t put = ::send(client.socket.get(), client.out.data() + client.sent,
                                 client.out.size() - client.sent, MSG_NOSIGNAL);
      if (put < 0 && would_wait(errno)) return true;
      if (put <= 0) return false;
      client.sent += static_cast<size_t>(put);
    }
    return !client.told;  // all is said
  }

  bool tell(Client& client) {
    const std::string_view question = client.in;
    std::copy_n(question.begin(), sizeof(Nonce), client.exchange.client.begin());
    client.exchange.group = load<uint32_t>(question.substr(sizeof(Nonce)));
    if (!same(code_of_question(token_, client.exchange), question.substr(sizeof(Nonce) + sizeof(uint32_t)))) {
      return false;
    }
    if (client.exchange.group >= Board::kContexts) return false;
    const std::string& board = fresh(static_cast<int>(client.exchange.group));
    append(client.out, static_cast<uint32_t>(board.size()));
    client.out.append(view(code_of_answer(token_, client.exchange, board))).append(board);
    client.told = true;
    return true;
  }

  // All ranks of a job ask at the same time, and looking at many processes takes a while.
  const std::string& fresh(int context) {
    const Clock::time_point now = Clock::now();
    if (context != context_ || now - taken_ > std::chrono::milliseconds(50)) {
      board_ = tell_(context);
      context_ = context;
      taken_ = now;
    }
    return board_;
  }

  Descriptor listener_;
  int stop_;
  uint32_t host_;
  Token token_;
  Tell tell_;
  std::list<Client> clients_;
  Clock::time_point accept_again_{};
  std::string board_;
  int context_ = -1;
  Clock::time_point taken_{};
};

BoardServer::BoardServer(uint32_t address, uint32_t host, const Token& token, Tell tell) {
  Descriptor listener = listen_on(address, endpoint_);
  stop_ = Descriptor(::eventfd(0, EFD_CLOEXEC));
  if (!stop_) throw SystemError("cannot make an event", errno);
  auto loop = std::make_shared<Loop>(std::move(listener), stop_.get(), host, token, std::move(tell));
  // Signals are the other threads': a handler must not find this one.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const auto restore = [&before] { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); };
  try {
    thread_ = std::thread([loop = std::move(loop)] {
      try {
        loop->run();
      } catch (const std::exception&) {
        // then this host does not answer; its ranks go on
      }
    });
  } catch (const std::system_error& error) {
    restore();
    throw SystemError(std::string("cannot start a thread: ") + error.what());
  }
  restore();
}

BoardServer::~BoardServer() {
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

}  // namespace toroid
