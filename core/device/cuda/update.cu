// The verdict on a step and the update rules: master, moments and gradient stream through once. What the step
// decides (apply, clip, rate, count of updates) is read from device memory by every team, so that nothing
// waits for the host.
#include "core/device/cuda/elements.h"
#include "core/device/cuda/random.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/momentum.h"
#include "core/op/outer.h"
#include "core/op/update.h"

namespace toroid::cuda {
namespace {

using op::Control;
using op::State;

constexpr int kWideFloats = kVector<float>;

// T: of the copy for products, or Nothing where none is asked for. M: of the moments.
template <class T, class M>
struct Adamw {
  static constexpr bool kRounds = std::is_same_v<M, Bf16>;
  static constexpr bool kCopies = !std::is_same_v<T, Nothing>;
  struct Args {
    const float *gradient, *state, *control;
    float* w;
    M *m, *v;
    double beta1, beta2, rate_scale, weight_decay;
    float epsilon;
    T* copy;
    op::Rounding rounding;
  };
  struct Begun {
    bool apply;
    float clip, beta1, beta2, rest1, rest2;  // rest: 1 - beta, subtracted in double
    float decay, step, inverse2;             // rate * decay, rate / (1 - beta1^t), 1 / (1 - beta2^t)
    uint64_t updates;
  };
  static constexpr int kWide = std::is_same_v<T, Bf16> ? kVector<Bf16> : kWideFloats;
  TOROID_DEVICE static Begun begin(const Args& a) {
    const double rate = a.rate_scale * static_cast<double>(a.control[Control::rate]);
    const auto t = static_cast<int64_t>(a.state[State::update_count]);
    return {a.control[Control::apply] != 0,
            a.control[Control::clip],
            static_cast<float>(a.beta1),
            static_cast<float>(a.beta2),
            static_cast<float>(1.0 - a.beta1),
            static_cast<float>(1.0 - a.beta2),
            static_cast<float>(rate * a.weight_decay),
            static_cast<float>(rate / (1.0 - power(a.beta1, t))),
            static_cast<float>(1.0 / (1.0 - power(a.beta2, t))),
            static_cast<uint64_t>(t)};
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, const Begun& s, int64_t, int64_t i) {
    if (!s.apply) {
      if constexpr (kCopies) store<kWidth>(a.copy + i, load<kWidth>(a.w + i));
      return;
    }
    const auto gradient = load<kWidth>(a.gradient + i);
    auto w = load<kWidth>(a.w + i), m = load<kWidth>(a.m + i), v = load<kWidth>(a.v + i);
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const float g = s.clip * gradient.v[j];
      m.v[j] = fma(s.beta1, m.v[j], s.rest1 * g);
      v.v[j] = fma(s.beta2, v.v[j], s.rest2 * (g * g));
      const float size = root(v.v[j] * s.inverse2) + a.epsilon;
      // The change is formed first, so that the weight itself is rounded once.
      w.v[j] = w.v[j] - fma(s.decay, w.v[j], (s.step * m.v[j]) / size);
    }
    if constexpr (kRounds) {
      const auto words = rounding_words<kWidth>(a.rounding, s.updates, i);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        m.v[j] = rounded_by(m.v[j], words.w[j] & 0xffffu);
        v.v[j] = rounded_by(v.v[j], words.w[j] >> 16);
      }
    }
    store<kWidth>(a.m + i, m);
    store<kWidth>(a.v + i, v);
    store<kWidth>(a.w + i, w);
    if constexpr (kCopies) store<kWidth>(a.copy + i, w);
  }
};

// M: of the average.
template <class M>
struct Ema {
  struct Args {
    const float *master, *control, *state;  // state: of a rounded average
    M* average;
    float decay, rest;
    op::Rounding rounding;
  };
  struct Begun {
    bool apply;
    uint64_t updates;
  };
  static constexpr int kWide = kWideFloats;
  TOROID_DEVICE static Begun begin(const Args& a) {
    return {a.control[Control::apply] != 0,
            std::is_same_v<M, Bf16> ? static_cast<uint64_t>(a.state[State::update_count]) : 0};
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, const Begun& s, int64_t, int64_t i) {
    if (!s.apply) return;
    const auto master = load<kWidth>(a.master + i), average = load<kWidth>(a.average + i);
    auto mixed = make<kWidth>([&](int j) { return fma(a.decay, average.v[j], a.rest * master.v[j]); });
    if constexpr (std::is_same_v<M, Bf16>) {
      const auto words = rounding_words<kWidth>(a.rounding, s.updates, i);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) mixed.v[j] = rounded_by(mixed.v[j], words.w[j] & 0xffffu);
    }
    store<kWidth>(a.average + i, mixed);
  }
};

struct Momentum {
  struct Args {
    const float *gradient, *control;
    float *buffer, *out;
    double take;
    float decay;
    bool nesterov;
  };
  struct Begun {
    bool apply;
    float take;  // of the unclipped gradient
  };
  static constexpr int kWide = kWideFloats;
  TOROID_DEVICE static Begun begin(const Args& a) {
    return {a.control[Control::apply] != 0,
            static_cast<float>(a.take * static_cast<double>(a.control[Control::clip]))};
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, const Begun& s, int64_t, int64_t i) {
    if (!s.apply) return store<kWidth>(a.out + i, make<kWidth>([](int) { return 0.0f; }));
    const auto gradient = load<kWidth>(a.gradient + i);
    auto b = load<kWidth>(a.buffer + i);
    Floats<kWidth> out;
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const float g = s.take * gradient.v[j];
      b.v[j] = fma(a.decay, b.v[j], g);
      out.v[j] = a.nesterov ? fma(a.decay, b.v[j], g) : b.v[j];
    }
    store<kWidth>(a.buffer + i, b);
    store<kWidth>(a.out + i, out);
  }
};

template <class T>
struct Descend {
  struct Args {
    const T* direction;
    const float* control;
    float* w;
    double scale, weight_decay;
  };
  struct Begun {
    bool apply;
    float decay, step;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Begun begin(const Args& a) {
    const auto rate = static_cast<double>(a.control[Control::rate]);
    return {a.control[Control::apply] != 0, static_cast<float>(rate * a.weight_decay),
            static_cast<float>(rate * a.scale)};
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, const Begun& s, int64_t, int64_t i) {
    if (!s.apply) return;
    const auto d = load<kWidth>(a.direction + i), w = load<kWidth>(a.w + i);
    store<kWidth>(a.w + i,
                  make<kWidth>([&](int j) { return w.v[j] - fma(s.decay, w.v[j], s.step * d.v[j]); }));
  }
};

struct Lion {
  struct Args {
    const float *gradient, *control;
    float *w, *m;
    float beta1, beta2, rest1, rest2;
    double weight_decay;
  };
  struct Begun {
    bool apply;
    float clip, rate, decay;
  };
  static constexpr int kWide = kWideFloats;
  TOROID_DEVICE static Begun begin(const Args& a) {
    const float rate = a.control[Control::rate];
    return {a.control[Control::apply] != 0, a.control[Control::clip], rate,
            static_cast<float>(static_cast<double>(rate) * a.weight_decay)};
  }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, const Begun& s, int64_t, int64_t i) {
    if (!s.apply) return;
    const auto gradient = load<kWidth>(a.gradient + i);
    auto w = load<kWidth>(a.w + i), m = load<kWidth>(a.m + i);
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const float g = s.clip * gradient.v[j], direction = fma(a.beta1, m.v[j], a.rest1 * g);
      // Nothing where it is zero, and what is no number stays none.
      const float sign = magnitude(direction) > 0 ? with_sign_of(1.0f, direction) : direction;
      m.v[j] = fma(a.beta2, m.v[j], a.rest2 * g);
      w.v[j] = w.v[j] - fma(s.decay, w.v[j], s.rate * sign);
    }
    store<kWidth>(a.m + i, m);
    store<kWidth>(a.w + i, w);
  }
};

struct OuterGradient {
  struct Args {
    const float *shared, *master;
    float* gradient;
  };
  static constexpr int kWide = kWideFloats;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto shared = load<kWidth>(a.shared + i), master = load<kWidth>(a.master + i);
    store<kWidth>(a.gradient + i, make<kWidth>([&](int j) { return shared.v[j] - master.v[j]; }));
  }
};

struct Nesterov {
  struct Args {
    const float* gradient;
    float *shared, *momentum, *master;
    float learning_rate, decay, share;  // share: one over the pods
  };
  static constexpr int kWide = kWideFloats;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto gradient = load<kWidth>(a.gradient + i);
    auto shared = load<kWidth>(a.shared + i), momentum = load<kWidth>(a.momentum + i);
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const float g = gradient.v[j] * a.share;
      momentum.v[j] = fma(a.decay, momentum.v[j], g);
      shared.v[j] = fma(-a.learning_rate, fma(a.decay, momentum.v[j], g), shared.v[j]);
    }
    store<kWidth>(a.momentum + i, momentum);
    store<kWidth>(a.shared + i, shared);
    store<kWidth>(a.master + i, shared);
  }
};

struct DecideArgs {
  const float *partials, *loss_sum, *target_count, *rate, *go, *own;
  float *state, *control;
  int count;
  op::DecideSpec spec;
};

// As core/op/update.cpp has it, in double: one team, whose first thread decides when the squares have met.
struct Decide {
  enum Verdict { applied, loss_not_finite, norm_not_finite, loss_outlier, norm_outlier, no_valid_target };

  TOROID_DEVICE static bool is_outlier(double x, double mean, double square, double z) {
    const double spread = square - mean * mean, least = 1e-6 * mean * mean;
    return x - mean > z * root(spread < least ? least : spread);
  }

  TOROID_DEVICE static int verdict(const DecideArgs& a, double loss, double norm, double count) {
    if (!(count > 0)) return no_valid_target;
    if (!is_finite(loss)) return loss_not_finite;
    if (!is_finite(norm)) return norm_not_finite;
    const double z = a.spec.z_threshold;
    if (z > 0 && static_cast<double>(a.state[State::seen]) >= static_cast<double>(a.spec.z_warmup)) {
      if (is_outlier(loss, static_cast<double>(a.state[State::loss_mean]),
                     static_cast<double>(a.state[State::loss_square]), z)) {
        return loss_outlier;
      }
      if (is_outlier(norm, static_cast<double>(a.state[State::norm_mean]),
                     static_cast<double>(a.state[State::norm_square]), z)) {
        return norm_outlier;
      }
    }
    return applied;
  }

  TOROID_DEVICE static void decide(const DecideArgs& a, double squares) {
    if (a.own != nullptr) squares = squares / static_cast<double>(a.count);
    const double norm = root(squares), count = static_cast<double>(*a.target_count);
    const double clipped = a.own != nullptr ? root(static_cast<double>(*a.own)) : norm;
    const double loss = count > 0 ? static_cast<double>(*a.loss_sum) / count : 0.0;
    const int found = *a.go != 0 ? verdict(a, loss, norm, count) : op::kWithdrawn;
    float factor = 0;
    if (found == applied) {
      a.state[State::update_count] = a.state[State::update_count] + 1;
      a.state[State::skipped_in_a_row] = 0;
      // A plain mean until the decay's own horizon is reached, so that early values are not drawn to zero.
      const double plain = 1.0 / (static_cast<double>(a.state[State::seen]) + 1.0),
                   rest = 1.0 - a.spec.z_decay;
      const double weight = rest < plain ? plain : rest;
      const auto follow = [&](int64_t index, double value) {
        const auto mean = static_cast<double>(a.state[index]);
        a.state[index] = static_cast<float>(mean + weight * (value - mean));
      };
      follow(State::loss_mean, loss);
      follow(State::loss_square, loss * loss);
      follow(State::norm_mean, norm);
      follow(State::norm_square, norm * norm);
      a.state[State::seen] = a.state[State::seen] + 1;
      const double most = a.spec.clip_norm > 0 ? a.spec.clip_norm / (clipped + 1e-6) : 1.0;
      factor = most < 1.0 ? static_cast<float>(most) : 1.0f;
    } else if (found != op::kWithdrawn) {
      a.state[State::skipped_total] = a.state[State::skipped_total] + 1;
      a.state[State::skipped_in_a_row] = a.state[State::skipped_in_a_row] + 1;
    }
    a.control[Control::apply] = found == applied ? 1.0f : 0.0f;
    a.control[Control::clip] = factor;
    a.control[Control::rate] = *a.rate;
    a.control[Control::gradient_norm] = static_cast<float>(norm);
    a.control[Control::mean_loss] = static_cast<float>(loss);
    a.control[Control::targets] = static_cast<float>(count);
    a.control[Control::reason] = static_cast<float>(found);
  }

  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const DecideArgs& a) const {
    Own<Team, double> own;
    sweep<1>(team, a.count,
             [&](const auto& at) { own[at] = own[at] + static_cast<double>(a.partials[at.i]); });
    const double squares = sum(team, own);
    once(team, [&](const auto&) { decide(a, squares); });
  }
};

template <class Rule>
void run(const Tensor& like, const LaunchContext& context, const typename Rule::Args& args,
         std::initializer_list<const Tensor*> operands) {
  bool wide = true;
  for (const Tensor* operand : operands) wide = wide && aligned({operand->data()});
  launch_flat<Rule>(stream_of(context), args, like.elements(), wide);
}

void decide(const Call& call, const LaunchContext& context) {
  const auto input = [&](size_t i) { return call[i].as<const float>(); };
  const DecideArgs args{.partials = input(0),
                        .loss_sum = input(1),
                        .target_count = input(2),
                        .rate = input(3),
                        .go = input(4),
                        .own = call.operands.size() > 7 ? input(7) : nullptr,
                        .state = call[5].as<float>(),
                        .control = call[6].as<float>(),
                        .count = static_cast<int>(call[0].elements()),
                        .spec = call.get<op::DecideSpec>()};
  launch<Decide, 256>(stream_of(context), 1, args);
}

template <class T, class M>
void adamw_as(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::AdamWSpec>();
  const bool copies = call.operands.size() > 6;
  run<Adamw<T, M>>(
      call[0], context,
      {call[0].as<float>(), call[1].as<float>(), call[2].as<float>(), call[3].as<float>(), call[4].as<M>(),
       call[5].as<M>(), spec.beta1, spec.beta2, spec.rate_scale, spec.weight_decay,
       static_cast<float>(spec.epsilon), copies ? call[6].as<T>() : nullptr, spec.rounding},
      {&call[0], &call[3], &call[4], &call[5], copies ? &call[6] : &call[0]});
}

void adamw(const Call& call, const LaunchContext& context) {
  with_type(call, call[4].type, [&]<class M>(Type<M>) {
    if (call.operands.size() <= 6) return adamw_as<Nothing, M>(call, context);
    with_type(call, call[6].type, [&]<class T>(Type<T>) { adamw_as<T, M>(call, context); });
  });
}

void ema(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::EmaSpec>();
  with_type(call, call[2].type, [&]<class M>(Type<M>) {
    run<Ema<M>>(
        call[0], context,
        {call[0].as<float>(), call[1].as<float>(), call.operands.size() > 3 ? call[3].as<float>() : nullptr,
         call[2].as<M>(), static_cast<float>(spec.decay), static_cast<float>(1 - spec.decay), spec.rounding},
        {&call[0], &call[2]});
  });
}

void momentum(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::MomentumSpec>();
  run<Momentum>(call[0], context,
                {call[0].as<float>(), call[1].as<float>(), call[2].as<float>(), call[3].as<float>(),
                 spec.take, static_cast<float>(spec.decay), spec.nesterov},
                {&call[0], &call[2], &call[3]});
}

void descend(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::DescendSpec>();
  with_type(call, call[0].type, [&]<class T>(Type<T>) {
    run<Descend<T>>(
        call[0], context,
        {call[0].as<T>(), call[1].as<float>(), call[2].as<float>(), spec.scale, spec.weight_decay},
        {&call[0], &call[2]});
  });
}

void lion(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::LionSpec>();
  run<Lion>(call[0], context,
            {call[0].as<float>(), call[1].as<float>(), call[2].as<float>(), call[3].as<float>(),
             static_cast<float>(spec.beta1), static_cast<float>(spec.beta2),
             static_cast<float>(1 - spec.beta1), static_cast<float>(1 - spec.beta2), spec.weight_decay},
            {&call[0], &call[2], &call[3]});
}

void outer_gradient(const Call& call, const LaunchContext& context) {
  run<OuterGradient>(call[0], context, {call[0].as<float>(), call[1].as<float>(), call[2].as<float>()},
                     {&call[0], &call[1], &call[2]});
}

void nesterov(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::NesterovSpec>();
  run<Nesterov>(call[0], context,
                {call[0].as<float>(), call[1].as<float>(), call[2].as<float>(), call[3].as<float>(),
                 static_cast<float>(spec.learning_rate), static_cast<float>(spec.momentum),
                 static_cast<float>(1.0 / static_cast<double>(spec.pods))},
                {&call[0], &call[1], &call[2], &call[3]});
}

}  // namespace

void add_update_kernels(KernelRegistry& registry) {
  registry.add(op::decide_kind, {decide});
  registry.add(op::adamw_kind, {adamw});
  registry.add(op::ema_kind, {ema});
  registry.add(op::momentum_kind, {momentum});
  registry.add(op::descend_kind, {descend});
  registry.add(op::lion_kind, {lion});
  registry.add(op::outer_gradient_kind, {outer_gradient});
  registry.add(op::nesterov_kind, {nesterov});
}

}  // namespace toroid::cuda
