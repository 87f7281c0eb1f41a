// Checksums at the speed at which words are read: each lane has the sum of its words and the sum of its sums,
// which weighs earlier words more; what a word's number makes of that is worked out once a run.
#include "core/device/cpu/checksum.h"

#include <algorithm>
#include <cstring>

#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/checksum.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/checksum.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Words are taken two at a time as one number of 64 bits, whose halves are added up apart: even and odd words
// of `steps` vectors. A lane's sum stays below 2^64 for any number of steps, its sum of sums is modulo 2^64.
void words_of(const std::byte* from, int64_t words, uint64_t* sum, uint64_t* weighted) {
  const hn::CappedTag<uint64_t, 8> tag;
  using V = hn::Vec<decltype(tag)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(tag));
  const int64_t step = 2 * lanes, steps = words / step;
  V even = hn::Zero(tag), odd = hn::Zero(tag), even_sums = hn::Zero(tag), odd_sums = hn::Zero(tag);
  const V low = hn::Set(tag, 0xffffffffu);
  for (int64_t i = 0; i < steps; ++i) {
    const V both = hn::LoadU(tag, reinterpret_cast<const uint64_t*>(from + 4 * i * step));
    even = hn::Add(even, hn::And(both, low));
    odd = hn::Add(odd, hn::ShiftRight<32>(both));
    even_sums = hn::Add(even_sums, even);
    odd_sums = hn::Add(odd_sums, odd);
  }
  // A word of step i is in so many sums of its lane: steps - i. Its number is i * step + its place + 1.
  HWY_ALIGN uint64_t of[4][8];
  hn::Store(even, tag, of[0]);
  hn::Store(odd, tag, of[1]);
  hn::Store(even_sums, tag, of[2]);
  hn::Store(odd_sums, tag, of[3]);
  uint64_t total = 0, total_weighted = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    for (int half = 0; half < 2; ++half) {
      const uint64_t own = of[half][lane], sums = of[half + 2][lane];
      const auto number = static_cast<uint64_t>(2 * lane + half + 1);
      total += own;
      total_weighted +=
          static_cast<uint64_t>(step) * (static_cast<uint64_t>(steps) * own - sums) + number * own;
    }
  }
  for (int64_t i = steps * step; i < words; ++i) {
    uint32_t word = 0;
    std::memcpy(&word, from + 4 * i, 4);
    total += word;
    total_weighted += static_cast<uint64_t>(i + 1) * word;
  }
  *sum = total;
  *weighted = total_weighted;
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(words_of);

// A thread takes the same elements of every array, which an update that follows takes too.
void checksum_arrays(const Call& call, const LaunchContext& context) {
  const size_t arrays = call.operands.size() - 1;
  const int64_t n = call[0].elements(), blocks = op::checksum_blocks(n);
  auto* const sums = call.operands.back().tensor.as<uint64_t>();
  parallel_ranges(
      blocks, 1, static_cast<int64_t>(arrays) * call[0].bytes(), context.threads, [&](Range range) {
        for (size_t array = 0; array < arrays; ++array) {
          const std::span bytes(call[array].data(), static_cast<size_t>(call[array].bytes()));
          const int64_t size = bytes_of(call[array].type);
          for (int64_t block = range.first; block < range.last; ++block) {
            const int64_t first = block * op::kChecksumBlock;
            const int64_t count = std::min(op::kChecksumBlock, n - first);
            const Checksum found =
                checksum(bytes.subspan(static_cast<size_t>(size * first), static_cast<size_t>(size * count)));
            uint64_t* const to = sums + 2 * (static_cast<int64_t>(array) * blocks + block);
            to[0] = found.sum;
            to[1] = found.weighted;
          }
        }
      });
}

// A pass over what is a thousandth of the arrays: the reference, in plain integers, is the kernel.
void compare(const Call& call, const LaunchContext&) {
  call.kind->reference(call);
}

}  // namespace

Checksum checksum(std::span<const std::byte> bytes) {
  Checksum out;
  const auto words = static_cast<int64_t>(bytes.size() / 4);
  HWY_DYNAMIC_DISPATCH(words_of)(bytes.data(), words, &out.sum, &out.weighted);
  if (bytes.size() % 4 == 0) return out;
  RunningChecksum all;
  all.add(out, 4 * words);
  const std::span rest = bytes.subspan(static_cast<size_t>(4 * words));
  all.add(toroid::checksum(rest), static_cast<int64_t>(rest.size()));
  return all.total();
}

void add_checksum_kernels(KernelRegistry& registry) {
  registry.add(op::checksum_kind, {checksum_arrays});
  registry.add(op::compare_checksums_kind, {compare});
}

}  // namespace toroid::cpu
#endif
