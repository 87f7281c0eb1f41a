// Attention by blocks of queries and keys (core/op/attention.h): scores by one product, their exponentials
// under a running maximum, and one product with the values for each panel of the head's dimensions. Keys and
// values are packed once; every range of keys of a panel then lies contiguous.
#include "core/op/attention.h"

#include <cmath>
#include <limits>

#include "core/device/cpu/attention_rows.h"
#include "core/device/cpu/attention_shape.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"

namespace toroid::cpu {
namespace {

constexpr int64_t kBlockRows = 384, kBlockKeys = 256;
constexpr int64_t kPanel = 64;  // dimensions of a head, the width of a product's inner block

class Attention {
 public:
  Attention(const Call& call, Bf16Products products)
      : q_(call[0]),
        k_(call[1]),
        v_(call[2]),
        o_(call[4]),
        lse_(call[5]),
        s_(q_, k_, call[3], call.get<op::AttentionSpec>(), products, call.tiles.deterministic, kBlockRows),
        keys_(packed_format(s_.type, s_.H, s_.padded_S, true)) {}

  int64_t lay_out(std::byte* workspace, int threads) {
    Scratch scratch(workspace);
    key_bytes_ = up_to(keys_.bytes(), 128);
    value_bytes_ = 0;
    for (int64_t h = 0; h < s_.H; h += kPanel) value_bytes_ += up_to(panel(h, s_.padded_S).bytes(), 128);
    packed_keys_ = scratch.take(key_bytes_ * s_.B * s_.K);
    packed_values_ = scratch.take(value_bytes_ * s_.B * s_.K);
    product_scratch_ = 0;
    for (const int64_t queries : {s_.queries, s_.tail()}) {
      if (queries == 0) continue;
      for (int64_t keys = kKeyUnit; keys <= kBlockKeys; keys += kKeyUnit) {
        note(scores(queries * s_.group, keys));
        for (const int64_t h : {int64_t{0}, (s_.H - 1) / kPanel * kPanel}) {
          note(output(queries * s_.group, keys, h, false));
          note(output(queries * s_.group, keys, h, true));
        }
      }
    }
    const int64_t R = s_.group * s_.queries;
    own_ = nullptr;
    own_bytes_ = 0;
    const Own own(*this, nullptr, R);
    own_bytes_ = up_to(own.bytes, 4096) + 256;
    own_ = scratch.take(own_bytes_ * threads);
    return scratch.used();
  }

  void run(std::byte* workspace, int threads) {
    lay_out(workspace, threads);
    pack(threads);
    // Later blocks see more keys: dealt there and back, each thread gets a like share.
    const int64_t sets = s_.N / s_.group, tasks = s_.B * sets * s_.blocks();
    const int parts = static_cast<int>(std::min<int64_t>(threads, tasks));
    parallel(parts, [&](int index) {
      Own own(*this, own_ + index * own_bytes_, s_.group * s_.queries);
      for (int64_t i = 0; i < tasks; ++i) {
        const int64_t turn = i / parts, place = i % parts;
        if ((turn % 2 == 0 ? place : parts - 1 - place) != index) continue;
        const int64_t block = s_.blocks() - 1 - i / (s_.B * sets), rest = i % (s_.B * sets);
        run_block(own, rest / sets, rest % sets, block);
      }
    });
  }

 private:
  // One thread's memory.
  struct Own {
    Own(const Attention& a, std::byte* base, int64_t R) {
      Scratch scratch(base);
      q = scratch.take(R * a.s_.H * a.s_.size());
      z = scratch.take<float>(R * kBlockKeys);
      p = scratch.take(R * kBlockKeys * a.s_.size());
      o = scratch.take<float>(R * up_to(a.s_.H, kPanel));
      max = scratch.take<float>(R);
      sum = scratch.take<float>(R);
      alpha = scratch.take<float>(R);
      first = scratch.take<int32_t>(R);
      last = scratch.take<int32_t>(R);
      product = scratch.take(a.product_scratch_);
      bytes = scratch.used();
    }
    std::byte *q, *p, *product;
    float *z, *o, *max, *sum, *alpha;
    int32_t *first, *last;
    int64_t bytes;
    ProductRuns runs;
  };

  void note(const Product::Shape& shape) {
    product_scratch_ = std::max(product_scratch_, Product::get(shape)->scratch_bytes());
  }
  int64_t panel_width(int64_t h) const { return std::min(kPanel, s_.H - h); }
  PackedFormat panel(int64_t h, int64_t keys) const {
    return packed_format(s_.type, keys, panel_width(h), false);
  }
  Product::Shape scores(int64_t rows, int64_t keys) const {
    return {.m = rows, .n = keys, .k = s_.H, .type = s_.type, .transposed = true};
  }
  Product::Shape output(int64_t rows, int64_t keys, int64_t h, bool accumulate) const {
    return {.m = rows, .n = panel_width(h), .k = keys, .type = s_.type, .accumulate = accumulate};
  }

  void pack(int threads) const {
    const int64_t units = s_.padded_S / kKeyUnit;
    const int64_t n_blocks = kKeyUnit / keys_.n_block;
    parallel_ranges(s_.B * s_.K * units, 1, k_.bytes() * 4, threads, [&](Range range) {
      for (int64_t i = range.first; i < range.last; ++i) {
        const int64_t item = i / units, unit = i % units, b = item / s_.K, head = item % s_.K;
        pack_transposed(s_.head_rows(k_, b, head, 0, s_.H), s_.type, keys_, unit * n_blocks,
                        (unit + 1) * n_blocks, packed_keys_ + item * key_bytes_);
        std::byte* to = packed_values_ + item * value_bytes_;
        for (int64_t h = 0; h < s_.H; h += kPanel) {
          const PackedFormat format = panel(h, s_.padded_S);
          const int64_t k_blocks = kKeyUnit / format.k_block;
          pack_straight(s_.head_rows(v_, b, head, h, panel_width(h)), s_.type, format, unit * k_blocks,
                        (unit + 1) * k_blocks, to);
          to += up_to(format.bytes(), 128);
        }
      }
    });
  }

  void run_block(Own& own, int64_t b, int64_t set, int64_t block) const {
    const int64_t R = s_.group * s_.queries_in(block), item = b * s_.K + set * s_.group * s_.K / s_.N;
    s_.gather(q_, b, block, set * s_.group, own.q);
    const AttentionShape::Keys seen = s_.keys(b, block, own.first, own.last);
    std::fill(own.max, own.max + R, -std::numeric_limits<float>::infinity());
    std::fill(own.sum, own.sum + R, 0.0f);
    const int64_t low = seen.low / kKeyUnit * kKeyUnit, high = up_to(seen.high, kKeyUnit);
    for (int64_t key = low; key < high; key += kBlockKeys) {
      const int64_t keys = std::min(kBlockKeys, high - key);
      own.runs(scores(R, keys))(own.q, packed_keys_ + item * key_bytes_ + keys_.column_bytes(key), own.z,
                                own.product);
      softmax_block({.z = own.z,
                     .rows = R,
                     .columns = keys,
                     .key = key,
                     .first = own.first,
                     .last = own.last,
                     .scale = static_cast<float>(s_.spec.scale),
                     .softcap = static_cast<float>(s_.spec.softcap),
                     .bf16 = s_.bf16(),
                     .p = own.p,
                     .max = own.max,
                     .sum = own.sum,
                     .alpha = own.alpha});
      const std::byte* values = packed_values_ + item * value_bytes_;
      for (int64_t h = 0; h < s_.H; h += kPanel) {
        const PackedFormat format = panel(h, s_.padded_S);
        float* const o = own.o + h * R;
        if (key > low) rescale_rows(o, own.alpha, R, panel_width(h));
        own.runs(output(R, keys, h, key > low))(own.p, values + key * format.padded_n() * s_.size(), o,
                                                own.product);
        values += up_to(format.bytes(), 128);
      }
    }
    write(own, b, set, block);
  }

  void write(const Own& own, int64_t b, int64_t set, int64_t block) const {
    const int64_t count = s_.queries_in(block), R = s_.group * count;
    for (int64_t r = 0; r < R; ++r) {
      const int64_t head = set * s_.group + r / count, row = b * s_.T + block * s_.queries + r % count;
      for (int64_t h = 0; h < s_.H; h += kPanel) {
        std::byte* const to = o_.data() + (row * o_.row_stride + head * s_.H + h) * bytes_of(o_.type);
        divide_row(own.o + h * R + r * panel_width(h), own.sum[r], o_.type == DType::bf16, to,
                   panel_width(h));
      }
      if (lse_) lse_.as<float>()[head * lse_.row_stride + row] = own.max[r] + std::log(own.sum[r]);
    }
  }

  const Tensor &q_, &k_, &v_, &o_, &lse_;
  AttentionShape s_;
  PackedFormat keys_;
  int64_t key_bytes_ = 0, value_bytes_ = 0, product_scratch_ = 0, own_bytes_ = 0;
  std::byte *packed_keys_ = nullptr, *packed_values_ = nullptr, *own_ = nullptr;
};

template <Bf16Products kProducts>
void run_attention(const Call& call, const LaunchContext& context) {
  if (call[0].type == DType::f64 || (call[5] && call[5].type == DType::f64)) {
    call.kind->reference(call);
  } else if (call[0].rows() > 0) {
    Attention(call, kProducts).run(context.workspace, context.threads);
  }
}

template <Bf16Products kProducts>
int64_t attention_workspace(const Call& call, const LaunchContext& context) {
  if (call[0].type == DType::f64 || call[0].rows() == 0) return 0;
  return Attention(call, kProducts).lay_out(nullptr, context.threads);
}

template <Bf16Products kProducts>
constexpr Kernel kKernel{run_attention<kProducts>, attention_workspace<kProducts>};

}  // namespace

void add_attention_kernels(KernelRegistry& registry, Bf16Products products) {
  const bool native = products == Bf16Products::native;
  registry.add(op::attention_kind, native ? kKernel<Bf16Products::native> : kKernel<Bf16Products::widened>);
  add_attention_grad_kernel(registry, products);
}

}  // namespace toroid::cpu
