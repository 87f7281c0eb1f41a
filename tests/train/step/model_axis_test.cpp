// Model sharding: one step program on one rank, and on the ranks of a model axis (threads of this process),
// agree: bit for bit in deterministic mode, else within a bound of fp32.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "core/device/sim/recording_device.h"
#include "core/model/split.h"
#include "optim/adamw.h"
#include "optim/optim.pb.h"
#include "tests/loss_rounding.h"
#include "tests/parallel/local_ranks.h"
#include "train/step/step_program.h"

namespace toroid::train {
namespace {

using testing::LocalLayout;

struct Case {
  std::string name;
  DecoderConfig decoder;
  int64_t tokens = 32;
};

struct Trained {
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> masters;
  double evaluated = 0;
  std::vector<float> hidden, logits;
};

struct Batch {
  std::vector<int32_t> ids, targets, positions, starts;
  int64_t count = 0;
  HostBatch host() const { return {ids, targets, positions, starts, count}; }
};

constexpr int64_t kSequences = 4, kSteps = 3;

// Two documents a sequence; targets are masked unevenly.
Batch batch_of(const Case& c, uint32_t seed) {
  std::mt19937 random(seed);
  Batch out;
  for (int64_t s = 0; s < kSequences; ++s) {
    const int64_t cut = c.tokens / 3 + s;
    for (int64_t t = 0; t < c.tokens; ++t) {
      out.ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(c.decoder.vocab)));
      const auto target = static_cast<int32_t>(random() % static_cast<uint64_t>(c.decoder.vocab));
      const bool masked = t + 1 == c.tokens || (s < 2 && t % 4 == 1);
      out.targets.push_back(masked ? -1 : target);
      out.count += masked ? 0 : 1;
      out.starts.push_back(static_cast<int32_t>(t < cut ? 0 : cut));
      out.positions.push_back(static_cast<int32_t>(t < cut ? t : t - cut));
    }
  }
  return out;
}

StepOptions options_of(const Case& c, DType compute, bool deterministic, int stage) {
  StepOptions options;
  options.tokens_per_sequence = c.tokens;
  options.global_sequences = kSequences;
  options.sequences_per_replica = 2;
  options.compute = compute;
  options.deterministic = deterministic;
  options.zero.stage = stage;
  options.decide.clip_norm = 0.5;
  return options;
}

std::vector<float> to_host(Device& device, const Tensor& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.elements()));
  if (tensor.type != DType::f32) return {};
  device.read(tensor, std::as_writable_bytes(std::span(out)));
  return out;
}

void collect_masters(Device& device, StepProgram& program, Trained& out) {
  for (const NamedTensor& part : program.zero().parts()) {
    if (part.part != "master" || !part.counted) continue;
    std::vector<float>& whole = out.masters[part.name];
    whole.resize(static_cast<size_t>(part.shape.elements()), NAN);
    const std::vector<float> values = to_host(device, part.tensor);
    std::copy(values.begin(), values.end(), whole.begin() + part.first);
  }
}

// The last hidden states and logits before training, kSteps steps, and an evaluation of the whole batch.
void run_rank(const Case& c, const StepOptions& options, Device& device, ZeroGroups groups, Trained& out) {
  config::OptimConfig optim;
  optim.mutable_adamw()->set_weight_decay(0.1);
  StepProgram program(device, groups, c.decoder, options, optim::make_adamw(optim));
  program.initialise(7);
  const auto trace = program.trace(batch_of(c, 99).host(), 2);
  out.hidden = to_host(device, trace.hidden.back().tensor);
  out.logits = to_host(device, trace.logits.tensor);
  for (int64_t s = 0; s < kSteps; ++s) {
    program.upload(batch_of(c, static_cast<uint32_t>(s)).host(), 1e-3);
    program.step();
    out.losses.push_back(program.result(0).loss);
    out.norms.push_back(program.result(0).gradient_norm);
  }
  collect_masters(device, program, out);
  for (int64_t first = 0; first < kSequences; first += program.sequences_per_round()) {
    Batch batch = batch_of(c, 5);
    const auto cut = [&](std::vector<int32_t>& all) {
      all.erase(all.begin(), all.begin() + first * c.tokens);
      all.resize(static_cast<size_t>(std::min(program.sequences_per_round(), kSequences - first) * c.tokens));
    };
    cut(batch.ids), cut(batch.targets), cut(batch.positions), cut(batch.starts);
    out.evaluated += program.evaluate(batch.host()).loss_sum;
  }
}

Trained train(const Case& c, LocalLayout layout, const StepOptions& options, Cut cut = Cut::never) {
  std::vector<Trained> results(static_cast<size_t>(layout.size()));
  testing::run_local_ranks(
      layout, options.deterministic,
      [&](int rank, Device& device, ZeroGroups groups) {
        run_rank(c, options, device, groups, results[static_cast<size_t>(rank)]);
      },
      cut);
  Trained out = results[0];
  for (const Trained& rank : results) {
    EXPECT_EQ(rank.losses, out.losses) << "ranks agree on the loss";
    EXPECT_EQ(rank.norms, out.norms) << "ranks agree on the norm";
    for (const auto& [name, values] : rank.masters) {
      std::vector<float>& whole = out.masters[name];
      whole.resize(values.size(), NAN);
      for (size_t i = 0; i < values.size(); ++i) {
        if (!std::isnan(values[i])) whole[i] = values[i];
      }
    }
  }
  return out;
}

DecoderConfig small(int64_t heads, int64_t kv_heads) {
  DecoderConfig c;
  c.d_model = 32, c.layers = 2, c.heads = heads, c.kv_heads = kv_heads, c.head_dim = 8, c.ffn = 48,
  c.vocab = 200;
  c.attention_scale = 1 / std::sqrt(8.0);
  c.local.assign(2, false);
  return c;
}

std::vector<Case> cases() {
  std::vector<Case> out;
  out.push_back({"mqa", small(4, 1)});
  out.push_back({"gqa", small(4, 2)});
  out.push_back({"mha", small(4, 4)});
  out.push_back({"gqa_of_sixteen", small(16, 4)});
  Case plain{"plain_untied_odd_sizes", small(4, 4), 27};
  plain.decoder.gated_mlp = false, plain.decoder.tied_head = false, plain.decoder.vocab = 331;
  plain.decoder.activation = op::activation_of<op::activation::Relu>;
  out.push_back(plain);
  Case longer{"longer", small(8, 2), 150};
  longer.decoder.d_model = 72, longer.decoder.head_dim = 32, longer.decoder.ffn = 304;
  longer.decoder.vocab = 1500;
  out.push_back(longer);
  Case few{"few_tokens_of_a_small_vocabulary", small(4, 1), 5};
  few.decoder.vocab = 9;
  out.push_back(few);
  Case two{"gemma2", small(4, 2)};
  two.decoder.post_norms = true, two.decoder.attention_softcap = 5, two.decoder.logit_softcap = 3;
  two.decoder.window = 6, two.decoder.local = {true, false};
  out.push_back(two);
  Case three{"gemma3", small(4, 1)};
  three.decoder.post_norms = three.decoder.qk_norm = true;
  three.decoder.window = 6, three.decoder.local = {true, false};
  three.decoder.rope_base = 1e6, three.decoder.rope_local_base = 1e4;
  out.push_back(three);
  three.name = "gemma3_gqa", three.decoder.kv_heads = 2;
  out.push_back(three);
  three.name = "gemma3_mha", three.decoder.kv_heads = 4;
  out.push_back(three);
  for (Case one : {out[0], out[1], plain}) {
    one.name = "parallel_" + one.name;
    one.decoder.parallel_layers = true;
    out.push_back(one);
  }
  Case normed{"parallel_qk_norm_windows", small(4, 2)};
  normed.decoder.parallel_layers = normed.decoder.qk_norm = true;
  normed.decoder.window = 6, normed.decoder.local = {true, false};
  out.push_back(normed);
  return out;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(error / std::max(size, 1e-30));
}

// fp32 sums of a few hundred terms in another order; Adam's update divides by their square root.
void expect_close(const Trained& a, const Trained& b) {
  for (size_t s = 0; s < b.losses.size(); ++s) {
    ASSERT_LT(s, a.losses.size());
    EXPECT_NEAR(a.losses[s], b.losses[s], 1e-5 * b.losses[s]) << "loss of step " << s;
    EXPECT_NEAR(a.norms[s], b.norms[s], 2e-5 * b.norms[s]) << "norm of step " << s;
  }
  EXPECT_NEAR(a.evaluated, b.evaluated, 1e-5 * b.evaluated);
  EXPECT_LT(distance(a.hidden, b.hidden), 1e-5);
  EXPECT_LT(distance(a.logits, b.logits), 1e-5);
  for (const auto& [name, values] : b.masters) {
    // A norm's weights begin at zero: all that they are is updates.
    EXPECT_LT(distance(a.masters.at(name), values), name.find("norm") == std::string::npos ? 1e-4 : 1e-2)
        << name;
  }
}

void expect_same_bits(const Trained& a, const Trained& b, const std::string& what) {
  EXPECT_EQ(a.losses, b.losses) << what;
  EXPECT_EQ(a.norms, b.norms) << what;
  EXPECT_EQ(a.evaluated, b.evaluated) << what;
  EXPECT_EQ(a.hidden, b.hidden) << what;
  for (const auto& [name, values] : b.masters) {
    const auto found = a.masters.find(name);
    ASSERT_TRUE(found != a.masters.end()) << name;
    ASSERT_EQ(found->second.size(), values.size()) << name;
    EXPECT_EQ(0, std::memcmp(found->second.data(), values.data(), values.size() * sizeof(float)))
        << what << ", " << name;
  }
}

class ModelAxis : public ::testing::TestWithParam<Case> {};

TEST_P(ModelAxis, FastModeAgreesWithOneRank) {
  const auto run = [&](LocalLayout layout, int stage) {
    return train(GetParam(), layout, options_of(GetParam(), DType::f32, false, stage));
  };
  const Trained one = run({1, 1}, 3);
  EXPECT_TRUE(std::isfinite(one.losses.back()));
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE("model " + std::to_string(ranks));
    expect_close(run({1, ranks}, 3), one);
  }
  SCOPED_TRACE("data 2, model 2");
  expect_close(run({2, 2}, 3), one);
}

// Collectives that go round by round beside products, and inputs that are kept, gathered again with what is
// computed again, or once more.
TEST_P(ModelAxis, RoundByRoundAgreesWithOneRank) {
  const auto run = [&](LocalLayout layout, Remat remat, bool keep_gathered, Cut cut) {
    StepOptions options = options_of(GetParam(), DType::f32, false, 3);
    options.remat = remat;
    options.keep_gathered = keep_gathered;
    return train(GetParam(), layout, options, cut);
  };
  const Trained one = run({1, 1}, Remat::none, false, Cut::never);
  expect_close(run({1, 2}, Remat::none, false, Cut::always), one);
  expect_close(run({1, 4}, Remat::cheap, true, Cut::always), one);
  expect_close(run({1, 4}, Remat::full, false, Cut::always), one);
  expect_close(run({1, 4}, Remat::none, true, Cut::never), one);
  expect_close(run({2, 2}, Remat::full, true, Cut::always), one);
}

// Partial sums that travel as bf16 are rounded where they are sent, by at most 2^-9 of what the ranks'
// summands come to (scheduled_communicator.h); bf16 runs round every product's result by as much, so that
// their bound holds.
TEST_P(ModelAxis, Bf16SumsStayWithinTheBoundOfBf16) {
  const auto run = [&](LocalLayout layout, DType type, Wire wire, Cut cut) {
    StepOptions options = options_of(GetParam(), type, false, 3);
    options.model_wire = wire;
    return train(GetParam(), layout, options, cut);
  };
  const Trained exact = run({1, 1}, DType::f32, Wire::exact, Cut::never),
                one = run({1, 1}, DType::bf16, Wire::exact, Cut::never);
  const double rounding = testing::loss_rounding(one.logits, exact.logits);
  for (const int ranks : {2, 4}) {
    const Trained split = run({1, ranks}, DType::bf16, Wire::bf16, Cut::always);
    const Trained same = run({1, ranks}, DType::bf16, Wire::exact, Cut::always);
    EXPECT_NE(split.logits, same.logits) << "something was rounded";
    for (size_t s = 0; s < one.losses.size(); ++s) {
      EXPECT_NEAR(split.losses[s], one.losses[s], rounding) << "model " << ranks << ", step " << s;
    }
  }
}

// In bf16 a layout may be off by twice what rounding to bf16 costs one rank.
TEST_P(ModelAxis, FastBf16StaysWithinItsBound) {
  const auto run = [&](LocalLayout layout, DType type) {
    return train(GetParam(), layout, options_of(GetParam(), type, false, 3));
  };
  const Trained exact = run({1, 1}, DType::f32), one = run({1, 1}, DType::bf16);
  double rounding = 0;
  for (size_t s = 0; s < one.losses.size(); ++s) {
    rounding = std::max(rounding, std::abs(one.losses[s] - exact.losses[s]));
  }
  for (const int ranks : {2, 4}) {
    const Trained split = run({1, ranks}, DType::bf16);
    for (size_t s = 0; s < one.losses.size(); ++s) {
      EXPECT_NEAR(split.losses[s], one.losses[s], 2 * rounding) << "model " << ranks << ", step " << s;
    }
  }
}

TEST_P(ModelAxis, DeterministicModeHasOneRanksBits) {
  for (const DType type : {DType::f32, DType::bf16}) {
    // What changes bits elsewhere is asked for, and changes none.
    const auto run = [&](LocalLayout layout, int stage, Remat remat, bool keep_gathered = false) {
      StepOptions options = options_of(GetParam(), type, true, stage);
      options.remat = remat;
      options.keep_gathered = keep_gathered;
      options.model_wire = Wire::bf16;
      return train(GetParam(), layout, options, Cut::always);
    };
    const std::string name(name_of(type));
    const Trained one = run({1, 1}, 3, Remat::none);
    EXPECT_TRUE(std::isfinite(one.losses.back()));
    expect_same_bits(run({1, 2}, 3, Remat::none), one, name + ", model 2");
    expect_same_bits(run({1, 4}, 3, Remat::full), one, name + ", model 4");
    expect_same_bits(run({1, 4}, 3, Remat::full, true), one, name + ", model 4, inputs kept");
    expect_same_bits(run({1, 2}, 3, Remat::cheap, true), one, name + ", model 2, inputs kept");
    expect_same_bits(run({2, 1}, 3, Remat::none), one, name + ", data 2");
    expect_same_bits(run({2, 2}, 3, Remat::cheap), one, name + ", data 2, model 2");
    expect_same_bits(run({2, 2}, 1, Remat::none), one, name + ", data 2, model 2, stage 1");
  }
}

INSTANTIATE_TEST_SUITE_P(Family, ModelAxis, ::testing::ValuesIn(cases()),
                         [](const auto& c) { return c.param.name; });

// A recorder without numbers is issued what a rank is issued.
TEST_P(ModelAxis, ARecorderSeesWhatARankDoes) {
  const Case& c = GetParam();
  const LocalLayout layout{2, 2};
  for (const auto& [deterministic, cut] :
       {std::pair(false, Cut::never), std::pair(false, Cut::always), std::pair(true, Cut::never)}) {
    const StepOptions options = options_of(c, DType::bf16, deterministic, 3);
    const auto record = [&](RecordingDevice& recorder, ZeroGroups groups) {
      StepProgram program(recorder, groups, c.decoder, options, optim::make_adamw(config::OptimConfig()));
      program.initialise(1);
      recorder.clear();
      program.upload(batch_of(c, 1).host(), 0);
      program.step();
      std::vector<std::string> out;
      for (const Record& each : recorder.records()) out.push_back(each.text);
      return out;
    };
    const auto world = make_recorded_world(1, layout.size());
    RecordingDevice dry(make_cpu_kernels(1));
    const testing::LocalGroups groups(*world, dry, layout, deterministic, cut);
    const auto expected = record(dry, groups.groups());
    LocalJob job(layout.size(), {});
    std::vector<std::string> found;
    const bool trees = deterministic;
    const Cut of_model = cut;
    const std::string failures = testing::run_rank_threads(layout.size(), [&](int rank) {
      const auto local = job.world(rank);
      CpuDevice device(make_cpu_kernels(1), local->transfers());
      RecordingDevice recorder(device);
      const testing::LocalGroups real(*local, recorder, layout, trees, of_model);
      const auto seen = record(recorder, real.groups());
      if (rank == 1) found = seen;
    });
    EXPECT_EQ(failures, "");
    EXPECT_EQ(found, expected);
    EXPECT_GT(expected.size(), 100u);
  }
}

// Key/value heads whose query heads lie on several ranks, or in several canonical slices, or both.
class ModelAxisOfUnevenHeads : public ::testing::TestWithParam<Case> {
 protected:
  std::vector<int> axes(bool deterministic) const {
    const DecoderConfig& model = GetParam().decoder;
    std::vector<int> out;
    for (const int ranks : {2, 3, 4, 8}) {
      if (why_not_split(model.heads, model.ffn, ranks, deterministic).empty()) out.push_back(ranks);
    }
    return out;
  }
};

TEST_P(ModelAxisOfUnevenHeads, FastModeAgreesWithOneRank) {
  const StepOptions options = options_of(GetParam(), DType::f32, false, 3);
  const Trained one = train(GetParam(), {1, 1}, options);
  for (const int ranks : axes(false)) {
    SCOPED_TRACE("model " + std::to_string(ranks));
    expect_close(train(GetParam(), {1, ranks}, options), one);
  }
}

TEST_P(ModelAxisOfUnevenHeads, DeterministicModeHasOneRanksBits) {
  EXPECT_FALSE(axes(true).empty());
  for (const DType type : {DType::f32, DType::bf16}) {
    const StepOptions options = options_of(GetParam(), type, true, 3);
    const Trained one = train(GetParam(), {1, 1}, options);
    EXPECT_TRUE(std::isfinite(one.losses.back()));
    for (const int ranks : axes(true)) {
      const std::string what = std::string(name_of(type)) + ", model " + std::to_string(ranks);
      expect_same_bits(train(GetParam(), {1, ranks}, options), one, what);
      if (ranks == 2) expect_same_bits(train(GetParam(), {2, ranks}, options), one, what + ", data 2");
    }
    if (type == DType::f32)
      expect_close(one, train(GetParam(), {1, 1}, options_of(GetParam(), type, false, 3)));
  }
}

std::vector<Case> uneven_cases() {
  std::vector<Case> out;
  for (const auto& [heads, kv_heads] :
       {std::pair<int64_t, int64_t>{6, 3}, {10, 5}, {12, 3}, {12, 6}, {24, 3}, {6, 2}, {6, 1}, {6, 6}}) {
    out.push_back({std::to_string(heads) + "_on_" + std::to_string(kv_heads), small(heads, kv_heads)});
  }
  for (const auto& [heads, kv_heads] : {std::pair<int64_t, int64_t>{6, 3}, {12, 6}}) {
    Case three{"gemma3_" + std::to_string(heads) + "_on_" + std::to_string(kv_heads), small(heads, kv_heads)};
    three.decoder.post_norms = three.decoder.qk_norm = true;
    three.decoder.window = 6, three.decoder.local = {true, false};
    out.push_back(three);
    Case parallel{"parallel_" + std::to_string(heads) + "_on_" + std::to_string(kv_heads),
                  small(heads, kv_heads)};
    parallel.decoder.parallel_layers = true;
    out.push_back(parallel);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Heads, ModelAxisOfUnevenHeads, ::testing::ValuesIn(uneven_cases()),
                         [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace toroid::train
