// B sequences of T queries and S keys, N query heads, K key/value heads, H head_dim.
#include "core/op/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

struct Sizes {
  int64_t B, T, S, N, K, H;
  Sizes(const Tensor& q, const Tensor& k, const AttentionSpec& spec)
      : B(spec.sequences),
        T(q.shape[0] / std::max<int64_t>(B, 1)),
        S(k.shape[0] / std::max<int64_t>(B, 1)),
        N(spec.heads),
        K(spec.kv_heads),
        H(spec.head_dim) {}
};

// Keys that the queries of one sequence see, in all: causality and the window count, documents do not.
int64_t pairs_seen(const Sizes& size, int64_t window) {
  const int64_t first = size.S - size.T + 1;  // that the first query sees; each sees one more than the last
  const int64_t below = window > 0 ? std::clamp<int64_t>(window - first, 0, size.T) : size.T;
  return below * first + below * (below - 1) / 2 + (size.T - below) * window;
}

// Products over the band of seen keys, each charged as T queries by the mean number of keys (rounded up).
Cost band_cost(const Call& call, const Sizes& size, int to_head, int to_keys, int64_t flops_per_pair) {
  const auto& spec = call.get<AttentionSpec>();
  const int64_t pairs = pairs_seen(size, spec.window), keys = size.T == 0 ? 0 : (pairs + size.T - 1) / size.T;
  Cost cost = traffic(call);
  for (int i = 0; i < to_keys; ++i) {
    cost.products.push_back({size.T, keys, size.H, size.B * size.N, call[0].type});
  }
  for (int i = 0; i < to_head; ++i) {
    cost.products.push_back({size.T, size.H, keys, size.B * size.N, call[0].type});
  }
  cost.vector_flops = (flops_per_pair + (spec.softcap > 0 ? 8 : 0)) * pairs * size.B * size.N;
  return cost;
}

Cost attention_cost(const Call& call) {
  return band_cost(call, Sizes(call[0], call[1], call.get<AttentionSpec>()), 1, 1, 8);
}

// The scores are computed again from q and k, as the forward pass keeps only lse.
Cost attention_grad_cost(const Call& call) {
  return band_cost(call, Sizes(call[1], call[2], call.get<AttentionSpec>()), 3, 2, 12);
}

// The keys that query t of sequence b sees, [first, last].
struct Seen {
  int64_t first, last;
};

class Mask {
 public:
  Mask(const Tensor& starts, const Sizes& size, int64_t window)
      : starts_(load_integers(starts)), size_(size), window_(window) {}
  Seen operator()(int64_t b, int64_t t) const {
    const int64_t last = t + size_.S - size_.T;
    int64_t first = std::max<int64_t>(starts_[static_cast<size_t>(b * size_.T + t)], 0);
    if (window_ > 0) first = std::max(first, last - window_ + 1);
    return {first, last};
  }

 private:
  std::vector<int64_t> starts_;
  Sizes size_;
  int64_t window_;
};

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// The capped score, and its derivative by the raw scaled one.
struct Score {
  double value, slope;
};
Score score(const double* q, const double* k, int64_t H, const AttentionSpec& spec) {
  const double raw = spec.scale * dot(q, k, H);
  if (spec.softcap == 0) return {raw, 1};
  const double t = std::tanh(raw / spec.softcap);
  return {spec.softcap * t, 1 - t * t};
}

void attention_reference(const Call& call) {
  const auto& spec = call.get<AttentionSpec>();
  const Sizes size(call[0], call[1], spec);
  const std::vector<double> q = load(call[0]), k = load(call[1]), v = load(call[2]);
  const Mask mask(call[3], size, spec.window);
  const int64_t H = size.H, M = size.B * size.T;
  std::vector<double> o(q.size(), 0.0), lse(static_cast<size_t>(size.N * M)), p(static_cast<size_t>(size.S));
  for (int64_t b = 0; b < size.B; ++b) {
    for (int64_t t = 0; t < size.T; ++t) {
      const Seen seen = mask(b, t);
      for (int64_t n = 0; n < size.N; ++n) {
        const int64_t g = n * size.K / size.N, row = b * size.T + t;
        const double* q_row = &q[static_cast<size_t>((row * size.N + n) * H)];
        double top = -std::numeric_limits<double>::infinity(), total = 0;
        for (int64_t s = seen.first; s <= seen.last; ++s) {
          const double* k_row = &k[static_cast<size_t>(((b * size.S + s) * size.K + g) * H)];
          p[static_cast<size_t>(s)] = score(q_row, k_row, H, spec).value;
          top = std::max(top, p[static_cast<size_t>(s)]);
        }
        for (int64_t s = seen.first; s <= seen.last; ++s) {
          double& value = p[static_cast<size_t>(s)];
          value = std::exp(value - top);
          total += value;
        }
        double* o_row = &o[static_cast<size_t>((row * size.N + n) * H)];
        for (int64_t s = seen.first; s <= seen.last; ++s) {
          const double* v_row = &v[static_cast<size_t>(((b * size.S + s) * size.K + g) * H)];
          for (int64_t h = 0; h < H; ++h) o_row[h] += p[static_cast<size_t>(s)] / total * v_row[h];
        }
        lse[static_cast<size_t>(n * M + row)] = top + std::log(total);
      }
    }
  }
  store(call[4], o);
  if (call[5]) store(call[5], lse);
}

// P = exp(score - lse);  dV = P^T dO;  dP = dO V^T;  dS = P (dP - rowsum(dO O));  dQ = dS K;  dK = dS^T Q.
void attention_grad_reference(const Call& call) {
  const auto& spec = call.get<AttentionSpec>();
  const Sizes size(call[1], call[2], spec);
  const std::vector<double> d_o = load(call[0]), q = load(call[1]), k = load(call[2]), v = load(call[3]),
                            o = load(call[4]), lse = load(call[5]);
  const Mask mask(call[6], size, spec.window);
  const int64_t H = size.H, M = size.B * size.T;
  std::vector<double> dq(q.size(), 0.0), dk(k.size(), 0.0), dv(v.size(), 0.0);
  for (int64_t b = 0; b < size.B; ++b) {
    for (int64_t t = 0; t < size.T; ++t) {
      const Seen seen = mask(b, t);
      for (int64_t n = 0; n < size.N; ++n) {
        const int64_t g = n * size.K / size.N, row = b * size.T + t;
        const auto at = static_cast<size_t>((row * size.N + n) * H);
        const double mean = dot(&d_o[at], &o[at], H);
        for (int64_t s = seen.first; s <= seen.last; ++s) {
          const auto key = static_cast<size_t>(((b * size.S + s) * size.K + g) * H);
          const Score point = score(&q[at], &k[key], H, spec);
          const double p = std::exp(point.value - lse[static_cast<size_t>(n * M + row)]);
          const double d_score = p * (dot(&d_o[at], &v[key], H) - mean) * point.slope * spec.scale;
          for (size_t h = 0; h < static_cast<size_t>(H); ++h) {
            dv[key + h] += p * d_o[at + h];
            dq[at + h] += d_score * k[key + h];
            dk[key + h] += d_score * q[at + h];
          }
        }
      }
    }
  }
  store(call[7], dq);
  store(call[8], dk);
  store(call[9], dv);
}

void check_attention(std::string_view op, const Tensor& q, const Tensor& k, const Tensor& v,
                     const Tensor& starts, const Tensor& lse, const AttentionSpec& spec) {
  const int64_t B = spec.sequences;
  check(is_float(q) && q.type == k.type && q.type == v.type && is_matrix(q) && is_matrix(k) && is_matrix(v) &&
            k.shape == v.shape && q.shape[1] == spec.heads * spec.head_dim &&
            k.shape[1] == spec.kv_heads * spec.head_dim && spec.heads % spec.kv_heads == 0,
        op, "q [B T, N H], k and v [B S, K H] of one type, K divides N", {{"q", q}, {"k", k}, {"v", v}});
  check(B > 0 && q.shape[0] % B == 0 && k.shape[0] % B == 0 && k.shape[0] >= q.shape[0], op,
        "q [B T, N H], k [B S, K H], S >= T", {{"q", q}, {"k", k}});
  check(starts.type == DType::i32 && is_vector(starts, q.shape[0]), op, "q [B T, N H], starts i32[B T]",
        {{"q", q}, {"starts", starts}});
  if (lse) {
    check(is_exact(lse, q.type) && is_dense_matrix(lse) && lse.shape == Shape{spec.heads, q.shape[0]}, op,
          "q [B T, N H], lse f32[N, B T]", {{"q", q}, {"lse", lse}});
  }
}

void check_like(std::string_view op, const Tensor& q, std::string_view q_name, const Tensor& like,
                std::string_view name) {
  check(like.type == q.type && like.shape == q.shape && is_matrix(like), op, "one shape and type",
        {{q_name, q}, {name, like}});
}

}  // namespace

constinit const OpKind attention_kind{
    .name = "attention", .cost = attention_cost, .reference = attention_reference};
constinit const OpKind attention_grad_kind{
    .name = "attention_grad", .cost = attention_grad_cost, .reference = attention_grad_reference};

Call attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts, const Tensor& o,
               const Tensor& lse, AttentionSpec spec) {
  check_attention("attention", q, k, v, starts, lse, spec);
  check_like("attention", q, "q", o, "o");
  return {&attention_kind,
          {{q, Access::in},
           {k, Access::in},
           {v, Access::in},
           {starts, Access::in},
           {o, Access::out},
           {lse, Access::out}},
          spec,
          {},
          {}};
}

Call attention_grad(const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                    const Tensor& lse, const Tensor& starts, const Tensor& dq, const Tensor& dk,
                    const Tensor& dv, AttentionSpec spec) {
  check_attention("attention_grad", q, k, v, starts, lse, spec);
  check(static_cast<bool>(lse), "attention_grad", "lse is given", {{"lse", lse}});
  check_like("attention_grad", q, "q", d_o, "d_o");
  check_like("attention_grad", q, "q", o, "o");
  check_like("attention_grad", q, "q", dq, "dq");
  check((dk.type == k.type || is_exact(dk, k.type)) && dk.type == dv.type && dk.shape == k.shape &&
            dv.shape == v.shape && is_matrix(dk) && is_matrix(dv),
        "attention_grad", "one shape, dk and dv of k's type or f32", {{"k", k}, {"dk", dk}, {"dv", dv}});
  return {&attention_grad_kind,
          {{d_o, Access::in},
           {q, Access::in},
           {k, Access::in},
           {v, Access::in},
           {o, Access::in},
           {lse, Access::in},
           {starts, Access::in},
           {dq, Access::out},
           {dk, Access::out},
           {dv, Access::out}},
          spec,
          {},
          Phase::backward};
}

}  // namespace toroid::op
