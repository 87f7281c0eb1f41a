// Fill, add, cast, pack, the soft-cap, sums with factors and the normal initialiser: one pass over elements.
#include <numbers>

#include "core/device/cuda/elements.h"
#include "core/device/cuda/random.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"

namespace toroid::cuda {
namespace {

template <class T>
struct Fill {
  struct Args {
    T* x;
    float value;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    store<kWidth>(a.x + i, make<kWidth>([&](int) { return a.value; }));
  }
};

// The wider of two vectors of 16 bytes has two of them.
template <class X, class Y>
inline constexpr int kWideOf = kVector<X> > kVector<Y> ? kVector<X> : kVector<Y>;

template <class X, class Y>
struct Add {
  struct Args {
    const X* x;
    Y* y;
  };
  static constexpr int kWide = kWideOf<X, Y>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto x = load<kWidth>(a.x + i), y = load<kWidth>(a.y + i);
    store<kWidth>(a.y + i, make<kWidth>([&](int j) { return y.v[j] + x.v[j]; }));
  }
};

template <class X, class Y>
struct Cast {
  struct Args {
    const X* x;
    Y* y;
    int64_t x_stride, y_stride;
  };
  static constexpr int kWide = kWideOf<X, Y>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    store<kWidth>(a.y + row * a.y_stride + i, load<kWidth>(a.x + row * a.x_stride + i));
  }
};

template <class T>
struct Softcap {
  struct Args {
    const T* x;
    T* y;
    float cap, inverse;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto x = load<kWidth>(a.x + i);
    store<kWidth>(a.y + i, make<kWidth>([&](int j) { return a.cap * tanh(x.v[j] * a.inverse); }));
  }
};

template <class X, class Y, class Out>
struct Combine {
  struct Args {
    const X* x;
    const Y* y;
    Out* out;
    float alpha, beta;
  };
  static constexpr int kWide = kWideOf<X, Y> > kVector<Out> ? kWideOf<X, Y> : kVector<Out>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto x = load<kWidth>(a.x + i), y = load<kWidth>(a.y + i);
    store<kWidth>(a.out + i, make<kWidth>([&](int j) { return fma(a.alpha, x.v[j], a.beta * y.v[j]); }));
  }
};

// core/base/random.h's numbers: an element draws the whole of its block of four, a vector each block once.
template <class T>
struct InitNormal {
  struct Args {
    T* x;
    uint64_t first, step;
    uint32_t low, high;
    double stddev;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  // The generator's numbers are floats, and the product with stddev is rounded again.
  TOROID_DEVICE static float scaled(const Args& a, double normal) {
    return static_cast<float>(a.stddev * static_cast<double>(static_cast<float>(normal)));
  }
  // Box-Muller on a pair of words, the even element first.
  struct Pair {
    float even, odd;
  };
  TOROID_DEVICE static Pair normal(const Args& a, uint32_t first, uint32_t second) {
    const double u = (static_cast<double>(first) + 1.0) * 0x1p-32;
    const SineCosine at = sine_cosine(static_cast<double>(second) * (2.0 * std::numbers::pi * 0x1p-32));
    const double radius = root(-2.0 * log(u));
    return {scaled(a, radius * at.cosine), scaled(a, radius * at.sine)};
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const uint64_t element = a.first + static_cast<uint64_t>(i);
    Floats<kWidth> out;
    if constexpr (kWidth == 1) {
      const RandomBlock words = philox(a.low, a.high, a.step, element / 4);
      const bool upper = element % 4 >= 2;
      const Pair drawn = normal(a, upper ? words.c[2] : words.c[0], upper ? words.c[3] : words.c[1]);
      out.v[0] = element % 2 == 0 ? drawn.even : drawn.odd;
    } else {
      TOROID_UNROLL
      for (int block = 0; block < kWidth / 4; ++block) {
        const RandomBlock words = philox(a.low, a.high, a.step, element / 4 + static_cast<uint64_t>(block));
        const Pair low = normal(a, words.c[0], words.c[1]), high = normal(a, words.c[2], words.c[3]);
        out.v[4 * block] = low.even;
        out.v[4 * block + 1] = low.odd;
        out.v[4 * block + 2] = high.even;
        out.v[4 * block + 3] = high.odd;
      }
    }
    store<kWidth>(a.x + i, out);
  }
};

void fill(const Call& call, const LaunchContext& context) {
  const Tensor& x = call[0];
  const auto value = static_cast<float>(call.get<op::FillSpec>().value);
  with_type(call, x.type, [&]<class T>(Type<T>) {
    launch_flat<Fill<T>>(stream_of(context), {x.as<T>(), value}, x.elements(), aligned({x.data()}));
  });
}

void add(const Call& call, const LaunchContext& context) {
  const Tensor &x = call[0], &y = call[1];
  with_types(call, x, y, [&]<class X, class Y>(Type<X>, Type<Y>) {
    launch_flat<Add<X, Y>>(stream_of(context), {x.as<X>(), y.as<Y>()}, y.elements(),
                           aligned({x.data(), y.data()}));
  });
}

void cast_rows(const Call& call, const Tensor& x, const Tensor& y, cudaStream_t stream) {
  with_types(call, x, y, [&]<class X, class Y>(Type<X>, Type<Y>) {
    const typename Cast<X, Y>::Args args{x.as<X>(), y.as<Y>(), x.row_stride, y.row_stride};
    const bool wide = aligned({x.data(), y.data()});
    if (x.dense() && y.dense()) return launch_flat<Cast<X, Y>>(stream, args, x.elements(), wide);
    launch_rows<Cast<X, Y>>(
        stream, args, x.rows(), x.columns(),
        wide && x.row_stride % Cast<X, Y>::kWide == 0 && y.row_stride % Cast<X, Y>::kWide == 0);
  });
}

void cast(const Call& call, const LaunchContext& context) {
  cast_rows(call, call[0], call[1], stream_of(context));
}

// Products read a weight as it is, whatever its layout is called, so that packing is stacking and rounding.
void pack(const Call& call, const LaunchContext& context) {
  Tensor packed = call.operands.back().tensor;
  packed.layout = Layout::plain;
  int64_t row = 0;
  for (size_t i = 0; i + 1 < call.operands.size(); ++i) {
    const Tensor& part = call[i];
    cast_rows(call, part, packed.slice_rows(row, part.rows()), stream_of(context));
    row += part.rows();
  }
}

void softcap(const Call& call, const LaunchContext& context) {
  const Tensor &x = call[0], &y = call[1];
  const auto cap = static_cast<float>(call.get<op::SoftcapSpec>().cap);
  with_type(call, x.type, [&]<class T>(Type<T>) {
    launch_flat<Softcap<T>>(stream_of(context), {x.as<T>(), y.as<T>(), cap, 1.0f / cap}, x.elements(),
                            aligned({x.data(), y.data()}));
  });
}

void combine(const Call& call, const LaunchContext& context) {
  const Tensor &x = call[0], &y = call[1], &out = call[2];
  const auto& spec = call.get<op::CombineSpec>();
  with_types(call, x, y, [&]<class X, class Y>(Type<X>, Type<Y>) {
    with_type(call, out.type, [&]<class Out>(Type<Out>) {
      launch_flat<Combine<X, Y, Out>>(stream_of(context),
                                      {x.as<X>(), y.as<Y>(), out.as<Out>(), static_cast<float>(spec.alpha),
                                       static_cast<float>(spec.beta)},
                                      out.elements(), aligned({x.data(), y.data(), out.data()}));
    });
  });
}

void init_normal(const Call& call, const LaunchContext& context) {
  const Tensor& x = call[0];
  const auto& spec = call.get<op::InitSpec>();
  with_type(call, x.type, [&]<class T>(Type<T>) {
    launch_flat<InitNormal<T>>(stream_of(context),
                               {x.as<T>(), static_cast<uint64_t>(spec.first), spec.key.step, spec.key.low,
                                spec.key.high, spec.stddev},
                               x.elements(), aligned({x.data()}) && spec.first % 4 == 0);
  });
}

}  // namespace

void add_elementwise_kernels(KernelRegistry& registry) {
  registry.add(op::fill_kind, {fill});
  registry.add(op::add_kind, {add});
  registry.add(op::cast_kind, {cast});
  registry.add(op::pack_kind, {pack});
  registry.add(op::softcap_kind, {softcap});
  registry.add(op::combine_kind, {combine});
  registry.add(op::init_normal_kind, {init_normal});
}

}  // namespace toroid::cuda
