// What both attention kernels share: sizes, the keys a query sees, and how queries are gathered into blocks.
// B sequences of T queries and S keys, N query heads, K key/value heads, H head_dim. A block holds `queries`
// queries of each of `group` heads that share a key/value head: R = group x queries rows, head after head.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device/cpu/onednn.h"
#include "core/device/cpu/pack.h"
#include "core/op/attention.h"

namespace toroid::cpu {

inline constexpr int64_t kKeyUnit = 64;  // key ranges begin and end at multiples of it

inline int64_t up_to(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

struct AttentionShape {
  // In deterministic mode a block holds one head and a fixed number of queries, so that its products have one
  // shape however the heads are dealt.
  AttentionShape(const Tensor& q, const Tensor& k, const Tensor& starts_of, const op::AttentionSpec& spec_of,
                 Bf16Products products, bool deterministic, int64_t rows)
      : spec(spec_of),
        B(spec.sequences),
        T(q.rows() / B),
        S(k.rows() / B),
        N(spec.heads),
        K(spec.kv_heads),
        H(spec.head_dim),
        group(deterministic ? 1 : N / K),
        queries(std::min(T, deterministic ? 128 : std::clamp<int64_t>(rows / group / 16 * 16, 16, 256))),
        padded_S(up_to(S, kKeyUnit)),
        type(product_type(q.type, products)),
        starts(starts_of) {}

  op::AttentionSpec spec;
  int64_t B, T, S, N, K, H, group, queries, padded_S;
  DType type;
  Tensor starts;

  int64_t size() const { return bytes_of(type); }
  int64_t blocks() const { return T == 0 ? 0 : (T + queries - 1) / queries; }
  int64_t queries_in(int64_t block) const { return std::min(queries, T - block * queries); }
  int64_t tail() const { return T % queries; }
  bool bf16() const { return type == DType::bf16; }

  // The keys seen by each row of a block, [first[r], last[r]], and the range of keys to go through.
  struct Keys {
    int64_t low, high;    // [low, high): all that any row sees
    int64_t whole_first;  // a range of keys from here on ...
    int64_t whole_last;   // ... to here is seen whole by every row
  };
  Keys keys(int64_t b, int64_t block, int32_t* first, int32_t* last) const {
    const int64_t count = queries_in(block);
    Keys seen{S, 0, 0, S - 1};
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = block * queries + i, self = t + S - T;
      int64_t from = std::max<int64_t>(starts.as<int32_t>()[b * T + t], 0);
      if (spec.window > 0) from = std::max(from, self - spec.window + 1);
      seen.low = std::min(seen.low, from);
      seen.high = std::max(seen.high, self + 1);
      seen.whole_first = std::max(seen.whole_first, from);
      seen.whole_last = std::min(seen.whole_last, self);
      for (int64_t j = 0; j < group; ++j) {
        first[j * count + i] = static_cast<int32_t>(from);
        last[j * count + i] = static_cast<int32_t>(self);
      }
    }
    return seen;
  }

  // Rows of a block in a tensor [B T, N H]: those of head `head`.
  const std::byte* at(const Tensor& t, int64_t b, int64_t block, int64_t head) const {
    return t.data() + ((b * T + block * queries) * t.row_stride + head * H) * bytes_of(t.type);
  }
  // A block's rows as a dense matrix [R, H] of the products' type.
  void gather(const Tensor& t, int64_t b, int64_t block, int64_t first_head, std::byte* to) const {
    const int64_t count = queries_in(block);
    for (int64_t j = 0; j < group; ++j) {
      RowSource rows;
      rows.add(at(t, b, block, first_head + j), t.type, t.row_stride, count, H);
      convert_rows(rows, 0, count, type, type, to + j * count * H * size(), H);
    }
  }
  // Keys or values of one head, [S, H].
  RowSource head_rows(const Tensor& t, int64_t b, int64_t kv_head, int64_t first_column,
                      int64_t columns) const {
    RowSource rows;
    rows.add(t.data() + (b * S * t.row_stride + kv_head * H + first_column) * bytes_of(t.type), t.type,
             t.row_stride, S, columns);
    return rows;
  }
};

}  // namespace toroid::cpu
