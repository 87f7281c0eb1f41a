#include "contract.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "core/base/random.h"

namespace toroid::testing {
namespace {

using schedule::Algorithm;

// Small whole numbers: every type holds them and their sums exactly.
int value_at(int rank, int64_t index) {
  return static_cast<int>((rank * 31 + index * 17) % 11);
}

template <class T>
T converted(int value) {
  if constexpr (std::is_same_v<T, uint16_t>) {
    return to_bf16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class T>
Array filled(Device& device, DType type, Shape shape, const std::function<T(int64_t)>& at) {
  Array array = device.array(type, shape, "test");
  std::vector<T> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = at(static_cast<int64_t>(i));
  device.write(array.tensor, std::as_bytes(std::span(values)));
  return array;
}

template <class T>
std::vector<T> values_of(Device& device, const Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.elements()));
  device.read(tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

template <class T>
void expect_values(const std::vector<T>& got, const std::function<T(int64_t)>& at, const std::string& what) {
  for (size_t i = 0; i < got.size(); ++i) {
    const T want = at(static_cast<int64_t>(i));
    if (std::memcmp(&got[i], &want, sizeof want) == 0) continue;
    ADD_FAILURE() << what << ": element " << i << " of " << got.size() << " is " << +got[i] << ", not "
                  << +want;
    return;
  }
}

std::vector<int> everyone(const World& world) {
  std::vector<int> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// As square as it gets: 16 ranks are 4 x 4, 6 are 2 x 3, primes a ring; and 8 are a cube.
schedule::GroupShape shape_for(int size) {
  if (size == 8) return {2, 2, true, true, 2, true};
  int rows = 1;
  for (int i = 1; i * i <= size; ++i) {
    if (size % i == 0) rows = i;
  }
  return {rows, size / rows};
}

std::unique_ptr<Communicator> group_of_all(World& world, Device& device, const GroupOptions& options,
                                           Queue queue = Queue::gather) {
  return world.group(device, queue, "data", everyone(world), shape_for(world.size()), options);
}

template <class T>
void check_type(Communicator& group, Device& device, DType type, int64_t rows, int64_t columns) {
  const int rank = group.place().rank, size = group.place().size;
  const std::string what = std::string(name_of(type)) + " " + std::to_string(rows) + " x " +
                           std::to_string(columns) + ", rank " + std::to_string(rank) + " of " +
                           std::to_string(size);
  const CollectiveLabel label{what.substr(0, what.find(',')), "test"};
  const int64_t share = rows * columns;
  const auto sum_at = [size](int64_t i) {
    int sum = 0;
    for (int r = 0; r < size; ++r) sum += value_at(r, i);
    return converted<T>(sum);
  };

  const Array gathered = group.all_gather(
      filled<T>(device, type, {rows, columns}, [&](int64_t i) { return converted<T>(value_at(rank, i)); }),
      label);
  EXPECT_EQ(gathered.tensor.shape, (Shape{size * rows, columns}));
  // In the place that it has in the result.
  Array whole = device.array(type, {size * rows, columns}, "test");
  {
    std::vector<T> own(static_cast<size_t>(share));
    for (size_t i = 0; i < own.size(); ++i) own[i] = converted<T>(value_at(rank, static_cast<int64_t>(i)));
    device.write(group.own(whole.tensor), std::as_bytes(std::span(own)));
    whole.tensor = group.own(whole.tensor);
  }
  const std::byte* const place = whole.owner.view(DType::u8, {whole.owner.bytes()}).data();
  const Array in_place = group.all_gather(std::move(whole), label);
  EXPECT_TRUE(share == 0 || in_place.tensor.data() == place);

  const Array scattered =
      group.reduce_scatter(filled<T>(device, type, {size * rows, columns},
                                     [&](int64_t i) { return converted<T>(value_at(rank, i)); }),
                           Wire::exact, label);
  EXPECT_EQ(scattered.tensor.shape, (Shape{rows, columns}));

  const int64_t odd = share + 1;
  const Array summed =
      filled<T>(device, type, {odd}, [&](int64_t i) { return converted<T>(value_at(rank, i)); });
  group.all_reduce(summed.tensor, Combine::sum, Wire::exact, label);
  const Array highest =
      filled<T>(device, type, {odd}, [&](int64_t i) { return converted<T>(value_at(rank, i)); });
  group.all_reduce(highest.tensor, Combine::max, Wire::exact, label);

  const int root = size - 1;
  const Array sent = filled<T>(device, type, {rows, columns},
                               [&](int64_t i) { return converted<T>(rank == root ? value_at(7, i) : 1); });
  group.broadcast(sent.tensor, root, label);

  const Array dealt = filled<T>(device, type, {size * rows, columns},
                                [&](int64_t i) { return converted<T>(value_at(rank, i)); });
  const Array collected = device.array(type, {size * rows, columns}, "test");
  // A group of one has nobody to send to.
  if (size > 1) group.all_to_all(dealt.tensor, collected.tensor, label);
  group.barrier(label);

  const auto gathered_at = [&](int64_t i) {
    return converted<T>(value_at(static_cast<int>(i / share), i % share));
  };
  expect_values<T>(values_of<T>(device, gathered.tensor), gathered_at, "all_gather " + what);
  expect_values<T>(values_of<T>(device, in_place.tensor), gathered_at, "all_gather in place " + what);
  expect_values<T>(
      values_of<T>(device, scattered.tensor), [&](int64_t i) { return sum_at(rank * share + i); },
      "reduce_scatter " + what);
  expect_values<T>(values_of<T>(device, summed.tensor), sum_at, "all_reduce " + what);
  expect_values<T>(
      values_of<T>(device, highest.tensor),
      [&](int64_t i) {
        int most = 0;
        for (int r = 0; r < size; ++r) most = std::max(most, value_at(r, i));
        return converted<T>(most);
      },
      "max " + what);
  expect_values<T>(
      values_of<T>(device, sent.tensor), [](int64_t i) { return converted<T>(value_at(7, i)); },
      "broadcast " + what);
  if (size == 1) return;
  expect_values<T>(
      values_of<T>(device, collected.tensor),
      [&](int64_t i) {
        return converted<T>(value_at(static_cast<int>(i / share), rank * share + i % share));
      },
      "all_to_all " + what);
}

void check_messages(Communicator& group, Device& device) {
  const int rank = group.place().rank, size = group.place().size;
  if (size == 1) return;
  const int next = (rank + 1) % size;
  const int previous = (rank + size - 1) % size;
  const CollectiveLabel label{"neighbour", "test"};
  const int own = rank;
  const Array out = filled<float>(device, DType::f32, {100},
                                  [&](int64_t i) { return static_cast<float>(value_at(own, i)); });
  const Array in = device.array(DType::f32, {100}, "test");
  // The head of a queue blocks it, so that somebody has to receive first; small messages do not mind.
  if (rank % 2 == 0) {
    group.send(out.tensor, next, label);
    group.receive(in.tensor, previous, label);
  } else {
    group.receive(in.tensor, previous, label);
    group.send(out.tensor, next, label);
  }
  // A group that is made next may have to wait for all of its ranks, and takes the queues' thread for that.
  device.synchronize(group.barrier(label), Seconds(60));
  expect_values<float>(
      values_of<float>(device, in.tensor),
      [&](int64_t i) { return static_cast<float>(value_at(previous, i)); }, "receive");
}

// The rows that a group calls work with: all of them once.
class Rows {
 public:
  void take(const Tensor& rows, int64_t first) { calls_.emplace_back(first, rows.rows()); }
  void expect_all(int64_t rows, size_t calls, const std::string& what) {
    EXPECT_EQ(calls_.size(), calls) << what;
    std::sort(calls_.begin(), calls_.end());
    int64_t next = 0;
    for (const auto& [first, count] : calls_) {
      EXPECT_EQ(first, next) << what;
      next = first + count;
    }
    EXPECT_EQ(next, rows) << what;
  }

 private:
  std::vector<std::pair<int64_t, int64_t>> calls_;
};

void check_beside(Communicator& group, Device& device, int64_t rows, int64_t columns, Wire wire, bool cut) {
  const auto [rank_now, size_now] = group.place();
  const int rank = rank_now, size = size_now;
  const std::string what = std::to_string(rows) + " x " + std::to_string(columns) + ", rank " +
                           std::to_string(rank) + " of " + std::to_string(size);
  const CollectiveLabel label{what.substr(0, what.find(',')), "test"};
  const int64_t share = rows * columns;
  const size_t calls = cut && size > 1 ? static_cast<size_t>(size) : 1;
  const auto at = [](int of, int64_t i) { return static_cast<float>(value_at(of, i)); };

  const Array seen = device.array(DType::f32, {size * rows, columns}, "test");
  Rows used;
  const Array gathered = group.all_gather_beside(
      filled<float>(device, DType::f32, {rows, columns}, [&](int64_t i) { return at(rank, i); }),
      [&](const Tensor& some, int64_t first) {
        used.take(some, first);
        device.copy(seen.tensor.slice_rows(first, some.rows()), some, Queue::compute);
      },
      label);
  used.expect_all(size * rows, calls, "all_gather " + what);

  const Array source =
      filled<float>(device, DType::f32, {size * rows, columns}, [&](int64_t i) { return at(rank, i); });
  Rows made;
  const Array summed = group.reduce_scatter_beside(
      device.array(DType::f32, {size * rows, columns}, "test"), wire,
      [&](const Tensor& some, int64_t first) {
        made.take(some, first);
        device.copy(some, source.tensor.slice_rows(first, some.rows()), Queue::compute);
      },
      label);
  made.expect_all(size * rows, calls, "reduce_scatter " + what);
  EXPECT_EQ(summed.tensor.shape, (Shape{rows, columns}));

  const auto gathered_at = [&](int64_t i) { return at(static_cast<int>(i / share), i % share); };
  expect_values<float>(values_of<float>(device, gathered.tensor), gathered_at, "all_gather " + what);
  expect_values<float>(values_of<float>(device, seen.tensor), gathered_at, "rows of all_gather " + what);
  // Whole numbers below 256 are exact in bf16 too.
  expect_values<float>(
      values_of<float>(device, summed.tensor),
      [&](int64_t i) {
        float sum = 0;
        for (int r = 0; r < size; ++r) sum += at(r, rank * share + i);
        return sum;
      },
      "reduce_scatter " + what);
}

float random_at(int rank, int64_t index) {
  return normal(random_key(5, Purpose::synthetic, "comm", static_cast<uint64_t>(rank)),
                static_cast<uint64_t>(index));
}

float tree_at(int first, int count, int64_t index) {
  if (count == 1) return random_at(first, index);
  return tree_at(first, count / 2, index) + tree_at(first + count / 2, count / 2, index);
}

// With sums_in_order they are the serial ones, bit for bit: of few elements, and of several segments.
void check_sums_in_order(Communicator& group, Device& device) {
  const auto rank = static_cast<size_t>(group.place().rank);
  constexpr int64_t kPeriod = 4099;
  std::vector<std::vector<float>> values(static_cast<size_t>(group.place().size));
  std::vector<float> sums(kPeriod);
  for (size_t r = 0; r < values.size(); ++r) {
    for (int64_t i = 0; i < kPeriod; ++i) {
      values[r].push_back(random_at(static_cast<int>(r), i));
      float& sum = sums[static_cast<size_t>(i)];
      sum = r == 0 ? values[r].back() : sum + values[r].back();
    }
  }
  const auto at = [](int64_t i) { return static_cast<size_t>(i % kPeriod); };
  for (const int64_t rows : {int64_t{5}, int64_t{1001}, int64_t{300'007}}) {
    const Array summed =
        filled<float>(device, DType::f32, {rows}, [&](int64_t i) { return values[rank][at(i)]; });
    group.all_reduce(summed.tensor, Combine::sum, Wire::exact, {"in order", "test"});
    expect_values<float>(
        values_of<float>(device, summed.tensor), [&](int64_t i) { return sums[at(i)]; }, "sum in order");
  }
}

void check_operations(Communicator& group, Device& device) {
  const std::vector<int64_t> many{0, 1, 3, 67};
  const std::vector<int64_t> few{0, 1, 19};
  for (const int64_t rows : group.place().size > 4 ? few : many) {
    for (const int64_t columns : {1, 5}) {
      check_type<float>(group, device, DType::f32, rows, columns);
      check_type<uint16_t>(group, device, DType::bf16, rows, columns);
      check_type<uint8_t>(group, device, DType::u8, rows, columns);
      check_type<int32_t>(group, device, DType::i32, rows, columns);
      check_type<int64_t>(group, device, DType::i64, rows, columns);
    }
  }
  check_messages(group, device);
}

// Arrays of several segments, with lengths that nothing divides.
void check_large(Communicator& group, Device& device) {
  const int size = group.place().size;
  check_type<float>(group, device, DType::f32, 10007, 37 / size + 1);
  check_type<uint16_t>(group, device, DType::bf16, 65537, 8 / size + 1);
}

}  // namespace

void check_operations(World& world, Device& device, const GroupOptions& options) {
  const auto group = group_of_all(world, device, options);
  check_operations(*group, device);
  check_large(*group, device);
}

void check_streamed(World& world, Device& device, Method method) {
  const auto group = group_of_all(world, device, {false, method});
  check_type<float>(*group, device, DType::f32, 1399 * 1021 / world.size(), 3);
}

void check_tree(World& world, Device& device, std::optional<Method> method) {
  GroupOptions options;
  options.deterministic = true;
  options.method = method;
  const auto group = group_of_all(world, device, options);
  const auto [rank_now, size] = group->place();
  const int rank = rank_now;
  const CollectiveLabel label{"tree", "test"};
  const int64_t rows = 1001;
  const auto mine = [rank](int64_t i) { return random_at(rank, i); };
  const Array summed = filled<float>(device, DType::f32, {rows}, mine);
  group->all_reduce(summed.tensor, Combine::sum, Wire::bf16, label);
  const Array scattered =
      group->reduce_scatter(filled<float>(device, DType::f32, {size * rows}, mine), Wire::exact, label);
  const int ranks = size;
  expect_values<float>(
      values_of<float>(device, summed.tensor), [&](int64_t i) { return tree_at(0, ranks, i); },
      "tree all_reduce");
  expect_values<float>(
      values_of<float>(device, scattered.tensor),
      [&](int64_t i) { return tree_at(0, ranks, rank * rows + i); }, "tree reduce_scatter");
}

void check_bf16_wire(World& world, Device& device, Method method) {
  const auto group = group_of_all(world, device, {false, method});
  const auto [rank_now, size] = group->place();
  const int rank = rank_now;
  const int ranks = size;
  const CollectiveLabel label{"bf16 wire", "test"};
  const int64_t rows = 777;
  const Array summed =
      filled<float>(device, DType::f32, {rows}, [&](int64_t i) { return random_at(rank, i); });
  group->all_reduce(summed.tensor, Combine::sum, Wire::bf16, label);
  const std::vector<float> got = values_of<float>(device, summed.tensor);
  for (int64_t i = 0; i < rows; ++i) {
    double sum = 0;
    double magnitude = 0;
    for (int r = 0; r < ranks; ++r) sum += random_at(r, i), magnitude += std::abs(random_at(r, i));
    ASSERT_NEAR(got[static_cast<size_t>(i)], sum, ranks * magnitude / 256) << "element " << i;
  }
  // All ranks have the same bits.
  Array copy =
      filled<float>(device, DType::f32, {rows}, [&](int64_t i) { return got[static_cast<size_t>(i)]; });
  const Array all = group->all_gather(std::move(copy), label);
  expect_values<float>(
      values_of<float>(device, all.tensor), [&](int64_t i) { return got[static_cast<size_t>(i % rows)]; },
      "bf16 all_reduce");
}

void check_beside(World& world, Device& device) {
  const auto ring = [&](Cut cut, bool wraps = true) {
    GroupOptions options;
    options.cut = cut;
    // What the rule looks for: messages by a ring, between two ranks directly, and rows enough.
    if (cut == Cut::by_rule)
      options.method = world.size() == 2 ? Algorithm::direct : Algorithm::bidirectional_ring;
    return world.group(device, Queue::model, "model", everyone(world), {1, world.size(), true, wraps},
                       options);
  };
  for (const bool wraps : {true, false}) {
    const auto group = ring(Cut::always, wraps);
    for (const int64_t rows : {0, 1, 3, 67}) {
      for (const int64_t columns : {1, 5}) check_beside(*group, device, rows, columns, Wire::exact, true);
    }
    check_beside(*group, device, 67, 1031, Wire::bf16, true);
  }
  const auto by_rule = ring(Cut::by_rule);
  check_beside(*by_rule, device, 67, 5, Wire::exact, true);
  check_beside(*by_rule, device, 3, 5, Wire::exact, false);
  check_beside(*ring(Cut::never), device, 67, 5, Wire::bf16, false);
}

void check_many_groups(World& world, Device& device) {
  const int size = world.size();
  std::vector<std::unique_ptr<Communicator>> groups;
  groups.push_back(group_of_all(world, device, {}, Queue::gather));
  GroupOptions in_order{false, Algorithm::ring};
  in_order.sums_in_order = true;
  groups.push_back(group_of_all(world, device, in_order, Queue::reduce));
  std::vector<int> half;  // ranks of this rank's parity
  for (int rank = world.rank() % 2; rank < size; rank += 2) half.push_back(rank);
  groups.push_back(world.group(device, Queue::model, "model", half, {1, static_cast<int>(half.size())}));
  groups.push_back(world.group(device, Queue::pod, "pod", half, {1, static_cast<int>(half.size())},
                               {false, Algorithm::bidirectional_ring}));
  std::vector<Array> results;
  for (int round = 0; round < 20; ++round) {
    for (const auto& group : groups) {
      results.push_back(filled<float>(device, DType::f32, {501}, [&](int64_t i) {
        return static_cast<float>(value_at(world.rank(), i + round));
      }));
      group->all_reduce(results.back().tensor, Combine::sum, Wire::exact, {"round", "test"});
    }
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const auto round = static_cast<int64_t>(i / groups.size());
    const bool everybody = i % groups.size() < 2;
    expect_values<float>(
        values_of<float>(device, results[i].tensor),
        [&](int64_t at) {
          int sum = 0;
          for (int rank = 0; rank < size; ++rank) {
            if (everybody || rank % 2 == world.rank() % 2) sum += value_at(rank, at + round);
          }
          return static_cast<float>(sum);
        },
        "group " + std::to_string(i % groups.size()) + ", round " + std::to_string(round));
  }
  check_sums_in_order(*groups[1], device);
}

void check_all(World& world, Device& device) {
  const bool power_of_two = std::has_single_bit(static_cast<unsigned>(world.size()));
  check_operations(world, device, {});
  for (const Method& method : all_methods()) {
    const bool messages = method.by == Method::By::messages;
    if (messages && method.algorithm == Algorithm::halving_doubling && !power_of_two) continue;
    SCOPED_TRACE(std::string(name(method)));
    check_operations(world, device, {false, method});
    if (messages && world.size() > 1) check_bf16_wire(world, device, method);
  }
  if (power_of_two && world.size() > 1) {
    check_tree(world, device, std::nullopt);
    check_tree(world, device, Method::By::relay);
    check_tree(world, device, Algorithm::ring);  // sums go another way all the same
  }
  check_beside(world, device);
  check_many_groups(world, device);
}

}  // namespace toroid::testing
