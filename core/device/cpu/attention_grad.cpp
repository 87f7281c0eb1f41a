// Gradients of attention by blocks (core/op/attention.h). Scores and their gradients are computed transposed,
// keys x queries: then P^T and dS^T are rows as the products for dV and dK want them, dS^T is written a
// second time in the order in which the product dQ^T += K^T dS^T reads it, and nothing large is ever
// transposed.
//
// An item is one key/value head of one sequence. It is done by `parts` workers, each with sums of dK and dV
// of its own, which are added afterwards: in deterministic mode one for each slice of query heads (and a
// tree), else as many as it takes to occupy the threads.
#include <cstring>

#include "core/device/cpu/attention_rows.h"
#include "core/device/cpu/attention_shape.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"
#include "core/device/cpu/tree.h"
#include "core/op/attention.h"

namespace toroid::cpu {
namespace {

constexpr int64_t kBlockRows = 384;
constexpr int64_t kBlockKeys = 2 * kKeyUnit;  // key ranges are whole blocks and, at the end, a half

class AttentionGradient {
 public:
  AttentionGradient(const Call& call, int threads, Bf16Products products)
      : d_o_(call[0]),
        q_(call[1]),
        k_(call[2]),
        v_(call[3]),
        o_(call[4]),
        lse_(call[5]),
        dq_(call[7]),
        dk_(call[8]),
        dv_(call[9]),
        deterministic_(call.tiles.deterministic),
        s_(q_, k_, call[6], call.get<op::AttentionSpec>(), products, deterministic_, kBlockRows),
        items_(s_.B * s_.K),
        parts_(1),
        keys_(up_to(s_.S, kBlockKeys)) {
    if (deterministic_) {
      const int64_t heads = s_.N / s_.K, slices = std::max<int64_t>(1, call.tiles.slices / s_.K);
      parts_ = heads % slices == 0 ? slices : 1;
    } else if (items_ % threads != 0 && items_ < 4 * threads) {
      parts_ = std::min<int64_t>(threads, s_.blocks());
    }
    slots_ = parts_ == 1 ? std::min<int64_t>(threads, items_) : 1;
  }

  int64_t lay_out(std::byte* workspace, int threads) {
    Scratch scratch(workspace);
    shared_ = nullptr;
    shared_bytes_ = up_to(Shared(*this, nullptr).bytes, 4096) + 256;
    shared_ = scratch.take(shared_bytes_ * slots_);
    sum_elements_ = keys_ * s_.H;
    sums_ = scratch.take<float>(2 * sum_elements_ * std::max(parts_, slots_));
    product_scratch_ = 0;
    for (const int64_t queries : {s_.queries, s_.tail()}) {
      if (queries == 0) continue;
      const int64_t R = queries * s_.group;
      for (const int64_t keys : {kKeyUnit, kBlockKeys}) {
        note(scores(keys, R));
        note(to_keys(keys, R));
        note(to_queries(keys, R, false));
        note(to_queries(keys, R, true));
      }
    }
    own_bytes_ = up_to(Own(*this, nullptr).bytes, 4096) + 256;
    own_ = scratch.take(own_bytes_ * threads);
    return scratch.used();
  }

  void run(std::byte* workspace, int threads) {
    lay_out(workspace, threads);
    if (parts_ == 1) {
      const int workers = static_cast<int>(slots_);
      parallel(workers, [&](int index) {
        const Range range = part_of(items_, workers, index);
        const Shared shared(*this, shared_ + index * shared_bytes_);
        Own own(*this, own_ + index * own_bytes_);
        for (int64_t item = range.first; item < range.last; ++item) {
          gather_keys(shared, item, 0, keys_ / kBlockKeys);
          work(shared, own, item, 0, index);
          for (int64_t s = 0; s < s_.S; ++s) write_key(item, s, index);
        }
      });
      return;
    }
    const Shared shared(*this, shared_);
    const int workers = static_cast<int>(std::min<int64_t>(threads, parts_));
    for (int64_t item = 0; item < items_; ++item) {
      parallel_ranges(keys_ / kBlockKeys, 1, keys_ * s_.H * 12, threads,
                      [&](Range range) { gather_keys(shared, item, range.first, range.last); });
      parallel(workers, [&](int index) {
        Own own(*this, own_ + index * own_bytes_);
        const Range range = part_of(parts_, workers, index);
        for (int64_t part = range.first; part < range.last; ++part) work(shared, own, item, part, part);
      });
      tree_rows(sums_, parts_, 2 * sum_elements_, 2 * sum_elements_, threads);
      parallel_ranges(s_.S, 1, s_.S * s_.H * 12, threads, [&](Range range) {
        for (int64_t s = range.first; s < range.last; ++s) write_key(item, s, 0);
      });
    }
  }

 private:
  // Keys and values of an item, dense and (the keys, by blocks and by halves of blocks) transposed.
  struct Shared {
    Shared(const AttentionGradient& a, std::byte* base) {
      Scratch scratch(base);
      const int64_t each = a.keys_ * a.s_.H * a.s_.size();
      k = scratch.take(each);
      v = scratch.take(each);
      turned_blocks = scratch.take(each);
      turned_halves = scratch.take(each);
      bytes = scratch.used();
    }
    std::byte *k, *v, *turned_blocks, *turned_halves;
    int64_t bytes;
  };
  // One worker's memory.
  struct Own {
    Own(const AttentionGradient& a, std::byte* base) {
      Scratch scratch(base);
      const AttentionShape& s = a.s_;
      const int64_t R = s.group * s.queries, size = s.size();
      q = scratch.take(R * s.H * size);
      d_o = scratch.take(R * s.H * size);
      o = scratch.take(R * s.H * size);
      const int64_t across = packed_bytes_upto(s, R, true), along = packed_bytes_upto(s, R, false);
      q_across = scratch.take(across);
      d_o_across = scratch.take(across);
      q_along = scratch.take(along);
      d_o_along = scratch.take(along);
      z = scratch.take<float>(R * kBlockKeys);
      dp = scratch.take<float>(R * kBlockKeys);
      p = scratch.take(R * kBlockKeys * size);
      ds = scratch.take(R * kBlockKeys * size);
      ds_packed = scratch.take(up_to(R, kKeyUnit) * kBlockKeys * size);
      dq = scratch.take<float>(R * s.H);
      lse = scratch.take<float>(R);
      delta = scratch.take<float>(R);
      first = scratch.take<int32_t>(R);
      last = scratch.take<int32_t>(R);
      product = scratch.take(a.product_scratch_);
      bytes = scratch.used();
    }
    // A shorter last block's layout is no larger.
    static int64_t packed_bytes_upto(const AttentionShape& s, int64_t R, bool across) {
      return across ? packed_format(s.type, s.H, R, true).bytes()
                    : packed_format(s.type, R, s.H, false).bytes();
    }
    std::byte *q, *d_o, *o, *q_across, *d_o_across, *q_along, *d_o_along, *p, *ds, *ds_packed, *product;
    float *z, *dp, *dq, *lse, *delta;
    int32_t *first, *last;
    int64_t bytes;
    ProductRuns runs;
  };

  void note(const Product::Shape& shape) {
    product_scratch_ = std::max(product_scratch_, Product::get(shape)->scratch_bytes());
  }
  // [keys, H] x [H, R], also for dO V^T.
  Product::Shape scores(int64_t keys, int64_t R) const {
    return {.m = keys, .n = R, .k = s_.H, .type = s_.type, .transposed = true};
  }
  // dV and dK: [keys, R] x [R, H]
  Product::Shape to_keys(int64_t keys, int64_t R) const {
    return {.m = keys, .n = s_.H, .k = R, .type = s_.type, .accumulate = true};
  }
  // dQ^T: [H, keys] x [keys, R]
  Product::Shape to_queries(int64_t keys, int64_t R, bool accumulate) const {
    return {.m = s_.H, .n = R, .k = keys, .type = s_.type, .accumulate = accumulate};
  }

  void gather_keys(const Shared& shared, int64_t item, int64_t first_block, int64_t last_block) const {
    const int64_t b = item / s_.K, head = item % s_.K, size = s_.size(), H = s_.H;
    const RowSource k = s_.head_rows(k_, b, head, 0, H), v = s_.head_rows(v_, b, head, 0, H);
    for (int64_t block = first_block; block < last_block; ++block) {
      const int64_t key = block * kBlockKeys, present = std::clamp<int64_t>(s_.S - key, 0, kBlockKeys);
      for (const auto& [source, to] : {std::pair(&k, shared.k), std::pair(&v, shared.v)}) {
        convert_rows(*source, key, present, s_.type, s_.type, to + key * H * size, H);
        std::memset(to + (key + present) * H * size, 0,
                    static_cast<size_t>((kBlockKeys - present) * H * size));
      }
      RowSource dense;
      dense.add(shared.k + key * H * size, s_.type, H, kBlockKeys, H);
      transpose_block(dense, 0, kBlockKeys, 0, H, s_.type, shared.turned_blocks + key * H * size, kBlockKeys);
      for (const int64_t half : {int64_t{0}, kKeyUnit}) {
        transpose_block(dense, half, kKeyUnit, 0, H, s_.type, shared.turned_halves + (key + half) * H * size,
                        kKeyUnit);
      }
    }
  }

  // A part's query blocks of an item, into the sums of `slot`.
  void work(const Shared& shared, Own& own, int64_t item, int64_t part, int64_t slot) const {
    float* const dk = sums_ + 2 * slot * sum_elements_;
    std::memset(dk, 0, static_cast<size_t>(2 * sum_elements_) * sizeof(float));
    const int64_t heads = s_.N / s_.K, first_head = item % s_.K * heads;
    if (deterministic_) {
      const int64_t each = heads / parts_;
      for (int64_t head = first_head + part * each; head < first_head + (part + 1) * each; ++head) {
        for (int64_t block = 0; block < s_.blocks(); ++block)
          run_block(shared, own, item / s_.K, head, block, dk);
      }
      return;
    }
    // Later blocks see more keys: dealt there and back, each part gets a like share.
    for (int64_t block = 0; block < s_.blocks(); ++block) {
      const int64_t turn = block / parts_, place = block % parts_;
      if ((turn % 2 == 0 ? place : parts_ - 1 - place) != part) continue;
      run_block(shared, own, item / s_.K, first_head, block, dk);
    }
  }

  void run_block(const Shared& shared, Own& own, int64_t b, int64_t first_head, int64_t block,
                 float* dk) const {
    const int64_t count = s_.queries_in(block), R = s_.group * count, H = s_.H, size = s_.size();
    const AttentionShape::Keys seen = s_.keys(b, block, own.first, own.last);
    load_block(own, b, first_head, block);
    const PackedFormat across = packed_format(s_.type, H, R, true),
                       along = packed_format(s_.type, R, H, false);
    RowSource q, d_o;
    q.add(own.q, s_.type, H, R, H);
    d_o.add(own.d_o, s_.type, H, R, H);
    pack_transposed(q, s_.type, across, 0, blocks_of_n(across), own.q_across);
    pack_transposed(d_o, s_.type, across, 0, blocks_of_n(across), own.d_o_across);
    pack_straight(q, s_.type, along, 0, blocks_of_k(along), own.q_along);
    pack_straight(d_o, s_.type, along, 0, blocks_of_k(along), own.d_o_along);

    float* const dv = dk + sum_elements_;
    const int64_t low = seen.low / kBlockKeys * kBlockKeys, high = up_to(seen.high, kKeyUnit);
    for (int64_t key = low; key < high;) {
      const int64_t keys = high - key >= kBlockKeys ? kBlockKeys : kKeyUnit;
      const PackedFormat format = packed_format(s_.type, keys, R, false);
      ProductRun& score = own.runs(scores(keys, R));
      score(shared.k + key * H * size, own.q_across, own.z, own.product);
      score(shared.v + key * H * size, own.d_o_across, own.dp, own.product);
      score_gradients({.z = own.z,
                       .dp = own.dp,
                       .keys = keys,
                       .queries = R,
                       .key = key,
                       .masked = key < seen.whole_first || key + keys - 1 > seen.whole_last,
                       .first = own.first,
                       .last = own.last,
                       .lse = own.lse,
                       .delta = own.delta,
                       .scale = static_cast<float>(s_.spec.scale),
                       .softcap = static_cast<float>(s_.spec.softcap),
                       .bf16 = s_.bf16(),
                       .p = own.p,
                       .ds = own.ds,
                       .packed = format.blocked ? own.ds_packed : nullptr,
                       .n_block = format.blocked ? format.n_block : R,
                       .padded_keys = format.padded_k()});
      ProductRun& add = own.runs(to_keys(keys, R));
      add(own.p, own.d_o_along, dv + key * H, own.product);
      add(own.ds, own.q_along, dk + key * H, own.product);
      ProductRun& to_q = own.runs(to_queries(keys, R, key > low));
      to_q((keys == kBlockKeys ? shared.turned_blocks : shared.turned_halves) + key * H * size,
           format.blocked ? own.ds_packed : own.ds, own.dq, own.product);
      key += keys;
    }
    RowSource turned;
    turned.add(reinterpret_cast<const std::byte*>(own.dq), DType::f32, R, H, R);
    for (int64_t j = 0; j < s_.group; ++j) {
      transpose_block(turned, 0, H, j * count, count, dq_.type,
                      const_cast<std::byte*>(s_.at(dq_, b, block, first_head + j)), dq_.row_stride);
    }
  }

  void load_block(const Own& own, int64_t b, int64_t first_head, int64_t block) const {
    const int64_t count = s_.queries_in(block), size = s_.size();
    s_.gather(q_, b, block, first_head, own.q);
    s_.gather(d_o_, b, block, first_head, own.d_o);
    s_.gather(o_, b, block, first_head, own.o);
    for (int64_t r = 0; r < s_.group * count; ++r) {
      const int64_t row = b * s_.T + block * s_.queries + r % count;
      own.lse[r] = lse_.as<float>()[(first_head + r / count) * lse_.row_stride + row];
      own.delta[r] = dot_row(own.d_o + r * s_.H * size, own.o + r * s_.H * size, s_.bf16(), s_.H);
    }
  }

  void write_key(int64_t item, int64_t s, int64_t slot) const {
    const int64_t b = item / s_.K, head = item % s_.K;
    const float* from = sums_ + 2 * slot * sum_elements_ + s * s_.H;
    const auto to = [&](const Tensor& t) {
      return t.data() + ((b * s_.S + s) * t.row_stride + head * s_.H) * bytes_of(t.type);
    };
    finish_row(from, false, dk_.type, to(dk_), s_.H);
    finish_row(from + sum_elements_, false, dv_.type, to(dv_), s_.H);
  }

  const Tensor &d_o_, &q_, &k_, &v_, &o_, &lse_, &dq_, &dk_, &dv_;
  bool deterministic_;
  AttentionShape s_;
  int64_t items_, parts_, slots_ = 1, keys_;
  int64_t shared_bytes_ = 0, own_bytes_ = 0, sum_elements_ = 0, product_scratch_ = 0;
  std::byte *shared_ = nullptr, *own_ = nullptr;
  float* sums_ = nullptr;
};

bool left_to_reference(const Call& call) {
  return call[0].type == DType::f64 || call[5].type == DType::f64;
}

template <Bf16Products kProducts>
void run_gradient(const Call& call, const LaunchContext& context) {
  if (left_to_reference(call)) {
    call.kind->reference(call);
  } else if (call[1].rows() > 0) {
    AttentionGradient(call, context.threads, kProducts).run(context.workspace, context.threads);
  }
}

template <Bf16Products kProducts>
int64_t gradient_workspace(const Call& call, const LaunchContext& context) {
  if (left_to_reference(call) || call[1].rows() == 0) return 0;
  return AttentionGradient(call, context.threads, kProducts).lay_out(nullptr, context.threads);
}

template <Bf16Products kProducts>
constexpr Kernel kKernel{run_gradient<kProducts>, gradient_workspace<kProducts>};

}  // namespace

void add_attention_grad_kernel(KernelRegistry& registry, Bf16Products products) {
  const bool native = products == Bf16Products::native;
  registry.add(op::attention_grad_kind,
               native ? kKernel<Bf16Products::native> : kKernel<Bf16Products::widened>);
}

}  // namespace toroid::cpu
