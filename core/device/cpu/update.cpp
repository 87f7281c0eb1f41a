// The update rules: master, moments and gradient stream through once, element by element, so the bits depend
// on nothing but the operands.
#include "core/op/update.h"

#include <cmath>
#include <cstring>

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/update.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_UPDATE_ARGS
#define TOROID_CORE_DEVICE_CPU_UPDATE_ARGS
namespace toroid::cpu {

struct AdamWArgs {
  const float* gradient = nullptr;
  float* w = nullptr;
  void *m = nullptr, *v = nullptr;                             // fp32, or bf16 and rounded
  float clip = 0, beta1 = 0, beta2 = 0, rest1 = 0, rest2 = 0;  // rest: 1 - beta, subtracted in double
  float decay = 0;                                             // rate * weight_decay
  float step = 0;                                              // rate / (1 - beta1^t)
  float inverse2 = 0;                                          // 1 / (1 - beta2^t)
  float epsilon = 0;
  op::Rounding rounding = {};
  uint64_t updates = 0;
};

struct EmaArgs {
  const float* master = nullptr;
  void* average = nullptr;  // fp32, or bf16 and rounded
  float decay = 0, rest = 0;
  op::Rounding rounding = {};
  uint64_t updates = 0;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// The words of elements [first, first + count) of a run, which need not follow one another in the tensor.
inline constexpr int64_t kMostWords = 1024;

// Blocks [first, first + 4) ... of the generator, as many as lie in the words: four words each.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void philox_blocks(const RandomKey& key, uint64_t first, int64_t blocks, uint32_t* words) {
  for (int64_t b = 0; b < blocks; ++b) {
    const auto drawn = philox(key, first + static_cast<uint64_t>(b));
    std::memcpy(words + 4 * b, drawn.data(), sizeof drawn);
  }
}
inline constexpr int64_t kSpareBlocks = 1;
#else
// A lane of 64 bits is a block. Only the lower halves of the lanes count until the words are put together.
HWY_INLINE void philox_blocks(const RandomKey& key, uint64_t first, int64_t blocks, uint32_t* words) {
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint32_t, decltype(d)> narrow;
  const auto product = [=](auto of, uint32_t factor)
                           HWY_ATTR { return hn::MulEven(hn::BitCast(narrow, of), hn::Set(narrow, factor)); };
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const auto low = hn::Set(d, 0xffffffffu);
  for (int64_t b = 0; b < blocks; b += step) {
    const auto index = hn::Iota(d, first + static_cast<uint64_t>(b));
    auto c0 = index, c1 = hn::ShiftRight<32>(index), c2 = hn::Set(d, key.step),
         c3 = hn::Set(d, key.step >> 32);
    uint32_t k0 = key.low, k1 = key.high;
    for (int round = 0; round < 10; ++round) {
      const auto p0 = product(c0, 0xD2511F53u), p1 = product(c2, 0xCD9E8D57u);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), hn::Set(d, k0));
      c1 = p1;
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), hn::Set(d, k1));
      c3 = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const auto first_two = hn::Or(hn::And(c0, low), hn::ShiftLeft<32>(c1));
    const auto last_two = hn::Or(hn::And(c2, low), hn::ShiftLeft<32>(c3));
    uint64_t halves[2][HWY_MAX_BYTES / sizeof(uint64_t)];
    hn::StoreU(first_two, d, halves[0]);
    hn::StoreU(last_two, d, halves[1]);
    for (int64_t lane = 0; lane < step; ++lane) {
      std::memcpy(words + 4 * (b + lane), &halves[0][lane], sizeof(uint64_t));
      std::memcpy(words + 4 * (b + lane) + 2, &halves[1][lane], sizeof(uint64_t));
    }
  }
}
inline constexpr int64_t kSpareBlocks = HWY_MAX_BYTES / sizeof(uint64_t);
#endif

struct RoundingWords {
  uint32_t drawn[kMostWords + 4 + 4 * kSpareBlocks];  // from a whole block on
  uint32_t words[kMostWords + HWY_MAX_BYTES];         // of the elements; what a vector reads past them

  void draw(const op::Rounding& rounding, uint64_t updates, int64_t first, int64_t count) {
    const RandomKey key{rounding.key.low, rounding.key.high, updates};
    for (int64_t i = 0; i < count;) {
      const int64_t alike = HWY_MIN(count - i, rounding.index.contiguous(first + i));
      const int64_t index = rounding.index(first + i), skipped = index % 4;
      philox_blocks(key, static_cast<uint64_t>(index / 4), (skipped + alike + 3) / 4, drawn);
      std::memcpy(words + i, drawn + skipped, static_cast<size_t>(alike) * sizeof(uint32_t));
      i += alike;
    }
  }
  HWY_INLINE Words at(int64_t i) const { return hn::LoadU(WordTag(), words + i); }
};

// Stochastic rounding by the lower 16 bits of each word (core/op/stochastic.h), kept as bf16.
HWY_INLINE Words random_words(Floats value, Words random) {
  const WordTag d;
  const Words bits = hn::BitCast(d, value), ones = hn::Set(d, 0x7f800000u);
  const auto special = hn::Eq(hn::And(bits, ones), ones);
  return hn::IfThenElse(special, round_words(value), hn::Add(bits, random));
}
HWY_INLINE void store_random(Floats value, Words random, Bf16* to, Whole) {
  hn::StoreU(hn::TruncateTo(HalfTag(), hn::ShiftRight<16>(random_words(value, random))), HalfTag(), to);
}
HWY_INLINE void store_random(Floats value, Words random, Bf16* to, Part part) {
  Bf16 padded[HWY_MAX_BYTES / sizeof(float)];
  store_random(value, random, padded, Whole{});
  std::memcpy(to, padded, static_cast<size_t>(part.count) * sizeof(Bf16));
}
HWY_INLINE Words lower_half(Words words) {
  return hn::And(words, hn::Set(WordTag(), 0xffff));
}
HWY_INLINE Words upper_half(Words words) {
  return hn::ShiftRight<16>(words);
}

// The rule for a vector of elements: moments and weights as they are after the step.
struct AdamWRule {
  explicit AdamWRule(const AdamWArgs& a)
      : clip(splat(a.clip)),
        beta1(splat(a.beta1)),
        beta2(splat(a.beta2)),
        rest1(splat(a.rest1)),
        rest2(splat(a.rest2)),
        decay(splat(a.decay)),
        step(splat(a.step)),
        inverse2(splat(a.inverse2)),
        epsilon(splat(a.epsilon)) {}
  Floats clip, beta1, beta2, rest1, rest2, decay, step, inverse2, epsilon;

  HWY_INLINE void operator()(Floats gradient, Floats& w, Floats& m, Floats& v) const {
    const Floats g = hn::Mul(clip, gradient);
    m = hn::MulAdd(beta1, m, hn::Mul(rest1, g));
    v = hn::MulAdd(beta2, v, hn::Mul(rest2, hn::Mul(g, g)));
    const Floats root = hn::Add(hn::Sqrt(hn::Mul(v, inverse2)), epsilon);
    // The change is formed first, so that the weight itself is rounded once.
    w = hn::Sub(w, hn::MulAdd(decay, w, hn::Div(hn::Mul(step, m), root)));
  }
};

void adamw_elements(const AdamWArgs& a, int64_t first, int64_t last) {
  const AdamWRule rule(a);
  const float* const gradient = a.gradient + first;
  float *const w_at = a.w + first, *const m_at = static_cast<float*>(a.m) + first,
               *const v_at = static_cast<float*>(a.v) + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    Floats m = load(m_at + i, span), v = load(v_at + i, span), w = load(w_at + i, span);
    rule(load(gradient + i, span), w, m, v);
    store(m, m_at + i, span);
    store(v, v_at + i, span);
    store(w, w_at + i, span);
  });
}

void adamw_rounded_elements(const AdamWArgs& a, int64_t first, int64_t last) {
  const AdamWRule rule(a);
  RoundingWords random;
  for (int64_t begin = first; begin < last; begin += kMostWords) {
    const int64_t count = HWY_MIN(kMostWords, last - begin);
    random.draw(a.rounding, a.updates, begin, count);
    const float* const gradient = a.gradient + begin;
    float* const w_at = a.w + begin;
    Bf16 *const m_at = static_cast<Bf16*>(a.m) + begin, *const v_at = static_cast<Bf16*>(a.v) + begin;
    sweep(count, [&](int64_t i, auto span) HWY_ATTR {
      Floats m = load(m_at + i, span), v = load(v_at + i, span), w = load(w_at + i, span);
      rule(load(gradient + i, span), w, m, v);
      const Words words = random.at(i);
      store_random(m, lower_half(words), m_at + i, span);
      store_random(v, upper_half(words), v_at + i, span);
      store(w, w_at + i, span);
    });
  }
}

void copy_elements(const float* w, bool bf16, void* copy, int64_t first, int64_t last) {
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    if (bf16) {
      store(load(w + first + i, span), static_cast<Bf16*>(copy) + first + i, span);
    } else {
      store(load(w + first + i, span), static_cast<float*>(copy) + first + i, span);
    }
  });
}

void ema_elements(const EmaArgs& a, int64_t first, int64_t last) {
  const Floats decay = splat(a.decay), rest = splat(a.rest);
  const float* const master = a.master + first;
  float* const average = static_cast<float*>(a.average) + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    const Floats mixed = hn::MulAdd(decay, load(average + i, span), hn::Mul(rest, load(master + i, span)));
    store(mixed, average + i, span);
  });
}

void ema_rounded_elements(const EmaArgs& a, int64_t first, int64_t last) {
  const Floats decay = splat(a.decay), rest = splat(a.rest);
  RoundingWords random;
  for (int64_t begin = first; begin < last; begin += kMostWords) {
    const int64_t count = HWY_MIN(kMostWords, last - begin);
    random.draw(a.rounding, a.updates, begin, count);
    const float* const master = a.master + begin;
    Bf16* const average = static_cast<Bf16*>(a.average) + begin;
    sweep(count, [&](int64_t i, auto span) HWY_ATTR {
      const Floats mixed = hn::MulAdd(decay, load(average + i, span), hn::Mul(rest, load(master + i, span)));
      store_random(mixed, lower_half(random.at(i)), average + i, span);
    });
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

using op::Control;
using op::State;

HWY_EXPORT(adamw_elements);
HWY_EXPORT(adamw_rounded_elements);
HWY_EXPORT(copy_elements);
HWY_EXPORT(ema_elements);
HWY_EXPORT(ema_rounded_elements);

// A few thousand partial sums and a dozen scalars: the reference, which works in double, is the kernel.
void decide(const Call& call, const LaunchContext&) {
  call.kind->reference(call);
}

void adamw_update(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::AdamWSpec>();
  const auto *const state = call[1].as<const float>(), *const control = call[2].as<const float>();
  if (control[Control::apply] == 0) return;
  const double t = state[State::update_count], rate = spec.rate_scale * control[Control::rate];
  const AdamWArgs args{
      .gradient = call[0].as<const float>(),
      .w = call[3].as<float>(),
      .m = call[4].data(),
      .v = call[5].data(),
      .clip = control[Control::clip],
      .beta1 = static_cast<float>(spec.beta1),
      .beta2 = static_cast<float>(spec.beta2),
      .rest1 = static_cast<float>(1 - spec.beta1),
      .rest2 = static_cast<float>(1 - spec.beta2),
      .decay = static_cast<float>(rate * spec.weight_decay),
      .step = static_cast<float>(rate / (1 - std::pow(spec.beta1, t))),
      .inverse2 = static_cast<float>(1 / (1 - std::pow(spec.beta2, t))),
      .epsilon = static_cast<float>(spec.epsilon),
      .rounding = spec.rounding,
      .updates = static_cast<uint64_t>(t),
  };
  const bool rounds = call[4].type == DType::bf16;
  const auto kernel =
      rounds ? HWY_DYNAMIC_DISPATCH(adamw_rounded_elements) : HWY_DYNAMIC_DISPATCH(adamw_elements);
  parallel_ranges(call[0].elements(), 64, (rounds ? 5 : 7) * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

// A copy is a pass of its own: this device's products read packed weights, and it is not asked for one.
void adamw(const Call& call, const LaunchContext& context) {
  if (call.operands.size() > 6 && !vector_type(call[6])) return call.kind->reference(call);
  adamw_update(call, context);
  if (call.operands.size() <= 6) return;
  const auto* const w = call[3].as<const float>();
  const Tensor& copy = call[6];
  const auto kernel = HWY_DYNAMIC_DISPATCH(copy_elements);
  parallel_ranges(copy.elements(), 64, call[3].bytes() + copy.bytes(), context.threads, [&](Range range) {
    kernel(w, copy.type == DType::bf16, copy.data(), range.first, range.last);
  });
}

void ema(const Call& call, const LaunchContext& context) {
  if (call[1].as<const float>()[Control::apply] == 0) return;
  const auto& spec = call.get<op::EmaSpec>();
  const bool rounds = call[2].type == DType::bf16;
  const EmaArgs args{.master = call[0].as<const float>(),
                     .average = call[2].data(),
                     .decay = static_cast<float>(spec.decay),
                     .rest = static_cast<float>(1 - spec.decay),
                     .rounding = spec.rounding,
                     .updates = rounds ? static_cast<uint64_t>(call[3].as<const float>()[State::update_count])
                                       : uint64_t{0}};
  const auto kernel =
      rounds ? HWY_DYNAMIC_DISPATCH(ema_rounded_elements) : HWY_DYNAMIC_DISPATCH(ema_elements);
  parallel_ranges(call[0].elements(), 64, 3 * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

}  // namespace

void add_update_kernels(KernelRegistry& registry) {
  registry.add(op::decide_kind, {decide});
  registry.add(op::adamw_kind, {adamw});
  registry.add(op::ema_kind, {ema});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
