// Arrays that travel in fewer bits: the same bits as core/op/wire.cpp.
#include "core/device/cuda/elements.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/wire.h"

namespace toroid::cuda {
namespace {

struct RoundToBf16 {
  struct Args {
    float* x;
    const float* residual;
    Bf16* wire;
  };
  static constexpr int kWide = kVector<Bf16>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    auto x = load<kWidth>(a.x + i);
    const auto residual = load<kWidth>(a.residual + i);
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) x.v[j] = x.v[j] + residual.v[j];
    const auto rounded = narrow<Bf16, kWidth>(x);
    const auto sent = widen<Bf16, kWidth>(rounded);
    store_raw<kWidth>(a.wire + i, rounded);
    store<kWidth>(a.x + i, make<kWidth>([&](int j) { return x.v[j] - sent.v[j]; }));
  }
};

constexpr int kBlock = static_cast<int>(op::kQuantBlock),
              kBlockBytes = static_cast<int>(op::kQuantBlockBytes);

// op::quantised_scale on the device.
TOROID_DEVICE float scale_of(float largest) {
  if (largest <= op::kLeastQuantised) return 0.0f;
  if (!(largest < as_float(0x7f800000u))) return as_float(0x7fc00000u);
  return as_float((as_bits(largest / 127.0f) + 0xffffu) & 0xffff0000u);
}

struct QuantiseArgs {
  float* x;
  const float* residual;
  uint8_t* wire;
};

// A team takes a block; each thread four values, which are two halves of words on the wire, where a block
// begins at any even byte.
template <int kWidth>
struct Quantise {
  static constexpr int kThreads = kBlock / 4;
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const QuantiseArgs& a) const {
    const int64_t first = team.index() * kBlock;
    uint8_t* const wire = a.wire + team.index() * kBlockBytes;
    Own<Team, Floats<4>> kept;
    Own<Team, float> size;
    each<1, 4>(team, kBlock, [&](const auto& at) {
      TOROID_UNROLL
      for (int part = 0; part < 4; part += kWidth) {
        const auto x = load<kWidth>(a.x + first + at.i + part),
                   r = load<kWidth>(a.residual + first + at.i + part);
        TOROID_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const float y = x.v[j] + r.v[j], one = magnitude(y);
          kept[at].v[part + j] = y;
          if (!(one <= size[at])) size[at] = one == one && size[at] != size[at] ? size[at] : one;
        }
      }
    });
    const float scale = scale_of(largest(team, size));
    each<1, 4>(team, kBlock, [&](const auto& at) {
      uint32_t bytes[4];
      Floats<4> left;
      TOROID_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float y = kept[at].v[j], q = scale > 0 ? nearest(y / scale) : 0.0f;
        bytes[j] = static_cast<uint32_t>(static_cast<int32_t>(q)) & 0xffu;
        left.v[j] = y - q * scale;
      }
      auto* const to = reinterpret_cast<uint16_t*>(wire + at.i);
      to[0] = static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
      to[1] = static_cast<uint16_t>(bytes[2] | bytes[3] << 8);
      TOROID_UNROLL
      for (int part = 0; part < 4; part += kWidth) {
        store<kWidth>(a.x + first + at.i + part, make<kWidth>([&](int j) { return left.v[part + j]; }));
      }
    });
    once(team, [&](const auto&) {
      *reinterpret_cast<uint16_t*>(wire + kBlock) = static_cast<uint16_t>(as_bits(scale) >> 16);
    });
  }
};

struct SumBf16 {
  struct Args {
    const Bf16* wires;
    float* total;
    int64_t rows, stride;
  };
  static constexpr int kWide = kVector<Bf16>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    auto total = make<kWidth>([](int) { return 0.0f; });
    for (int64_t row = 0; row < a.rows; ++row) {
      const auto sent = load<kWidth>(a.wires + row * a.stride + i);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) total.v[j] = total.v[j] + sent.v[j];
    }
    store<kWidth>(a.total + i, total);
  }
};

// The balanced binary tree over rows as a binary counter: two sums over as many rows become one. Levels are
// counted at compile time, so that the sums stay in registers.
inline constexpr int kTreeLevels = 10;

template <class T>
struct SumRows {
  struct Args {
    const T* wires;
    float* total;
    int64_t rows, stride;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static Floats<kWidth> sum_of(const Floats<kWidth>& a, const Floats<kWidth>& b) {
    return make<kWidth>([&](int j) { return a.v[j] + b.v[j]; });
  }
  template <int kWidth>
  TOROID_DEVICE static Floats<kWidth> row(const Args& a, int64_t row, int64_t i) {
    return load<kWidth>(a.wires + row * a.stride + i);
  }
};

struct InTurn : SumRows<float> {
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    auto total = row<kWidth>(a, 0, i);
    for (int64_t r = 1; r < a.rows; ++r) total = sum_of<kWidth>(total, row<kWidth>(a, r, i));
    store<kWidth>(a.total + i, total);
  }
};

template <class T>
struct AsTree : SumRows<T> {
  using Base = SumRows<T>;
  using Args = typename Base::Args;
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    Floats<kWidth> level[kTreeLevels] = {};
    for (int64_t r = 0; r < a.rows; ++r) {
      auto sum = Base::template row<kWidth>(a, r, i);
      bool carries = true;
      TOROID_UNROLL
      for (int l = 0; l < kTreeLevels; ++l) {
        if (!carries) continue;
        if ((r >> l & 1) != 0) {
          sum = Base::template sum_of<kWidth>(level[l], sum);
        } else {
          level[l] = sum;
          carries = false;
        }
      }
    }
    // What is left of a number of rows that is no power of two, the smallest sums first.
    Floats<kWidth> total = {};
    bool begun = false;
    TOROID_UNROLL
    for (int l = 0; l < kTreeLevels; ++l) {
      if ((a.rows >> l & 1) == 0) continue;
      total = begun ? Base::template sum_of<kWidth>(level[l], total) : level[l];
      begun = true;
    }
    store<kWidth>(a.total + i, total);
  }
};

template <class F, class T>
void sum_rows(const Call& call, const LaunchContext& context) {
  const Tensor &wires = call[0], &total = call[1];
  require(wires.rows() < 1 << kTreeLevels, "as many rows are added as there are levels for");
  const bool wide = aligned({wires.data(), total.data()}) && wires.row_stride % kVector<T> == 0;
  launch_flat<F>(stream_of(context), {wires.as<T>(), total.as<float>(), wires.rows(), wires.row_stride},
                 total.elements(), wide);
}

// Bytes are read in pairs where rows begin at even ones.
struct SumQuantised {
  struct Args {
    const uint8_t* wires;
    float* total;
    int64_t rows, stride;
  };
  static constexpr int kWide = 4;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  TOROID_DEVICE static float signed_byte(uint32_t byte) {
    return static_cast<float>(static_cast<int32_t>(byte << 24) >> 24);
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    auto total = make<kWidth>([](int) { return 0.0f; });
    const int64_t block = i / kBlock, inside = i % kBlock;
    for (int64_t row = 0; row < a.rows; ++row) {
      const uint8_t* const from = a.wires + row * a.stride + block * kBlockBytes;
      if constexpr (kWidth == 4) {
        const auto* const pairs = reinterpret_cast<const uint16_t*>(from + inside);
        const float scale = from_bf16(*reinterpret_cast<const uint16_t*>(from + kBlock));
        const uint32_t low = pairs[0], high = pairs[1];
        total.v[0] = total.v[0] + signed_byte(low & 0xffu) * scale;
        total.v[1] = total.v[1] + signed_byte(low >> 8) * scale;
        total.v[2] = total.v[2] + signed_byte(high & 0xffu) * scale;
        total.v[3] = total.v[3] + signed_byte(high >> 8) * scale;
      } else {
        const auto scale = static_cast<Bf16>(from[kBlock] | from[kBlock + 1] << 8);
        total.v[0] = total.v[0] + signed_byte(from[inside]) * from_bf16(scale);
      }
    }
    store<kWidth>(a.total + i, total);
  }
};

bool even(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.data()) % 2 == 0;
}

void compress(const Call& call, const LaunchContext& context) {
  const Tensor &x = call[0], &residual = call[1], &wire = call[2];
  const bool wide = aligned({x.data(), residual.data()});
  const cudaStream_t stream = stream_of(context);
  if (wire.type == DType::bf16) {
    return launch_flat<RoundToBf16>(stream, {x.as<float>(), residual.as<float>(), wire.as<Bf16>()},
                                    x.elements(), wide && aligned({wire.data()}));
  }
  require(even(wire), "the wire of a quantised array begins at an even byte");
  const QuantiseArgs args{x.as<float>(), residual.as<float>(), wire.as<uint8_t>()};
  const int64_t blocks = x.elements() / op::kQuantBlock;
  wide ? launch<Quantise<4>, Quantise<4>::kThreads>(stream, blocks, args)
       : launch<Quantise<1>, Quantise<1>::kThreads>(stream, blocks, args);
}

void sum_wires(const Call& call, const LaunchContext& context) {
  const Tensor &wires = call[0], &total = call[1];
  const cudaStream_t stream = stream_of(context);
  const bool tree = call.get<op::RowOrder>() == op::RowOrder::tree;
  if (wires.type == DType::f32) {
    return tree ? sum_rows<AsTree<float>, float>(call, context) : sum_rows<InTurn, float>(call, context);
  }
  if (tree) return sum_rows<AsTree<Bf16>, Bf16>(call, context);
  if (wires.type == DType::bf16) {
    const bool wide = aligned({wires.data(), total.data()}) && wires.row_stride % SumBf16::kWide == 0;
    return launch_flat<SumBf16>(stream, {wires.as<Bf16>(), total.as<float>(), wires.rows(), wires.row_stride},
                                total.elements(), wide);
  }
  const bool wide = aligned({total.data()}) && even(wires) && wires.row_stride % 2 == 0;
  launch_flat<SumQuantised>(stream, {wires.as<uint8_t>(), total.as<float>(), wires.rows(), wires.row_stride},
                            total.elements(), wide);
}

}  // namespace

void add_wire_kernels(KernelRegistry& registry) {
  registry.add(op::compress_kind, {compress});
  registry.add(op::sum_wires_kind, {sum_wires});
}

}  // namespace toroid::cuda
