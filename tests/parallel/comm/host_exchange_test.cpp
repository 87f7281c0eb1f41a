// What ranks that are threads tell each other beside their devices.
#include "parallel/comm/host_exchange.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"

namespace toroid {
namespace {

// Calls work(rank, world) on every rank; what each threw.
template <class Work>
std::string on_ranks(LocalJob& job, const Work& work) {
  return testing::run_rank_threads(job.size(), [&](int rank) {
    const auto world = job.world(rank);
    work(rank, *world);
  });
}

class HostExchanges : public ::testing::TestWithParam<int> {};

TEST_P(HostExchanges, TellEveryRankWhatEveryRankSays) {
  LocalJob job(GetParam(), {});
  EXPECT_EQ(on_ranks(job,
                     [&](int rank, World& world) {
                       HostExchange& exchange = world.exchange();
                       const auto texts =
                           exchange.texts(std::string(static_cast<size_t>(rank) * 1000, 'x'), "t");
                       ASSERT_EQ(texts.size(), static_cast<size_t>(job.size()));
                       for (size_t i = 0; i < texts.size(); ++i)
                         EXPECT_EQ(texts[i], std::string(i * 1000, 'x'));
                       EXPECT_EQ(exchange.texts("", "nothing"), std::vector<std::string>(texts.size()));
                       const std::string first = "of the first, which is longer";
                       EXPECT_EQ(exchange.from_first(rank == 0 ? first : "mine", "t"), first);
                       EXPECT_EQ(exchange.from_first(rank == 0 ? "" : "mine", "t"), "");
                       const auto numbers = exchange.numbers(std::vector{rank + 0.5, -1.0 * rank}, "n");
                       ASSERT_EQ(numbers.size(), 2 * texts.size());
                       for (size_t i = 0; i < texts.size(); ++i) {
                         EXPECT_EQ(numbers[2 * i], static_cast<double>(i) + 0.5);
                         EXPECT_EQ(numbers[2 * i + 1], -static_cast<double>(i));
                       }
                     }),
            "");
}

// The ranks begin at once, and each has the answers in the order of its questions; a device beside it, whose
// tickets are its own, comes and goes meanwhile.
TEST_P(HostExchanges, AreReadLaterBesideADevice) {
  LocalJob job(GetParam(), {});
  std::vector<int> everybody(static_cast<size_t>(GetParam()));
  std::iota(everybody.begin(), everybody.end(), 0);
  EXPECT_EQ(
      on_ranks(job,
               [&](int rank, World& world) {
                 HostExchange& exchange = world.exchange();
                 HostExchange::Answer before = exchange.begin(std::vector{1.0 * rank}, "first");
                 for (int round = 0; round < 3; ++round) {
                   CpuDevice device(std::make_shared<DeviceKernels>(), world.transfers());
                   const auto group = world.group(device, Queue::pod, "data", everybody, {1, job.size()});
                   const Array x = device.array(DType::f32, {64}, "test");
                   std::vector<float> ones(64, 1);
                   device.write(x.tensor, std::as_bytes(std::span(ones)));
                   group->all_reduce(x.tensor, Combine::sum, Wire::exact, {"x", "test", Phase::backward});
                   HostExchange::Answer next = exchange.begin(std::vector{100.0 * round + rank}, "next");
                   EXPECT_EQ(before.wait().back(),
                             round == 0 ? job.size() - 1 : 100.0 * (round - 1) + job.size() - 1);
                   before = std::move(next);
                   device.read(x.tensor, std::as_writable_bytes(std::span(ones)));
                   EXPECT_EQ(ones[63], static_cast<float>(job.size()));
                 }
                 EXPECT_EQ(before.wait().front(), 200);
               }),
      "");
}

INSTANTIATE_TEST_SUITE_P(Of, HostExchanges, ::testing::Values(1, 2, 3, 4));

TEST(HostExchange, GoesBetweenTwoRanks) {
  LocalJob job(3, {});
  EXPECT_EQ(on_ranks(job,
                     [&](int rank, World& world) {
                       std::array<std::byte, 5> bytes{};
                       if (rank == 2) bytes[4] = std::byte{42};
                       if (rank == 2) world.exchange().send(0, bytes, "t");
                       if (rank == 0) world.exchange().receive(2, bytes, "t");
                       if (rank == 1) (void)world.exchange();
                       EXPECT_EQ(bytes[4], std::byte{static_cast<unsigned char>(rank == 1 ? 0 : 42)});
                       (void)world.exchange().numbers(std::vector{0.0},
                                                      "end");  // so that nobody leaves before
                     }),
            "");
}

TEST(HostExchange, NamesWhatTheOthersDoNotSayInTime) {
  LocalJob::Options options;
  options.deadline = Seconds(0.5);
  LocalJob job(2, options);
  std::atomic<bool> over{false};
  const std::string thrown = on_ranks(job, [&](int rank, World& world) {
    (void)world.exchange();
    if (rank == 1) {
      while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    try {
      (void)world.exchange().texts("here", "where the ranks are");
    } catch (const Error& error) {
      over = true;
      EXPECT_EQ(error.code(), ExitCode::lost_peer);
      throw;
    }
    over = true;
  });
  EXPECT_NE(thrown.find("where the ranks are"), std::string::npos) << thrown;
  EXPECT_NE(thrown.find("rank 1"), std::string::npos) << thrown;
}

// Where the peers do not exist, they say what this rank says.
TEST(HostExchange, OfARecordedWorldAnswersForAll) {
  const auto world = make_recorded_world(1, 4);
  EXPECT_EQ(world->exchange().texts("a", "t"), std::vector<std::string>(4, "a"));
  EXPECT_EQ(world->exchange().from_first("a", "t"), "a");
  EXPECT_EQ(world->exchange().numbers(std::vector{1.0, 2.0}, "n"),
            (std::vector<double>{1, 2, 1, 2, 1, 2, 1, 2}));
}

}  // namespace
}  // namespace toroid
