#include "core/op/update.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

// Values of control[reason].
enum Verdict : int {
  applied,
  loss_not_finite,
  norm_not_finite,
  loss_outlier,
  norm_outlier,
  no_valid_target,
  withdrawn = kWithdrawn
};

// Whether x lies more than z standard deviations above its running mean. The deviation is at least a
// thousandth of the mean: below that it is the rounding of the fp32 state.
bool is_outlier(double x, double mean, double square, double z) {
  const double variance = std::max(square - mean * mean, 1e-6 * mean * mean);
  return x - mean > z * std::sqrt(variance);
}

Verdict verdict(double mean_loss_now, double norm, double count, const std::vector<double>& state,
                const DecideSpec& spec) {
  if (!(count > 0)) return no_valid_target;
  if (!std::isfinite(mean_loss_now)) return loss_not_finite;
  if (!std::isfinite(norm)) return norm_not_finite;
  if (spec.z_threshold > 0 && state[State::seen] >= static_cast<double>(spec.z_warmup)) {
    if (is_outlier(mean_loss_now, state[State::loss_mean], state[State::loss_square], spec.z_threshold)) {
      return loss_outlier;
    }
    if (is_outlier(norm, state[State::norm_mean], state[State::norm_square], spec.z_threshold)) {
      return norm_outlier;
    }
  }
  return applied;
}

Cost decide_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = call[0].elements();
  return cost;
}

void decide_reference(const Call& call) {
  const auto& spec = call.get<DecideSpec>();
  double squares = 0;
  for (const double partial : load(call[0])) squares += partial;
  const bool apart = call.operands.size() > 7;
  if (apart) squares /= static_cast<double>(call[0].elements());
  const double norm = std::sqrt(squares), count = load(call[2])[0];
  const double clipped_norm = apart ? std::sqrt(load(call[7])[0]) : norm;
  const double loss_now = count > 0 ? load(call[1])[0] / count : 0;
  std::vector<double> state = load(call[5]), control(kControlSize, 0.0);
  const bool go = load(call[4])[0] != 0;
  const Verdict found = go ? verdict(loss_now, norm, count, state, spec) : withdrawn;
  if (found == applied) {
    state[State::update_count] += 1;
    state[State::skipped_in_a_row] = 0;
    // A plain mean until the decay's own horizon is reached, so that early values are not drawn to zero.
    const double weight = std::max(1 - spec.z_decay, 1 / (state[State::seen] + 1));
    const auto follow = [&](State index, double value) { state[index] += weight * (value - state[index]); };
    follow(State::loss_mean, loss_now);
    follow(State::loss_square, loss_now * loss_now);
    follow(State::norm_mean, norm);
    follow(State::norm_square, norm * norm);
    state[State::seen] += 1;
    control[Control::apply] = 1;
    control[Control::clip] = spec.clip_norm > 0 ? std::min(1.0, spec.clip_norm / (clipped_norm + 1e-6)) : 1;
  } else if (found != withdrawn) {
    state[State::skipped_total] += 1;
    state[State::skipped_in_a_row] += 1;
  }
  control[Control::rate] = load(call[3])[0];
  control[Control::gradient_norm] = norm;
  control[Control::mean_loss] = loss_now;
  control[Control::targets] = count;
  control[Control::reason] = found;
  store(call[5], state);
  store(call[6], control);
}

constexpr int64_t kRoundingFlops = 24;  // Philox's ten rounds, of which four elements share one

Cost adamw_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = (call[4].type == DType::bf16 ? 16 + kRoundingFlops : 16) * call[0].elements();
  return cost;
}

// Of f32, or of bf16 and rounded by these halves of the words.
void store_state(const Tensor& t, std::span<const double> values, const Rounding& rounding, double updates,
                 RandomHalf half) {
  if (t.type != DType::bf16) return store(t, values);
  auto* const out = t.as<uint16_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t word =
        rounding_word(rounding.key, static_cast<uint64_t>(updates), rounding.index(static_cast<int64_t>(i)));
    out[i] =
        round_stochastically(static_cast<float>(values[i]), (word >> static_cast<unsigned>(half)) & 0xffffu);
  }
}

void adamw_reference(const Call& call) {
  const auto& spec = call.get<AdamWSpec>();
  const std::vector<double> gradient = load(call[0]), state = load(call[1]), control = load(call[2]);
  if (control[Control::apply] == 0) {
    if (call.operands.size() > 6) store(call[6], load(call[3]));
    return;
  }
  std::vector<double> w = load(call[3]), m = load(call[4]), v = load(call[5]);
  const double t = state[State::update_count], r = spec.rate_scale * control[Control::rate];
  const double correct1 = 1 - std::pow(spec.beta1, t), correct2 = 1 - std::pow(spec.beta2, t);
  for (size_t i = 0; i < w.size(); ++i) {
    const double g = control[Control::clip] * gradient[i];
    m[i] = spec.beta1 * m[i] + (1 - spec.beta1) * g;
    v[i] = spec.beta2 * v[i] + (1 - spec.beta2) * g * g;
    w[i] -=
        r * spec.weight_decay * w[i] + r * (m[i] / correct1) / (std::sqrt(v[i] / correct2) + spec.epsilon);
  }
  store(call[3], w);
  store_state(call[4], m, spec.rounding, t, RandomHalf::lower);
  store_state(call[5], v, spec.rounding, t, RandomHalf::upper);
  if (call.operands.size() > 6) store(call[6], load(call[3]));  // of the master as it is stored
}

Cost ema_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = (call[2].type == DType::bf16 ? 3 + kRoundingFlops : 3) * call[0].elements();
  return cost;
}

void ema_reference(const Call& call) {
  const auto& spec = call.get<EmaSpec>();
  const double decay = spec.decay;
  if (load(call[1])[Control::apply] == 0) return;
  const std::vector<double> master = load(call[0]);
  std::vector<double> average = load(call[2]);
  for (size_t i = 0; i < master.size(); ++i) average[i] = decay * average[i] + (1 - decay) * master[i];
  const double updates = call.operands.size() > 3 ? load(call[3])[State::update_count] : 0;
  store_state(call[2], average, spec.rounding, updates, RandomHalf::lower);
}

void check_state(std::string_view op, const Tensor& t, std::string_view name, int64_t elements) {
  check((t.type == DType::f32 || t.type == DType::bf16) && is_vector(t, elements) && t.dense(), op,
        "f32 or bf16[" + std::to_string(elements) + "]", {{name, t}});
}

}  // namespace

constinit const OpKind decide_kind{.name = "decide", .cost = decide_cost, .reference = decide_reference};
constinit const OpKind adamw_kind{.name = "adamw", .cost = adamw_cost, .reference = adamw_reference};
constinit const OpKind ema_kind{.name = "ema", .cost = ema_cost, .reference = ema_reference};

Call decide(const Tensor& partials, const Tensor& loss_sum, const Tensor& target_count,
            const Tensor& learning_rate, const Tensor& go, const Tensor& state, const Tensor& control,
            DecideSpec spec, const Tensor& own) {
  check_f32("decide", partials, "partials", partials.shape.elements());
  check_f32("decide", loss_sum, "loss_sum", 1);
  check_f32("decide", target_count, "target_count", 1);
  check_f32("decide", learning_rate, "rate", 1);
  check_f32("decide", go, "go", 1);
  check_f32("decide", state, "state", kStateSize);
  check_f32("decide", control, "control", kControlSize);
  Call call{&decide_kind,
            {{partials, Access::in},
             {loss_sum, Access::in},
             {target_count, Access::in},
             {learning_rate, Access::in},
             {go, Access::in},
             {state, Access::inout},
             {control, Access::out}},
            spec,
            {},
            Phase::optimizer};
  if (own) {
    check_f32("decide", own, "own", 1);
    call.operands.push_back({own, Access::in});
  }
  return call;
}

Call adamw(const Tensor& gradient, const Tensor& state, const Tensor& control, const Tensor& master,
           const Tensor& exp_avg, const Tensor& exp_avg_sq, AdamWSpec spec, const Tensor& copy) {
  const int64_t n = gradient.shape.elements();
  check_f32("adamw", gradient, "gradient", n);
  check_f32("adamw", state, "state", kStateSize);
  check_f32("adamw", control, "control", kControlSize);
  check_f32("adamw", master, "master", n);
  check_state("adamw", exp_avg, "exp_avg", n);
  check_state("adamw", exp_avg_sq, "exp_avg_sq", n);
  check(exp_avg.type == exp_avg_sq.type, "adamw", "moments of one type",
        {{"exp_avg", exp_avg}, {"exp_avg_sq", exp_avg_sq}});
  Call call{&adamw_kind,
            {{gradient, Access::in},
             {state, Access::in},
             {control, Access::in},
             {master, Access::inout},
             {exp_avg, Access::inout},
             {exp_avg_sq, Access::inout}},
            spec,
            {},
            Phase::optimizer};
  if (copy) {
    check(is_float(copy) && is_vector(copy, n) && copy.dense(), "adamw", "copy floats[n], dense",
          {{"copy", copy}});
    call.operands.push_back({copy, Access::out});
  }
  return call;
}

Call ema(const Tensor& master, const Tensor& control, const Tensor& average, EmaSpec spec,
         const Tensor& state) {
  const int64_t n = master.shape.elements();
  check_f32("ema", master, "master", n);
  check_f32("ema", control, "control", kControlSize);
  check_state("ema", average, "average", n);
  Call call{&ema_kind,
            {{master, Access::in}, {control, Access::in}, {average, Access::inout}},
            spec,
            {},
            Phase::optimizer};
  if (average.type == DType::bf16) {
    check_f32("ema", state, "state", kStateSize);
    call.operands.push_back({state, Access::in});
  }
  return call;
}

}  // namespace toroid::op
