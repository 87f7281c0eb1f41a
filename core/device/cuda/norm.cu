// RMSNorm, its gradient, and the additions to the residual stream that border on it. M tokens, D d_model. A
// team takes a row, or a block of tokens where weight gradients are summed.
#include "core/device/cuda/elements.h"
#include "core/device/cuda/rows.h"
#include "core/device/cuda/tree.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/norm.h"

namespace toroid::cuda {
namespace {

struct NormArgs {
  int64_t rows = 0;
  int D = 0;
  float eps = 0;
  bool w_bf16 = false, post_bf16 = false;
  const void *x = nullptr, *f = nullptr, *w = nullptr, *w_post = nullptr;
  void *mid = nullptr, *y = nullptr;
  float *rstd = nullptr, *rstd_post = nullptr;
};

struct NormGradArgs {
  int64_t rows = 0;
  int D = 0, token_block = 0;
  bool w_bf16 = false;
  const void *dy = nullptr, *x = nullptr, *w = nullptr, *skip = nullptr;
  const float* rstd = nullptr;
  void *dx = nullptr, *y = nullptr;
  float* dw_blocks = nullptr;  // [blocks, D]
};

template <class T, int kWidth, int kSlots>
struct Rows {
  using Vectors = Kept<Floats<kWidth>, kSlots>;
  using Raws = Kept<Raw<T, kWidth>, kSlots>;
};

// x [+ f or + norm(f) -> mid] [-> norm -> y]
enum class Form { norm, add_norm, add_post_norm, add_post };

template <class T, int kSlots, int kWidth, Form kForm>
struct Norm {
  static constexpr bool kAdds = kForm != Form::norm, kPost = kForm >= Form::add_post_norm,
                        kNorms = kForm != Form::add_post;

  template <class Team>
  TOROID_DEVICE static float inverse_rms(Team& team, const NormArgs& a, const Own<Team, float>& squares) {
    return inverse(root(sum(team, squares) / static_cast<float>(a.D) + a.eps));
  }

  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const NormArgs& a) const {
    using Vectors = typename Rows<T, kWidth, kSlots>::Vectors;
    Own<Team, Vectors> gain;
    if constexpr (kSlots > 0 && kNorms) {
      walk<kSlots, kWidth>(
          team, a.D, [&](const auto& at) { gain[at].of[at.slot] = load_gain<kWidth>(a.w, a.w_bf16, at.i); });
    }
    for (int64_t m = team.index(); m < a.rows; m += team.count()) {
      const int64_t row = m * a.D;
      const T *const x = at_row<const T>(a.x, row), *const f = at_row<const T>(a.f, row);
      T *const mid = at_row<T>(a.mid, row), *const y = at_row<T>(a.y, row);
      Own<Team, Vectors> kept;
      [[maybe_unused]] float post = 0;
      if constexpr (kPost) {
        Own<Team, float> squares;
        walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
          const auto v = load<kWidth>(f + at.i);
          TOROID_UNROLL
          for (const float e : v.v) squares[at] = fma(e, e, squares[at]);
          kept[at].of[at.slot] = v;
        });
        post = inverse_rms(team, a, squares);
        once(team, [&](const auto&) {
          if (a.rstd_post != nullptr) a.rstd_post[m] = post;
        });
      }
      Own<Team, float> squares;
      walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
        Floats<kWidth> v = load<kWidth>(x + at.i);
        if constexpr (kAdds) {
          Floats<kWidth> add;
          if constexpr (kPost) {
            const auto g = load_gain<kWidth>(a.w_post, a.post_bf16, at.i);
            add = kept[at].of[at.slot];
            if constexpr (kSlots == 0) add = load<kWidth>(f + at.i);
            // The post-norm's result is rounded before it is added.
            add = widen<T, kWidth>(
                narrow<T, kWidth>(make<kWidth>([&](int j) { return add.v[j] * post * g.v[j]; })));
          } else {
            add = load<kWidth>(f + at.i);
          }
          const auto rounded = narrow<T, kWidth>(make<kWidth>([&](int j) { return v.v[j] + add.v[j]; }));
          store_raw<kWidth>(mid + at.i, rounded);
          v = widen<T, kWidth>(rounded);
        }
        TOROID_UNROLL
        for (const float e : v.v) squares[at] = fma(e, e, squares[at]);
        kept[at].of[at.slot] = v;
      });
      if constexpr (kNorms) {
        const float rstd = inverse_rms(team, a, squares);
        once(team, [&](const auto&) {
          if (a.rstd != nullptr) a.rstd[m] = rstd;
        });
        walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
          Floats<kWidth> v = kept[at].of[at.slot], g = gain[at].of[at.slot];
          if constexpr (kSlots == 0) {
            v = load<kWidth>((kAdds ? mid : x) + at.i);
            g = load_gain<kWidth>(a.w, a.w_bf16, at.i);
          }
          store<kWidth>(y + at.i, make<kWidth>([&](int j) { return v.v[j] * rstd * g.v[j]; }));
        });
      }
    }
  }
};

// With g = dy (1 + w):  dx = rstd g - x rstd^3 mean(g x);  dw = sum over tokens of dy x rstd.
template <class T, int kSlots, int kWidth>
struct NormGrad {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const NormGradArgs& a) const {
    using Vectors = typename Rows<T, kWidth, kSlots>::Vectors;
    using Raws = typename Rows<T, kWidth, kSlots>::Raws;
    float* const dw_block = a.dw_blocks + team.index() * a.D;
    Own<Team, Vectors> gain, dw;
    walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
      if constexpr (kSlots == 0) {
        store<kWidth>(dw_block + at.i, make<kWidth>([](int) { return 0.0f; }));
      } else {
        gain[at].of[at.slot] = load_gain<kWidth>(a.w, a.w_bf16, at.i);
      }
    });
    Own<Team, Raws> dy_next, x_next;
    const auto fetch = [&](int64_t m) {
      if constexpr (kSlots > 0) {
        walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
          dy_next[at].of[at.slot] = load_raw<kWidth>(static_cast<const T*>(a.dy) + m * a.D + at.i);
          x_next[at].of[at.slot] = load_raw<kWidth>(static_cast<const T*>(a.x) + m * a.D + at.i);
        });
      }
    };
    const int64_t first = team.index() * a.token_block;
    const int64_t last = first + a.token_block < a.rows ? first + a.token_block : a.rows;
    fetch(first);
    for (int64_t m = first; m < last; ++m) {
      Own<Team, Raws> dy_kept = dy_next, x_kept = x_next;
      if (m + 1 < last) fetch(m + 1);  // under way while this row meets
      const float rstd = a.rstd[m];
      struct Row {
        Floats<kWidth> dy, x, gain;
      };
      const auto row_at = [&](const auto& at) {
        if constexpr (kSlots == 0) {
          return Row{load<kWidth>(static_cast<const T*>(a.dy) + m * a.D + at.i),
                     load<kWidth>(static_cast<const T*>(a.x) + m * a.D + at.i),
                     load_gain<kWidth>(a.w, a.w_bf16, at.i)};
        } else {
          return Row{widen<T, kWidth>(dy_kept[at].of[at.slot]), widen<T, kWidth>(x_kept[at].of[at.slot]),
                     gain[at].of[at.slot]};
        }
      };
      Own<Team, float> dots;
      walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
        const Row row = row_at(at);
        TOROID_UNROLL
        for (int j = 0; j < kWidth; ++j) dots[at] = fma(row.dy.v[j] * row.gain.v[j], row.x.v[j], dots[at]);
      });
      const float along = rstd * rstd * (sum(team, dots) / static_cast<float>(a.D));
      walk<kSlots, kWidth>(team, a.D, [&](const auto& at) {
        const Row row = row_at(at);
        const int64_t place = m * a.D + at.i;
        Floats<kWidth> dx, y, dw_old = dw[at].of[at.slot];
        if constexpr (kSlots == 0) dw_old = load<kWidth>(dw_block + at.i);
        TOROID_UNROLL
        for (int j = 0; j < kWidth; ++j) {
          const float xr = row.x.v[j] * rstd, w = row.gain.v[j];
          dx.v[j] = fma(-xr, along, row.dy.v[j] * w * rstd);
          dw_old.v[j] = fma(row.dy.v[j], xr, dw_old.v[j]);
          y.v[j] = xr * w;
        }
        if (a.skip != nullptr) {
          const auto skip = load<kWidth>(static_cast<const T*>(a.skip) + place);
          TOROID_UNROLL
          for (int j = 0; j < kWidth; ++j) dx.v[j] = dx.v[j] + skip.v[j];
        }
        if constexpr (kSlots == 0) {
          store<kWidth>(dw_block + at.i, dw_old);
        } else {
          dw[at].of[at.slot] = dw_old;
        }
        store<kWidth>(static_cast<T*>(a.dx) + place, dx);
        if (a.y != nullptr) store<kWidth>(static_cast<T*>(a.y) + place, y);
      });
    }
    if constexpr (kSlots > 0) {
      walk<kSlots, kWidth>(team, a.D,
                           [&](const auto& at) { store<kWidth>(dw_block + at.i, dw[at].of[at.slot]); });
    }
  }
};

// f(threads of a team, vectors that each of them keeps, elements of a vector), as constants. More than four
// vectors a thread would not fit into its registers.
template <class T, class F>
void with_rows(int64_t D, bool wide, const F& f) {
  const std::integral_constant<int, 128> narrow_team;
  const std::integral_constant<int, 256> wide_team;
  const std::integral_constant<int, kVector<T>> vector;
  const int64_t vectors = D / kVector<T>;
  if (!wide || D % kVector<T> != 0 || vectors > 4 * 256) {
    return f(wide_team, std::integral_constant<int, 0>(), std::integral_constant<int, 1>());
  }
  if (vectors <= 256) return f(narrow_team, std::integral_constant<int, 2>(), vector);
  if (vectors <= 512) return f(narrow_team, std::integral_constant<int, 4>(), vector);
  f(wide_team, std::integral_constant<int, 4>(), vector);
}

bool is_bf16(const Tensor& t) {
  return t && t.type == DType::bf16;
}

// Enough teams for every GPU; the rest of the rows follow in turn, with the gain in registers.
constexpr int64_t kMostTeams = 1 << 14;

template <Form kForm>
void run(const Call& call, const LaunchContext& context, NormArgs a) {
  const Tensor& x = call[0];
  require(x.columns() < int64_t{1} << 31, "a row of a norm has fewer than 2^31 elements");
  a.rows = x.rows();
  a.D = static_cast<int>(x.columns());
  a.eps = static_cast<float>(call.get<op::NormSpec>().eps);
  a.x = x.data();
  if (a.D == 0) return;
  const bool wide = aligned({a.x, a.f, a.w, a.w_post, a.mid, a.y});
  with_type(call, x.type, [&]<class T>(Type<T>) {
    with_rows<T>(a.D, wide, [&](auto threads, auto slots, auto width) {
      launch<Norm<T, slots(), width(), kForm>, threads()>(stream_of(context), std::min(a.rows, kMostTeams),
                                                          a);
    });
  });
}

NormArgs weights(const Tensor& w, const Tensor& w_post) {
  NormArgs a;
  a.w = pointer<const void>(w);
  a.w_bf16 = is_bf16(w);
  a.w_post = pointer<const void>(w_post);
  a.post_bf16 = is_bf16(w_post);
  return a;
}

void rms_norm(const Call& call, const LaunchContext& context) {
  NormArgs a = weights(call[1], {});
  a.y = call[2].data();
  a.rstd = pointer<float>(call[3]);
  run<Form::norm>(call, context, a);
}

// out = x + f
template <class T>
struct Residual {
  struct Args {
    const T *x, *f;
    T* out;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto x = load<kWidth>(a.x + i), f = load<kWidth>(a.f + i);
    store<kWidth>(a.out + i, make<kWidth>([&](int j) { return x.v[j] + f.v[j]; }));
  }
};

void residual_add(const Call& call, const LaunchContext& context) {
  const Tensor &x = call[0], &f = call[1], &out = call[3];
  if (!call[2]) {
    return with_type(call, x.type, [&]<class T>(Type<T>) {
      launch_flat<Residual<T>>(stream_of(context), {x.as<T>(), f.as<T>(), out.as<T>()}, x.elements(),
                               aligned({x.data(), f.data(), out.data()}));
    });
  }
  NormArgs a = weights({}, call[2]);
  a.f = call[1].data();
  a.mid = call[3].data();
  a.rstd_post = pointer<float>(call[4]);
  run<Form::add_post>(call, context, a);
}

void residual_norm(const Call& call, const LaunchContext& context) {
  NormArgs a = weights(call[3], call[2]);
  a.f = call[1].data();
  a.mid = call[4].data();
  a.y = call[5].data();
  a.rstd = pointer<float>(call[6]);
  a.rstd_post = pointer<float>(call[7]);
  call[2] ? run<Form::add_post_norm>(call, context, a) : run<Form::add_norm>(call, context, a);
}

int64_t token_blocks(const Call& call) {
  return (call[0].rows() + call.tiles.token_block - 1) / call.tiles.token_block;
}

int64_t rms_norm_grad_workspace(const Call& call, const LaunchContext&) {
  return token_blocks(call) * call[2].elements() * bytes_of(DType::f32);
}

void rms_norm_grad(const Call& call, const LaunchContext& context) {
  const Tensor &dy = call[0], &w = call[2];
  require(dy.columns() < int64_t{1} << 31, "a row of a norm has fewer than 2^31 elements");
  NormGradArgs a;
  a.rows = dy.rows();
  a.D = static_cast<int>(dy.columns());
  a.token_block = static_cast<int>(call.tiles.token_block);
  a.w_bf16 = is_bf16(w);
  a.dy = dy.data();
  a.x = call[1].data();
  a.w = w.data();
  a.rstd = call[3].as<const float>();
  a.skip = pointer<const void>(call[4]);
  a.dx = call[5].data();
  a.y = pointer<void>(call[7]);
  a.dw_blocks = reinterpret_cast<float*>(context.workspace);
  if (a.D == 0) return;
  const bool wide = aligned({a.dy, a.x, a.w, a.skip, a.dx, a.y});
  const int64_t blocks = token_blocks(call);
  with_type(call, dy.type, [&]<class T>(Type<T>) {
    with_rows<T>(a.D, wide, [&](auto threads, auto slots, auto width) {
      launch<NormGrad<T, slots(), width()>, threads()>(stream_of(context), blocks, a);
    });
  });
  add_tree(stream_of(context), a.dw_blocks, blocks, a.D, a.D, call[6].as<float>());
}

}  // namespace

void add_norm_kernels(KernelRegistry& registry) {
  registry.add(op::rms_norm_kind, {rms_norm});
  registry.add(op::rms_norm_grad_kind, {rms_norm_grad, rms_norm_grad_workspace});
  registry.add(op::residual_add_kind, {residual_add});
  registry.add(op::residual_norm_kind, {residual_norm});
}

}  // namespace toroid::cuda
