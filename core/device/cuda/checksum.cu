// Checksums of blocks, a team each, and where two tables of them differ. Sums of integers have no order.
#include <cstdint>

#include "core/device/cuda/launch.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/device/cuda/vectors.h"
#include "core/op/checksum.h"

namespace toroid::cuda {
namespace {

constexpr int kThreadsOfBlock = 256;

// Elements of 4 bytes are words, two of 2 bytes make one: halves, the last of which may be missing.
template <class Element>
struct ChecksumArgs {
  const Element* x;
  int64_t n;
  uint64_t* sums;
};
TOROID_DEVICE uint64_t word_of(const uint32_t* x, int64_t, int i) {
  return x[i];
}
TOROID_DEVICE uint64_t word_of(const uint16_t* x, int64_t left, int i) {
  const uint64_t high = 2 * int64_t{i} + 1 < left ? x[2 * i + 1] : 0;
  return x[2 * i] | high << 16;
}
// kWide: 16 bytes at a time, but for what is left of the last block.
template <class Element, bool kWide>
struct ChecksumBlock {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const ChecksumArgs<Element>& a) const {
    constexpr int kInAWord = 4 / sizeof(Element), kAtOnce = kVector<Element>, kWords = kAtOnce / kInAWord;
    const int64_t first = team.index() * op::kChecksumBlock, left = a.n - first;
    const int count =
        left < op::kChecksumBlock ? static_cast<int>(left) : static_cast<int>(op::kChecksumBlock);
    Own<Team, uint64_t> own, own_weighted;
    const auto add = [&](const auto& at, uint64_t word, int number) {
      own[at] += word;
      own_weighted[at] += static_cast<uint64_t>(number + 1) * word;
    };
    const int vectors = kWide ? count / kAtOnce : 0;
    if constexpr (kWide) {
      sweep<1>(team, vectors, [&](const auto& at) {
        const auto words = load_raw<kAtOnce>(a.x + first + at.i * kAtOnce);
        TOROID_UNROLL
        for (int j = 0; j < kWords; ++j) add(at, words.w[j], at.i * kWords + j);
      });
    }
    const int before = vectors * kWords;
    sweep<1>(team, (count + kInAWord - 1) / kInAWord - before,
             [&](const auto& at) { add(at, word_of(a.x + first, left, before + at.i), before + at.i); });
    const uint64_t total = meet_in_sum<Team, uint64_t>(team, own);
    const uint64_t weighted = meet_in_sum<Team, uint64_t>(team, own_weighted);
    once(team, [&](const auto&) {
      a.sums[2 * team.index()] = total;
      a.sums[2 * team.index() + 1] = weighted;
    });
  }
};

struct CompareArgs {
  const uint64_t *expected, *found;
  int rows;
  uint64_t* out;
};
struct Compare {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const CompareArgs& a) const {
    Own<Team, uint64_t> own;
    Own<Team, int> own_last;  // rows - its number, so that 0 is none and the largest the first
    sweep<1>(team, a.rows, [&](const auto& at) {
      const bool same =
          a.expected[2 * at.i] == a.found[2 * at.i] && a.expected[2 * at.i + 1] == a.found[2 * at.i + 1];
      if (same) return;
      own[at] += 1;
      if (own_last[at] == 0) own_last[at] = a.rows - at.i;
    });
    const uint64_t count = meet_in_sum<Team, uint64_t>(team, own);
    const int last = team.meet(own_last, [](int x, int y) { return x < y ? y : x; });
    once(team, [&](const auto&) {
      const int row = last == 0 ? 0 : a.rows - last;
      a.out[op::Differing::count] = count;
      a.out[op::Differing::first] = static_cast<uint64_t>(row);
      a.out[op::Differing::sum] = count == 0 ? 0 : a.found[2 * row] - a.expected[2 * row];
      a.out[op::Differing::weighted] = count == 0 ? 0 : a.found[2 * row + 1] - a.expected[2 * row + 1];
    });
  }
};

template <class Element>
void checksum_of(const LaunchContext& context, const Tensor& of, uint64_t* sums) {
  const ChecksumArgs<Element> args{reinterpret_cast<const Element*>(of.data()), of.elements(), sums};
  const int64_t blocks = op::checksum_blocks(args.n);
  aligned({args.x})
      ? launch<ChecksumBlock<Element, true>, kThreadsOfBlock>(stream_of(context), blocks, args)
      : launch<ChecksumBlock<Element, false>, kThreadsOfBlock>(stream_of(context), blocks, args);
}

void checksum(const Call& call, const LaunchContext& context) {
  const int64_t blocks = op::checksum_blocks(call[0].elements());
  auto* sums = call.operands.back().tensor.as<uint64_t>();
  for (size_t array = 0; array + 1 < call.operands.size(); ++array, sums += 2 * blocks) {
    if (bytes_of(call[array].type) == 4) {
      checksum_of<uint32_t>(context, call[array], sums);
    } else {
      checksum_of<uint16_t>(context, call[array], sums);
    }
  }
}

void compare(const Call& call, const LaunchContext& context) {
  require(call[0].rows() < int64_t{1} << 31, "a table of checksums has fewer than 2^31 rows");
  launch<Compare, kThreadsOfBlock>(stream_of(context), 1,
                                   CompareArgs{call[0].as<const uint64_t>(), call[1].as<const uint64_t>(),
                                               static_cast<int>(call[0].rows()), call[2].as<uint64_t>()});
}

}  // namespace

void add_checksum_kernels(KernelRegistry& registry) {
  registry.add(op::checksum_kind, {checksum});
  registry.add(op::compare_checksums_kind, {compare});
}

}  // namespace toroid::cuda
