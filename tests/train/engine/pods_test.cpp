// Runs over several pods, all ranks threads of this process: DiLoCo against chips that train alone and a step
// that the test makes between them, resuming in the middle of a round, other layouts inside a pod; a run
// that goes from layout to layout.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <map>

#include "tests/parallel/local_world.h"
#include "tests/train/certify/local_layout.h"
#include "train/engine/engine.h"
#include "train/engine/snapshot.h"

namespace toroid::train {
namespace {

using Tensors = std::map<std::string, std::vector<float>>;  // by part and name

config::RunConfig config_of(const std::string& rest, const std::string& layout, bool deterministic = false) {
  std::vector<std::string> overrides;
  if (deterministic) overrides.emplace_back("train.deterministic=true");
  config::RunConfig run =
      config::load_text(
          "model { d_model: 32 layers: 2 heads: 4 kv_heads: 2 head_dim: 8 ffn: 48 vocab: 90 }\n"
          "batch { tokens_per_sequence: 20 global_sequences: 8 }\n"
          "optim { adamw { weight_decay: 0.1 } schedule { constant { peak: 1e-2 } } clip_norm: 0.5\n"
          "        ema { decay: 0.9 } }\n"
          "train { steps: 8 seed: 5 precision: FP32 }\n" +
              rest,
          "pods", overrides)
          .run;
  parse_layouts(layout)[0].apply(run);
  config::validate(run);
  return run;
}

struct Rank {
  Engine& engine;
  const config::RunConfig& run;
  StepProgram& program() const { return *engine.program; }
  // Sequences [first, first + count) of the step's batch; all of them where count is 0.
  void step(int64_t step, int64_t first = 0, int64_t count = 0) const {
    config::RunConfig whole = run;
    whole.mutable_batch()->set_global_sequences(8);
    Batch batch = synthetic_batch(whole, step);
    for (size_t i = 0; i < batch.targets.size(); i += 1 + i % 7) batch.targets[i] = -1;  // unevenly
    const auto T = static_cast<size_t>(batch.tokens);
    const auto cut = [&](std::vector<int32_t>& all) {
      all =
          std::vector<int32_t>(all.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(first) * T),
                               all.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(first + count) * T));
    };
    if (count > 0) cut(batch.ids), cut(batch.targets), cut(batch.positions), cut(batch.document_starts);
    batch.target_count =
        std::count_if(batch.targets.begin(), batch.targets.end(), [](int32_t target) { return target >= 0; });
    program().upload(host_batch(batch), program().dealer().deal(count > 0 ? count : 8), 1e-2);
    program().step();
  }
  void collect(Tensors& out) const {
    for (const NamedTensor& part : program().zero().parts()) {
      if (!part.counted) continue;
      std::vector<float>& whole = out[part.saved_part() + " " + part.name];
      whole.resize(static_cast<size_t>(part.shape.elements()), NAN);
      engine.device->read(part.tensor,
                          std::as_writable_bytes(std::span(whole).subspan(
                              static_cast<size_t>(part.first), static_cast<size_t>(part.tensor.elements()))));
    }
  }
};

// Leaves memory behind that the arrays of an engine will find: none of it may count.
void soil(Device& device) {
  std::vector<Array> arrays;
  for (int64_t elements = 1024; elements <= (1 << 16); elements += 1024) {
    for (int i = 0; i < 4; ++i) {
      arrays.push_back(device.array(DType::f32, {elements}, "test"));
      const std::vector<float> values(static_cast<size_t>(elements), NAN);
      device.write(arrays.back().tensor, std::as_bytes(std::span(values)), Queue::compute);
    }
  }
}

// work(rank) on every rank of the config's mesh, initialised unless it resumes; then all that they would
// save.
template <class Work>
Tensors on_ranks(const config::RunConfig& run, const Work& work, bool resumes = false) {
  const int size = mesh::Mesh(run.mesh()).world_size();
  LocalJob job(size, {});
  std::vector<Tensors> found(static_cast<size_t>(size));
  const std::string failures = testing::run_rank_threads(size, [&](int rank) {
    const Plugins plugins;
    auto device = local_device(plugins);
    soil(*device);
    Engine engine = make_engine(run, job.world(rank), std::move(device), plugins);
    if (!resumes) engine.program->initialise(run.train().seed());
    const Rank self{engine, run};
    work(self);
    self.collect(found[static_cast<size_t>(rank)]);
  });
  EXPECT_EQ(failures, "");
  Tensors all;
  for (const Tensors& of_rank : found) {
    for (const auto& [name, values] : of_rank) {
      std::vector<float>& whole = all[name];
      whole.resize(values.size(), NAN);
      for (size_t i = 0; i < values.size(); ++i) {
        if (!std::isnan(values[i])) whole[i] = values[i];
      }
    }
  }
  return all;
}

Tensors train(const config::RunConfig& run, int64_t steps) {
  return on_ranks(run, [steps](const Rank& rank) {
    for (int64_t s = 0; s < steps; ++s) rank.step(s);
  });
}

void expect_same_bits(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, values] : a) {
    const auto other = b.find(name);
    ASSERT_TRUE(other != b.end()) << name;
    ASSERT_EQ(values.size(), other->second.size()) << name;
    EXPECT_EQ(0, std::memcmp(values.data(), other->second.data(), values.size() * sizeof(float))) << name;
  }
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(error / std::max(size, 1e-30));
}

// Each pod as a chip that trains alone on its part of the batch, and Nesterov's step on their masters in
// double after every `every` steps.
Tensors serial(int pods, int64_t steps, int64_t every, double rate, double momentum) {
  config::RunConfig run = config_of("", "1x1");
  run.mutable_batch()->set_global_sequences(8 / pods);
  std::vector<Engine> engines;
  const Plugins plugins;
  for (int pod = 0; pod < pods; ++pod) {
    engines.push_back(
        make_engine(run, make_single_world(),
                    std::make_unique<CpuDevice>(plugins.cpu().kernels(1, cpu::fastest_products())), plugins));
    engines.back().program->initialise(run.train().seed());
  }
  std::map<std::string, std::vector<double>> shared, speed;
  for (const NamedTensor& part : engines[0].program->zero().parts()) {
    if (part.part != "master") continue;
    std::vector<float> values(static_cast<size_t>(part.tensor.elements()));
    engines[0].device->read(part.tensor, std::as_writable_bytes(std::span(values)));
    shared[part.name].assign(values.begin(), values.end());
    speed[part.name].resize(values.size());
  }
  for (int64_t s = 0; s < steps; ++s) {
    for (int pod = 0; pod < pods; ++pod) {
      Rank{engines[static_cast<size_t>(pod)], run}.step(s, pod * 8 / pods, 8 / pods);
    }
    if ((s + 1) % every != 0) continue;
    std::map<std::string, std::vector<double>> mean;
    for (Engine& engine : engines) {
      for (const NamedTensor& part : engine.program->zero().parts()) {
        if (part.part != "master") continue;
        std::vector<float> values(static_cast<size_t>(part.tensor.elements()));
        engine.device->read(part.tensor, std::as_writable_bytes(std::span(values)));
        std::vector<double>& sum = mean[part.name];
        sum.resize(values.size());
        for (size_t i = 0; i < values.size(); ++i) {
          sum[i] += (shared[part.name][i] - static_cast<double>(values[i])) / pods;
        }
      }
    }
    for (auto& [name, gradient] : mean) {
      for (size_t i = 0; i < gradient.size(); ++i) {
        speed[name][i] = momentum * speed[name][i] + gradient[i];
        shared[name][i] -= rate * (gradient[i] + momentum * speed[name][i]);
      }
    }
    for (Engine& engine : engines) {
      for (const NamedTensor& part : engine.program->zero().parts()) {
        if (part.part != "master") continue;
        const std::vector<float> values(shared[part.name].begin(), shared[part.name].end());
        engine.device->write(part.tensor, std::as_bytes(std::span(values)));
      }
      engine.program->weights_changed();
    }
  }
  Tensors out;
  for (const auto& [name, values] : shared) out["master " + name].assign(values.begin(), values.end());
  return out;
}

void expect_close(const Tensors& found, const Tensors& expected) {
  for (const auto& [name, values] : expected) {
    const auto other = found.find(name);
    ASSERT_TRUE(other != found.end()) << name;
    // A norm's weights begin at zero: all that they are is updates, which Adam divides by their size.
    EXPECT_LT(distance(other->second, values), name.find("norm") == std::string::npos ? 1e-4 : 2e-3) << name;
  }
}

TEST(Diloco, IsPodsThatTrainAloneAndAStepBetweenThem) {
  for (const int pods : {1, 2, 4}) {
    SCOPED_TRACE(pods);
    const std::string rest = "pathways { every_steps: 3 nesterov { learning_rate: 0.7 momentum: 0.9 } }";
    const std::string of = "pods " + std::to_string(pods) + " of ";
    const Tensors expected = serial(pods, 6, 3, 0.7, 0.9);
    expect_close(train(config_of(rest, of + "1x1"), 6), expected);
    if (pods != 2) continue;
    for (const char* layout : {"1x2 zero 0", "1x2 zero 1", "1x2 zero 2", "1x2 zero 3", "1x4"}) {
      SCOPED_TRACE(layout);
      expect_close(train(config_of(rest, of + layout), 6), expected);
    }
    expect_close(train(config_of(rest, "pods 2 of model 2 of 1x2"), 6), expected);
  }
}

// Nesterov's step of rate 1 without momentum goes to the mean of the pods' weights.
TEST(Diloco, WithoutMomentumAtRateOneOnePodIsThePlainRun) {
  expect_close(train(config_of("pathways { nesterov { learning_rate: 1 momentum: 0 } }", "1x1"), 5),
               train(config_of("", "1x1"), 5));
}

TEST(Diloco, InDeterministicModeLayoutsInsideAPodAgreeBitForBit) {
  const std::string rest = "pathways { every_steps: 3 }";
  const Tensors one = train(config_of(rest, "pods 2 of 1x1", true), 5);
  EXPECT_TRUE(one.contains("master.pod-1 model.norm.weight")) << "in the middle of a round";
  expect_same_bits(train(config_of(rest, "pods 2 of 1x2", true), 5), one);
  expect_same_bits(train(config_of(rest, "pods 2 of model 2 of 2x2", true), 5), one);
}

TEST(Wire, RoundedGradientsStayNearExactOnes) {
  for (const std::string wire : {"BF16", "INT8"}) {
    SCOPED_TRACE(wire);
    std::vector<double> exact, rounded;
    const auto losses = [](const config::RunConfig& run) {
      std::vector<double> out;
      on_ranks(run, [&](const Rank& rank) {
        for (int64_t s = 0; s < 8; ++s) {
          rank.step(s);
          const double loss = rank.program().result(0).loss;
          if (rank.engine.world->rank() == 0) out.push_back(loss);
        }
      });
      return out;
    };
    exact = losses(config_of("", "pods 2 of 1x2"));
    rounded = losses(config_of("pathways { wire: " + wire + " }", "pods 2 of 1x2"));
    EXPECT_NE(exact, rounded);
    for (size_t s = 0; s < exact.size(); ++s) EXPECT_NEAR(rounded[s], exact[s], 2e-2 * exact[s]) << s;
  }
}

class Resume : public ::testing::Test {
 protected:
  void SetUp() override {
    run_ = std::filesystem::temp_directory_path() / ("toroid_pods." + std::to_string(::getpid()));
    std::filesystem::create_directories(run_);
  }
  void TearDown() override { std::filesystem::remove_all(run_); }

  void save(const Rank& rank, int64_t step) {
    CheckpointState state;
    state.step = step;
    const auto slices = take_snapshot(*rank.engine.device, rank.program(), state);
    Checkpoints checkpoints(run_, {.newest = 3});
    World& world = *rank.engine.world;
    checkpoints.save(state, slices, {{world.rank(), world.size()}, [&world](const std::string& text) {
                                       return world.exchange().texts(text, "checkpoint");
                                     }});
  }
  void restore(const Rank& rank, int64_t step) const {
    CheckpointReader checkpoint(run_ / "checkpoints" / ("step-" + std::to_string(step)), Verify::headers);
    restore_snapshot(*rank.engine.device, rank.program(), checkpoint);
  }
  Tensors resumed(const config::RunConfig& run, int64_t from, int64_t to) {
    return on_ranks(
        run,
        [&](const Rank& rank) {
          restore(rank, from);
          for (int64_t s = from; s < to; ++s) rank.step(s);
        },
        true);
  }
  // Saves after `steps` and goes on to 7.
  Tensors whole(const config::RunConfig& run, int64_t steps) {
    return on_ranks(run, [&](const Rank& rank) {
      for (int64_t s = 0; s < 7; ++s) {
        if (s == steps) save(rank, s);
        rank.step(s);
      }
    });
  }
  Path run_;
};

TEST_F(Resume, InTheMiddleOfARoundOrAfterItIsBitEqual) {
  for (const std::string rest :
       {"pathways { every_steps: 3 wire: INT8 }", "pathways { every_steps: 3 wire: BF16 }",
        "pathways { wire: INT8 }", "pathways { every_steps: 3 }"}) {
    for (const int64_t at : {3, 5}) {
      SCOPED_TRACE(rest + " at " + std::to_string(at));
      const config::RunConfig run = config_of(rest, "pods 2 of 1x2");
      const Tensors expected = whole(run, at);
      expect_same_bits(expected, resumed(run, at, 7));
      std::filesystem::remove_all(run_ / "checkpoints");
    }
  }
}

TEST_F(Resume, UnderAnotherLayoutInsideThePodsIsBitEqualInDeterministicMode) {
  const std::string rest = "pathways { every_steps: 3 }";
  const Tensors expected = whole(config_of(rest, "pods 2 of 1x2", true), 5);
  expect_same_bits(expected, resumed(config_of(rest, "pods 2 of 1x1", true), 5, 7));
  expect_same_bits(expected, resumed(config_of(rest, "pods 2 of model 2 of 1x2 zero 1", true), 5, 7));
}

// A step under each layout, resumed from what the layout before it has saved.
TEST_F(Resume, ThroughOneLayoutAfterTheOtherGoesOnAsOneRank) {
  const std::vector<std::string> layouts{
      "2x2", "model 2 of 4x4", "1x1",           "model 2 of 4x4", "1x2",           "model 2 of 4x4", "2x4",
      "4x1", "model 2 of 2x2", "pods 2 of 2x2", "model 2 of 4x4", "pods 2 of 1x2", "1x4 zero 1"};
  for (const bool deterministic : {true, false}) {
    SCOPED_TRACE(deterministic);
    std::vector<double> expected, losses;
    const auto step = [](const Rank& rank, int64_t s, std::vector<double>& to) {
      rank.step(s);
      const double loss = rank.program().result(0).loss;
      if (rank.engine.world->rank() == 0) to.push_back(loss);
    };
    const auto steps = static_cast<int64_t>(layouts.size());
    const Tensors one = on_ranks(config_of("", "1x1", deterministic), [&](const Rank& rank) {
      for (int64_t s = 0; s < steps; ++s) step(rank, s, expected);
    });
    Tensors last;
    for (int64_t s = 0; s < steps; ++s) {
      const config::RunConfig run = config_of("", layouts[static_cast<size_t>(s)], deterministic);
      last = on_ranks(
          run,
          [&](const Rank& rank) {
            if (s > 0) restore(rank, s);
            step(rank, s, losses);
            save(rank, s + 1);
          },
          s > 0);
    }
    ASSERT_EQ(losses.size(), expected.size());
    if (deterministic) {
      EXPECT_EQ(losses, expected);
      expect_same_bits(last, one);
    } else {
      for (size_t s = 0; s < losses.size(); ++s) EXPECT_NEAR(losses[s], expected[s], 1e-5 * expected[s]) << s;
      expect_close(last, one);
    }
    std::filesystem::remove_all(run_ / "checkpoints");
  }
}

// Batches that grow: the steps of a program that has room for more are those of one that has not, and a run
// goes on in the middle of the ramp, on other ranks too.
TEST_F(Resume, InTheMiddleOfARampIsBitEqual) {
  const auto ramp = [](const Rank& rank, int64_t from, int64_t to) {
    for (int64_t s = from; s < to; ++s) rank.step(s, 0, s < 2 ? 2 : s < 4 ? 4 : 8);
  };
  struct Case {
    std::string rest, layout, other;
    bool deterministic;
  };
  for (const Case& one :
       {Case{"", "pods 2 of 1x2", "1x4", true}, Case{"", "1x1", "pods 2 of 2x2", true},
        Case{"", "1x2 zero 1", "1x2", true}, Case{"", "pods 2 of 1x2", "pods 2 of 1x2", false},
        Case{"pathways { every_steps: 3 wire: INT8 }", "pods 2 of 1x1", "pods 2 of 1x1", false}}) {
    SCOPED_TRACE(one.rest + " " + one.layout + " then " + one.other);
    const Tensors expected =
        on_ranks(config_of(one.rest, one.layout, one.deterministic), [&](const Rank& rank) {
          ramp(rank, 0, 3);
          save(rank, 3);
          ramp(rank, 3, 6);
        });
    const Tensors found = on_ranks(
        config_of(one.rest, one.other, one.deterministic),
        [&](const Rank& rank) {
          restore(rank, 3);
          ramp(rank, 3, 6);
        },
        true);
    expect_same_bits(found, expected);
    std::filesystem::remove_all(run_ / "checkpoints");
  }
  for (const bool deterministic : {true, false}) {
    config::RunConfig exact = config_of("", "pods 2 of 1x2", deterministic);
    const auto small = [&](const Rank& rank) { ramp(rank, 2, 4); };
    const Tensors roomy = on_ranks(exact, small);
    exact.mutable_batch()->set_global_sequences(4);
    expect_same_bits(roomy, on_ranks(exact, small));
  }
}

TEST_F(Resume, AnotherNumberOfPodsBeginsFromThoseThatAreThere) {
  const std::string rest = "pathways { every_steps: 3 wire: INT8 }";
  const Tensors two = on_ranks(config_of(rest, "pods 2 of 1x1"), [&](const Rank& rank) {
    for (int64_t s = 0; s < 5; ++s) rank.step(s);
    save(rank, 5);
  });
  const std::string norm = " model.norm.weight";
  Tensors four = resumed(config_of(rest, "pods 4 of 1x1"), 5, 5);
  EXPECT_EQ(four.at("master.pod-1" + norm), two.at("master.pod-1" + norm));
  EXPECT_EQ(four.at("master.pod-3" + norm), two.at("master" + norm));
  EXPECT_EQ(four.at("exp_avg.pod-2" + norm), two.at("exp_avg" + norm));
  EXPECT_EQ(four.at("outer_momentum" + norm), two.at("outer_momentum" + norm));
  for (const float value : four.at("pod_residual.pod-3" + norm)) EXPECT_EQ(value, 0);
  // A run without an outer step reads what all pods shared or pod 0 has.
  const Tensors plain = resumed(config_of("", "1x1"), 5, 5);
  EXPECT_EQ(plain.at("exp_avg" + norm), two.at("exp_avg" + norm));
}

// One rank finds its gradient to be no number: no rank updates, none waits for another.
TEST(Skip, IsOneVerdictOfAllPods) {
  const config::RunConfig run = config_of("pathways { every_steps: 2 wire: INT8 }", "pods 2 of 1x2");
  on_ranks(run, [](const Rank& rank) {
    rank.step(0);
    const auto spoil = [&](float value) {
      for (const NamedTensor& part : rank.program().zero().parts()) {
        if (part.part != "master" || part.name != "model.norm.weight" || part.pod != 1) continue;
        std::vector<float> values(static_cast<size_t>(part.tensor.elements()), value);
        rank.engine.device->write(part.tensor, std::as_bytes(std::span(values)));
      }
      rank.program().weights_changed();
    };
    EXPECT_FALSE(rank.program().result(0).skipped);
    spoil(INFINITY);
    rank.step(1);
    EXPECT_TRUE(rank.program().result(0).skipped);
  });
}

}  // namespace
}  // namespace toroid::train
