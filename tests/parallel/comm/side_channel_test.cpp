// What ranks of several hosts ask each other outside MPI, over loopback: answered, and with everything that a
// stranger may send to either side.
#include "parallel/comm/side_channel/side_channel.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include "core/base/error.h"
#include "parallel/comm/side_channel/bytes.h"
#include "parallel/comm/side_channel/server.h"

namespace toroid {
namespace {

constexpr uint32_t kLoopback = 0x7f000001;
constexpr int kGroup = 5;

// A board of two ranks, 4 and 6 of the world; 6 has made six calls, the last of which is under way.
class SmallBoard {
 public:
  SmallBoard() : memory_(nullptr, std::free) {
    const auto bytes = static_cast<size_t>(Board::bytes_for(2));
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
    std::memset(memory_.get(), 0, bytes);
    Board board = this->board();
    for (int slot = 0; slot < 2; ++slot) {
      board.enter(slot, ::getpid());
      board.describe(slot, "data " + std::to_string(slot));
    }
    for (uint64_t sequence = 1; sequence <= 6; ++sequence) {
      board.publish(1, kGroup,
                    {sequence, 4000, Phase::backward, sequence < 6, 0, "all_reduce", "gradients of a layer"});
    }
  }
  Board board() const { return {memory_.get(), 2}; }
  HostSnapshot snapshot(int context) const { return take_snapshot(board(), ranks_, context); }
  BoardServer::Tell tell() const {
    return [this](int context) { return encode(snapshot(context)); };
  }

 private:
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  std::vector<int> ranks_{4, 6};
};

SideChannel channel_to(const Token& token, std::vector<Endpoint> servers, Seconds patience = Seconds(5)) {
  return {token, {{7, "there", {4, 6}, std::move(servers)}}, patience};
}

HostAnswer ask(const Token& token, std::vector<Endpoint> servers, Seconds patience = Seconds(5)) {
  HostAnswer answer = channel_to(token, std::move(servers), patience).ask(kGroup).at(0);
  answer.host = nullptr;  // went with the channel
  return answer;
}

// A socket that the test reads and writes as it likes, waiting five seconds at most.
class Line {
 public:
  explicit Line(int number) : socket_(number) { limit(); }
  explicit Line(const Endpoint& to) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = ::htons(to.port);
    name.sin_addr.s_addr = ::htonl(to.address);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    limit();
  }
  void say(std::string_view bytes) { (void)!::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  // As many bytes, or fewer where the other side hangs up before.
  std::string hear(size_t bytes) {
    std::string out(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      const ssize_t n = ::recv(socket_.get(), out.data() + got, bytes - got, 0);
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    out.resize(got);
    return out;
  }

 private:
  void limit() {
    const timeval time{5, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  }
  Descriptor socket_;
};

// The client's part, with the code as `token` makes it for this host and group.
std::string question(const Token& token, std::string_view hello, uint32_t host, uint32_t group,
                     Exchange* made = nullptr) {
  Exchange exchange;
  exchange.host = host;
  exchange.group = group;
  exchange.client = random_bytes();
  std::memcpy(exchange.server.data(), hello.data() + SideWire::kGreeting.size(), exchange.server.size());
  std::string out(view(exchange.client));
  append(out, group);
  out += view(code_of_question(token, exchange));
  if (made != nullptr) *made = exchange;
  return out;
}

// Takes one connection after the other and does with it what the test says.
class Stranger {
 public:
  explicit Stranger(std::function<void(Line&)> act) : act_(std::move(act)) {
    socket_ = Descriptor(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = ::htonl(kLoopback);
    socklen_t bytes = sizeof name;
    auto* const any = reinterpret_cast<sockaddr*>(&name);
    EXPECT_EQ(::bind(socket_.get(), any, bytes), 0);
    EXPECT_EQ(::listen(socket_.get(), 8), 0);
    ::getsockname(socket_.get(), any, &bytes);
    endpoint_ = {kLoopback, ::ntohs(name.sin_port)};
    if (act_) thread_ = std::thread([this] { run(); });
  }
  ~Stranger() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  const Endpoint& endpoint() const { return endpoint_; }

 private:
  void run() {
    while (!stop_) {
      pollfd watched{socket_.get(), POLLIN, 0};
      if (::poll(&watched, 1, 20) <= 0) continue;
      Line line(::accept(socket_.get(), nullptr, nullptr));
      act_(line);
    }
  }
  Descriptor socket_;
  Endpoint endpoint_;
  std::function<void(Line&)> act_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(Snapshot, SaysWhatTheBoardSays) {
  const SmallBoard small;
  const HostSnapshot all = decode_snapshot(encode(small.snapshot(kGroup)));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].rank, 4);
  EXPECT_EQ(all[0].last, 0u);
  EXPECT_TRUE(all[0].calls.empty());
  EXPECT_EQ(all[1].rank, 6);
  EXPECT_EQ(all[1].process, ::getpid());
  EXPECT_EQ(all[1].state, ProcessState::running);
  EXPECT_EQ(all[1].coordinate, "data 1");
  EXPECT_EQ(all[1].last, 6u);
  ASSERT_EQ(all[1].calls.size(), 4u);
  EXPECT_EQ(all[1].find(2), nullptr) << "the board forgets";
  const Published* const last = all[1].find(6);
  ASSERT_NE(last, nullptr);
  EXPECT_EQ(last->operation, "all_reduce");
  EXPECT_EQ(last->tensor, "gradients of a layer");
  EXPECT_EQ(last->bytes, 4000);
  EXPECT_EQ(last->phase, Phase::backward);
  EXPECT_FALSE(last->done);
  EXPECT_TRUE(all[1].find(5)->done);
}

TEST(Snapshot, IsRefusedWhereverItIsCut) {
  const std::string bytes = encode(SmallBoard().snapshot(kGroup));
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW((void)decode_snapshot(bytes.substr(0, size)), UserError) << size;
  EXPECT_THROW((void)decode_snapshot(bytes + '\0'), UserError);
}

TEST(Token, CodesDifferWithEveryPart) {
  const Token token = random_bytes();
  Exchange exchange;
  exchange.host = 1;
  exchange.server = random_bytes();
  exchange.client = random_bytes();
  const Code code = code_of_answer(token, exchange, "board");
  EXPECT_TRUE(same(code, view(code_of_answer(token, exchange, "board"))));
  EXPECT_FALSE(same(code, view(code).substr(1)));
  EXPECT_FALSE(same(code, view(code_of_answer(token, exchange, "boars"))));
  EXPECT_FALSE(same(code, view(code_of_question(token, exchange))));
  EXPECT_FALSE(same(code, view(code_of_answer(random_bytes(), exchange, "board"))));
  for (const auto& change : std::vector<std::function<void(Exchange&)>>{
           [](Exchange& e) { ++e.host; }, [](Exchange& e) { ++e.group; }, [](Exchange& e) { ++e.server[31]; },
           [](Exchange& e) { ++e.client[0]; }}) {
    Exchange other = exchange;
    change(other);
    EXPECT_FALSE(same(code, view(code_of_answer(token, other, "board"))));
  }
}

TEST(SideChannel, BringsTheBoardOfAnotherHost) {
  const SmallBoard small;
  const Token token = random_bytes();
  const BoardServer server(kLoopback, 7, token, small.tell());
  const SideChannel channel = channel_to(token, {server.endpoint()});
  for (int i = 0; i < 3; ++i) {
    const std::vector<HostAnswer> answers = channel.ask(kGroup);
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].host->name, "there");
    const RankSnapshot* const row = answers[0].find(6);
    ASSERT_NE(row, nullptr) << answers[0].failure;
    EXPECT_EQ(row->last, 6u);
    EXPECT_EQ(answers[0].find(5), nullptr);
  }
  EXPECT_EQ(channel.ask(kGroup + 1).at(0).find(6)->last, 0u) << "each group has its own calls";
}

TEST(SideChannel, AsksManyHostsAndMuchAtATime) {
  const Token token = random_bytes();
  HostSnapshot large;
  for (int rank = 0; rank < 1000; ++rank) large.push_back({rank, 1, {}, 0, "somewhere", {}});
  std::vector<std::unique_ptr<BoardServer>> servers;
  std::vector<ServingHost> hosts;
  for (uint32_t i = 0; i < 8; ++i) {
    servers.push_back(std::make_unique<BoardServer>(kLoopback, i, token, [&](int) { return encode(large); }));
    hosts.push_back({i, "host", {}, {servers.back()->endpoint()}});
  }
  const SideChannel channel(token, std::move(hosts), Seconds(20));
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&] {
      for (const HostAnswer& answer : channel.ask(kGroup))
        EXPECT_NE(answer.find(999), nullptr) << answer.failure;
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(SideChannel, SaysWhyAHostDoesNotAnswer) {
  const SmallBoard small;
  const Token token = random_bytes();
  const BoardServer server(kLoopback, 7, token, small.tell());
  EXPECT_EQ(ask(random_bytes(), {server.endpoint()}).failure, "it refused the question");
  EXPECT_EQ(ask(token, {}).failure, "none of its ranks could listen");
  Endpoint closed;
  {
    const BoardServer short_lived(kLoopback, 7, token, small.tell());
    closed = short_lived.endpoint();
  }
  EXPECT_EQ(ask(token, {closed}).failure, "nobody listens any more: its first ranks have ended");
  // As a stopped process: the kernel takes the connection, and nobody speaks.
  const Stranger stopped(nullptr);
  const Stopwatch watch;
  EXPECT_EQ(ask(token, {stopped.endpoint()}, Seconds(1)).failure, "connected, but no answer in time");
  EXPECT_LT(watch.elapsed(), Seconds(10));
  EXPECT_NE(ask(token, {stopped.endpoint(), server.endpoint()}, Seconds(1)).find(6), nullptr)
      << "the other one speaks";
  // Another host's server, which has the token, is not this one.
  const BoardServer other(kLoopback, 8, token, small.tell());
  EXPECT_EQ(ask(token, {other.endpoint()}).failure, "it refused the question");
}

TEST(SideChannel, BelievesNoStranger) {
  const SmallBoard small;
  const Token token = random_bytes();
  const std::string hello = std::string(SideWire::kGreeting) + std::string(32, 'n');
  const std::string board = encode(small.snapshot(kGroup));
  const auto head = [](size_t bytes, std::string_view code) {
    std::string out;
    append(out, static_cast<uint32_t>(bytes));
    return out.append(code);
  };
  // What a server says to a question that it hears, and what the client makes of it.
  const auto verdict = [&](const std::string& greeting,
                           const std::function<std::string(std::string)>& answer) {
    const Stranger stranger([&](Line& line) {
      line.say(greeting);
      if (greeting.size() < SideWire::kHello) return;
      line.say(answer(line.hear(SideWire::kQuestion)));
    });
    const HostAnswer got = ask(token, {stranger.endpoint()}, Seconds(5));
    EXPECT_FALSE(got.snapshot);
    return got.failure;
  };
  const auto nothing = [](const std::string&) { return std::string(); };
  EXPECT_EQ(verdict(std::string(40, 'x'), nothing), "something else listens there");
  EXPECT_EQ(verdict("SSH-2.0-OpenSSH_9.2p1\r\n", nothing), "it hung up");
  EXPECT_EQ(verdict(hello, nothing), "it refused the question");
  EXPECT_EQ(
      verdict(hello, [&](const std::string&) { return head(0xffffffff, std::string(32, 'c')) + board; }),
      "its answer is too long");
  EXPECT_EQ(verdict(hello, [&](const std::string&) { return head(0, std::string(32, 'c')); }),
            "its answer is not this job's");
  EXPECT_EQ(
      verdict(hello, [&](const std::string&) { return head(board.size(), std::string(32, 'c')) + board; }),
      "its answer is not this job's");
  EXPECT_EQ(
      verdict(hello, [&](const std::string& asked) { return head(board.size(), asked.substr(36)) + board; }),
      "its answer is not this job's");
  EXPECT_EQ(verdict(hello,
                    [&](const std::string&) {
                      return (head(board.size(), std::string(32, 'c')) + board).substr(0, 200);
                    }),
            "it hung up");
  // One who has the token and sends no board.
  EXPECT_EQ(verdict(hello,
                    [&](const std::string& asked) {
                      Exchange exchange;
                      exchange.host = 7;
                      exchange.group = kGroup;
                      std::memcpy(exchange.server.data(), hello.data() + 8, 32);
                      std::memcpy(exchange.client.data(), asked.data(), 32);
                      const std::string text(16, 'b');
                      return head(text.size(), view(code_of_answer(token, exchange, text))) + text;
                    }),
            "this is no board: it does not begin with TRDBOARD");
}

TEST(BoardServer, TellsNobodyWithoutTheToken) {
  const SmallBoard small;
  const Token token = random_bytes();
  std::atomic<int> told{0};
  const BoardServer server(kLoopback, 7, token, [&](int context) {
    ++told;
    return small.tell()(context);
  });
  // What the server says to what is said to it, after its greeting.
  const auto reply = [&](const std::function<std::string(const std::string&)>& say) {
    Line line(server.endpoint());
    const std::string hello = line.hear(SideWire::kHello);
    EXPECT_TRUE(hello.starts_with(SideWire::kGreeting));
    line.say(say(hello));
    return line.hear(SideWire::kAnswerHead).size();
  };
  EXPECT_EQ(reply([](const std::string&) { return std::string(SideWire::kQuestion, '\0'); }), 0u);
  EXPECT_EQ(reply([](const std::string&) { return "GET / HTTP/1.1\r\n" + std::string(100, '\n'); }), 0u);
  EXPECT_EQ(reply([](const std::string&) { return std::string(1 << 20, 'x'); }), 0u);
  EXPECT_EQ(reply([](const std::string& hello) { return question(random_bytes(), hello, 7, kGroup); }), 0u);
  EXPECT_EQ(reply([&](const std::string& hello) { return question(token, hello, 8, kGroup); }), 0u);
  EXPECT_EQ(reply([&](const std::string& hello) { return question(token, hello, 7, Board::kContexts); }), 0u);
  EXPECT_EQ(reply([&](const std::string& hello) {
              std::string changed = question(token, hello, 7, kGroup);
              changed[32] = 6;  // asks for another group than its code
              return changed;
            }),
            0u);
  EXPECT_EQ(told, 0);
  // A question that was answered once is not answered again.
  std::string heard;
  EXPECT_EQ(reply([&](const std::string& hello) { return heard = question(token, hello, 7, kGroup); }),
            SideWire::kAnswerHead);
  EXPECT_EQ(reply([&](const std::string&) { return heard; }), 0u);
  EXPECT_EQ(told, 1);
}

TEST(BoardServer, OutlivesThoseWhoSayLittleOrHangUp) {
  const SmallBoard small;
  const Token token = random_bytes();
  const BoardServer server(kLoopback, 7, token, small.tell());
  std::vector<std::unique_ptr<Line>> silent;
  for (size_t i = 0; i < BoardServer::kClients + 8; ++i) {
    silent.push_back(std::make_unique<Line>(server.endpoint()));
    if (i % 2 == 0) silent.back()->say("TRD");  // the first bytes of something
    if (i % 8 == 0) silent.back().reset();
  }
  // Those are dropped after a while, and then it is the next one's turn.
  const HostAnswer answer = ask(token, {server.endpoint()}, Seconds(10));
  EXPECT_NE(answer.find(6), nullptr) << answer.failure;
  EXPECT_EQ(silent[1]->hear(SideWire::kHello + 1).size(), SideWire::kHello);
}

TEST(BoardServer, EndsWhileSomeoneIsThere) {
  const SmallBoard small;
  const Token token = random_bytes();
  auto server = std::make_unique<BoardServer>(kLoopback, 7, token, small.tell());
  Line line(server->endpoint());
  EXPECT_EQ(line.hear(SideWire::kHello).size(), SideWire::kHello);
  const Stopwatch watch;
  server.reset();
  EXPECT_LT(watch.elapsed(), Seconds(BoardServer::kPatience));
  EXPECT_TRUE(line.hear(1).empty());
}

TEST(BoardServer, SaysWhereItCannotListen) {
  EXPECT_THROW(BoardServer(0x08080808, 0, random_bytes(), nullptr), SystemError);
}

TEST(Address, IsTheOneThatMpiUses) {
  const std::vector<Interface> all{
      {"lo", 0x7f000001}, {"docker0", 0xac110001}, {"eth0", 0x0a000005}, {"ib0", 0x0a010005}};
  const auto choose = [&](std::string_view include, std::string_view exclude,
                          std::optional<uint32_t> resolved) {
    return choose_address(all, include, exclude, resolved).value_or(0);
  };
  EXPECT_EQ(choose("", "", 0x0a000005), 0x0a000005u) << "the address of the host's name";
  EXPECT_EQ(choose("", "", 0x7f000101), 0xac110001u) << "a name that is loopback's helps nobody";
  EXPECT_EQ(choose("", "docker0,lo", std::nullopt), 0x0a000005u);
  EXPECT_EQ(choose("", "172.16.0.0/12,10.0.0.0/16", std::nullopt), 0x0a010005u);
  EXPECT_EQ(choose("ib0", "", 0x0a000005), 0x0a010005u) << "what is named goes before the host's name";
  EXPECT_EQ(choose("10.1.0.0/16,eth0", "", std::nullopt), 0x0a010005u);
  EXPECT_EQ(choose("lo", "", std::nullopt), 0x7f000001u) << "also loopback, if it is named";
  EXPECT_EQ(choose("eth7", "", 0x0a000005), 0u);
  EXPECT_EQ(choose("10.1.0.0/33,10.1.0.0/x,/8,10.1/16,,", "", std::nullopt), 0u);
  EXPECT_EQ(choose_address({{"lo", 0x7f000001}}, "", "", 0x7f000001), std::nullopt);
  EXPECT_EQ((Endpoint{0x0a000005, 80}.text()), "10.0.0.5:80");
}

}  // namespace
}  // namespace toroid
