// The detectors of silent corruption against faults that are put in beside them, at a random rank, step and
// bit: into memory between steps, into what a kernel has written, into one pod's weights. And no alarm where
// there is no fault.
#include "train/loop/detectors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <set>

#include "core/device/cpu/cpu_kernels.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "tests/parallel/local_world.h"
#include "tests/parallel/rank_threads.h"
#include "train/config/load.h"

namespace toroid::train {
namespace {

// What a rank's kernels do wrong: the rank is a thread, which launches them.
struct KernelFault {
  int kind = -1;      // of kFaulty; -1: nothing
  int64_t call = -1;  // of that kind, counted from when this was set; -1: every one
  uint64_t bit = 0;   // of the output, modulo its size
  int64_t calls = 0;
};
thread_local KernelFault fault;

const OpKind* const kFaulty[] = {&op::matmul_kind, &op::matmul_dw_kind, &op::matmul_dx_kind};
std::array<Kernel, std::size(kFaulty)> sound;  // the same for all ranks

template <int kKind>
void run_faulty(const Call& call, const LaunchContext& context) {
  sound[kKind].run(call, context);
  if (fault.kind != kKind) return;
  const int64_t now = fault.calls++;
  if (fault.call >= 0 && now != fault.call) return;
  const Tensor& out = call.operands.back().tensor;
  const uint64_t bit = fault.bit % static_cast<uint64_t>(8 * out.bytes());
  out.data()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

std::shared_ptr<DeviceKernels> faulty_kernels(int threads) {
  auto kernels = make_cpu_kernels(threads, cpu::fastest_products());
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const auto replace = [&]<int kKind>() {
    if (sound[kKind].run == nullptr) sound[kKind] = *kernels->find(*kFaulty[kKind]);
    kernels->add(*kFaulty[kKind], {run_faulty<kKind>, sound[kKind].workspace_bytes});
  };
  replace.operator()<0>();
  replace.operator()<1>();
  replace.operator()<2>();
  return kernels;
}

config::RunConfig config_of(const std::string& rest, const std::vector<std::string>& sets = {}) {
  config::RunConfig run =
      config::load_text(
          "model { d_model: 64 layers: 2 heads: 4 kv_heads: 2 head_dim: 16 ffn: 96 vocab: 400 }\n"
          "batch { tokens_per_sequence: 20 global_sequences: 8 }\n"
          "train { steps: 1000 seed: 5 precision: BF16 }\n" +
              rest,
          "detectors", sets)
          .run;
  config::validate(run);
  return run;
}

const char* const kAdamW =
    "optim { adamw { weight_decay: 0.1 } schedule { constant { peak: 1e-3 } } ema { decay: 0.9 } }\n";

// One rank with its detectors.
struct Rank {
  Rank(const config::RunConfig& config, std::unique_ptr<World> world, std::unique_ptr<Device> device)
      : run(config), engine(make_engine(run, std::move(world), std::move(device), Plugins())) {
    engine.program->initialise(run.train().seed());
    detectors.emplace(run.train().detect(), engine);
  }
  void step(int64_t number) {
    const Batch batch = synthetic_batch(run, number);
    engine.program->upload(host_batch(batch), 1e-3);
    detectors->step(number, host_batch(batch), engine.program->dealer().deal(batch.sequences));
  }
  // As the loop does, at once.
  void hear(int64_t number) {
    const auto mine = detectors->tell(number, 0, Seconds(1));
    detectors->hear(number, engine.world->exchange().numbers(mine, "test"));
  }
  config::RunConfig run;
  Engine engine;
  std::optional<Detectors> detectors;
};

std::unique_ptr<Rank> alone(const config::RunConfig& run) {
  return std::make_unique<Rank>(run, make_single_world(),
                                std::make_unique<CpuDevice>(make_cpu_kernels(1, cpu::fastest_products())));
}

// Calls work(rank) for each rank of the config's mesh; what each found.
template <class Work>
std::vector<std::optional<Finding>> on_ranks(const config::RunConfig& run, const Work& work) {
  const int size = mesh::Mesh(run.mesh()).world_size();
  LocalJob job(size, {});
  std::vector<std::optional<Finding>> found(static_cast<size_t>(size));
  const std::string failures = testing::run_rank_threads(size, [&](int rank) {
    auto world = job.world(rank);
    auto device = std::make_unique<CpuDevice>(faulty_kernels(1), world->transfers());
    Rank self(run, std::move(world), std::move(device));
    try {
      work(self, rank);
    } catch (const CorruptionError& error) {
      found[static_cast<size_t>(rank)] = error.finding();
    }
    fault = {};
  });
  EXPECT_EQ(failures, "");
  return found;
}

void flip(const Tensor& tensor, uint64_t bit) {
  tensor.data()[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

// Every part of every kind of state, in turn.
TEST(MemoryFaults, AreAlwaysFoundAndNamed) {
  std::mt19937_64 random(31);
  const std::string optimizers[] = {kAdamW, "optim { muon {} schedule { constant { peak: 1e-3 } } }\n",
                                    "optim { lion {} schedule { constant { peak: 1e-4 } } }\n",
                                    "optim { sgd { momentum: 0.9 } schedule { constant { peak: 1e-3 } } }\n"};
  int found = 0, trials = 0;
  std::set<std::string> parts;
  for (const std::string& optimizer : optimizers) {
    for (const bool deterministic : {false, true}) {
      const auto rank =
          alone(config_of(optimizer, deterministic ? std::vector<std::string>{"train.deterministic=true"}
                                                   : std::vector<std::string>{}));
      StateChecksums& checksums = *rank->engine.program->zero().checksums();
      int64_t step = 0;
      for (int trial = 0; trial < 13; ++trial, ++trials) {
        for (uint64_t clean = 1 + random() % 2; clean > 0; --clean) {
          rank->step(step++);
          EXPECT_FALSE(checksums.found(0)) << checksums.found(0)->text();
        }
        const std::vector<NamedTensor> held = rank->engine.program->zero().parts();
        const NamedTensor& part = held[random() % held.size()];
        const uint64_t bit = random() % static_cast<uint64_t>(8 * part.tensor.bytes());
        flip(part.tensor, bit);
        parts.insert(part.part);
        // Half of them before a save, the others in the next update.
        std::optional<StateFault> seen;
        if (trial % 2 == 0) {
          seen = checksums.look();
        } else {
          rank->step(step++);
          seen = checksums.found(0);
        }
        ASSERT_TRUE(seen) << part.part << " of " << part.name << ", bit " << bit;
        ++found;
        EXPECT_EQ(seen->tensor, part.name);
        EXPECT_EQ(seen->part, part.part);
        EXPECT_EQ(seen->blocks, 1);
        ASSERT_TRUE(seen->element);
        EXPECT_EQ(seen->element->bit, static_cast<int>(bit % 32));
        EXPECT_EQ(seen->first + seen->element->word, static_cast<int64_t>(bit / 32));
        rank->engine.program->initialise(7);
      }
    }
  }
  EXPECT_GE(trials, 100);
  EXPECT_EQ(found, trials);
  EXPECT_GE(parts.size(), 4u);
}

// Found at the rank that has it, and heard of by all; with what pods keep of their own.
TEST(MemoryFaults, AreFoundOnEveryRankAndHeardOfByAll) {
  std::mt19937_64 random(32);
  const std::string layouts[] = {"mesh { torus: [2, 2] data: 4 }\n",
                                 "mesh { torus: [2, 2] data: 2 model: 2 }\n",
                                 "mesh { pods: 2 torus: [2] data: 2 } pathways { wire: INT8 }\n",
                                 "mesh { pods: 2 torus: [1] data: 1 } pathways { every_steps: 2 nesterov { "
                                 "learning_rate: 0.7 momentum: 0.9 } }\n"};
  for (const std::string& layout : layouts) {
    for (int trial = 0; trial < 3; ++trial) {
      const config::RunConfig run = config_of(kAdamW + layout);
      const int size = mesh::Mesh(run.mesh()).world_size();
      const auto faulty = static_cast<int>(random() % static_cast<uint64_t>(size));
      const auto at = static_cast<int64_t>(1 + random() % 4);
      const uint64_t which = random(), where = random();
      const auto found = on_ranks(run, [&](Rank& rank, int number) {
        for (int64_t step = 0; step < 6; ++step) {
          if (step == at && number == faulty) {
            const auto held = rank.engine.program->zero().parts();
            const NamedTensor& part = held[which % held.size()];
            flip(part.tensor, where % static_cast<uint64_t>(8 * part.tensor.bytes()));
          }
          rank.step(step);
          rank.hear(step + 1);
          EXPECT_LT(step, at) << "not found";
        }
      });
      for (const auto& finding : found) {
        ASSERT_TRUE(finding) << layout;
        EXPECT_EQ(finding->detector, "memory");
        EXPECT_EQ(finding->rank, faulty);
      }
    }
  }
}

// Of every so many updates one is compared.
TEST(MemoryFaults, AreFoundInTheUpdatesThatCompare) {
  const auto rank = alone(config_of(kAdamW, {"train.detect.memory_every=4"}));
  StateChecksums& checksums = *rank->engine.program->zero().checksums();
  for (int64_t step = 0; step < 16; ++step) {
    const bool compares = (step + 1) % 4 == 0;
    if (compares) flip(rank->engine.program->zero().parts()[0].tensor, 40);
    rank->step(step);
    EXPECT_EQ(checksums.found(0).has_value(), compares) << step;
  }
}

// A pod whose weights are others, although nothing has changed since its update: what it was given was wrong.
TEST(ReplicaFaults, NameThePodThatDiffers) {
  std::mt19937_64 random(33);
  for (const int pods : {2, 3}) {
    for (int trial = 0; trial < 4; ++trial) {
      const config::RunConfig run =
          config_of(kAdamW, {"mesh={ pods: " + std::to_string(pods) + " torus: [2] data: 2 }",
                             "batch.global_sequences=12", "train.detect.replicas_every=3"});
      const auto faulty = static_cast<int>(random() % static_cast<uint64_t>(2 * pods));
      const uint64_t which = random(), where = random();
      const auto found = on_ranks(run, [&](Rank& rank, int number) {
        for (int64_t step = 0; step < 6; ++step) {
          if (step == 4 && number == faulty) {
            const auto held = rank.engine.program->zero().parts();
            const NamedTensor& part = held[which % held.size()];
            flip(part.tensor, where % static_cast<uint64_t>(8 * part.tensor.bytes()));
            rank.engine.program->zero().checksums()->note_all();  // as if it had been computed so
          }
          rank.step(step);
          rank.hear(step + 1);
          EXPECT_LT(step, 5) << "not found";
        }
      });
      for (const auto& finding : found) {
        ASSERT_TRUE(finding);
        EXPECT_EQ(finding->detector, "replicas");
        EXPECT_EQ(finding->rank, pods == 3 ? faulty : -1) << finding->what;
      }
    }
  }
}

// What a clean step gives, by rank.
std::vector<std::vector<Checksum>> clean_gradients(const config::RunConfig& run, int64_t step) {
  std::vector<std::vector<Checksum>> out(static_cast<size_t>(mesh::Mesh(run.mesh()).world_size()));
  (void)on_ranks(run, [&](Rank& rank, int number) {
    for (int64_t s = 0; s <= step; ++s) rank.step(s);
    out[static_cast<size_t>(number)] = rank.engine.program->first_gradients();
  });
  return out;
}

// Passing and lasting faults of a kernel, in the sampled step: found where they change a gradient.
TEST(ComputeFaults, AreFoundInTheSampledMicrobatch) {
  std::mt19937_64 random(34);
  struct Layout {
    const char* mesh;
    int data;
  };
  const Layout layouts[] = {{"torus: [2] data: 2", 2},
                            {"torus: [3] data: 3", 3},
                            {"torus: [2, 2] data: 2 model: 2", 2},
                            {"torus: [1] data: 1", 1}};
  int found = 0, harmless = 0, lasting_found = 0, passing_found = 0, named = 0;
  std::map<std::pair<std::string, int64_t>, std::vector<std::vector<Checksum>>> known;  // without a fault
  constexpr int kTrials = 100;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Layout& layout = layouts[trial % std::size(layouts)];
    const bool lasting = trial / 4 % 2 == 1 && layout.data > 1;
    const config::RunConfig run =
        config_of(kAdamW, {"mesh={ " + std::string(layout.mesh) + " }", "batch.global_sequences=6",
                           "train.detect.replay_every=2"});
    const int size = mesh::Mesh(run.mesh()).world_size();
    const auto faulty = static_cast<int>(random() % static_cast<uint64_t>(size));
    KernelFault planned;
    planned.kind = static_cast<int>(random() % std::size(kFaulty));
    planned.call = lasting ? -1 : static_cast<int64_t>(random() % 9);
    planned.bit = random();
    // Of the run in the step, or of the one again.
    const int64_t step = 2 * static_cast<int64_t>(random() % 2);
    std::vector<char> changed(static_cast<size_t>(size));
    auto& clean = known[{layout.mesh, step}];
    if (clean.empty()) clean = clean_gradients(run, step);
    const auto findings = on_ranks(run, [&](Rank& rank, int number) {
      for (int64_t s = 0; s < step; ++s) rank.step(s);
      const auto compare = [&] {
        const auto index = static_cast<size_t>(number);
        changed[index] = rank.engine.program->first_gradients() == clean[index] ? 0 : 1;
      };
      if (number == faulty) fault = planned;
      try {
        rank.step(step);
      } catch (const CorruptionError&) {
        compare();
        throw;
      }
      compare();
    });
    const bool harmful = std::count(changed.begin(), changed.end(), 0) < size;
    SCOPED_TRACE(std::string(layout.mesh) + (lasting ? ", lasting" : ", passing") + ", kind " +
                 std::to_string(planned.kind) + ", call " + std::to_string(planned.call) + ", trial " +
                 std::to_string(trial));
    if (!harmful) {
      ++harmless;  // of the first run; the one again may have been changed
      continue;
    }
    for (const auto& finding : findings) {
      ASSERT_TRUE(finding);
      EXPECT_EQ(finding->detector, "compute");
    }
    ++found;
    (lasting ? lasting_found : passing_found) += 1;
    // With a model axis what one rank computes wrong its neighbours compute with.
    if (size == layout.data) {
      if (findings[0]->rank >= 0) {
        EXPECT_EQ(findings[0]->rank, faulty);
        ++named;
      }
      if (findings[0]->lasting) {
        EXPECT_EQ(*findings[0]->lasting, lasting) << findings[0]->what;
      }
    }
  }
  std::printf("found %d (%d lasting, %d passing; %d named), harmless %d\n", found, lasting_found,
              passing_found, named, harmless);
  EXPECT_EQ(found + harmless, kTrials);
  EXPECT_GT(lasting_found, 20);
  EXPECT_GT(passing_found, 30);
  EXPECT_GT(named, 20);
}

// All detectors at every step, on every layout: nothing is found, and the numbers are those of a run without.
TEST(Detectors, RaiseNoAlarmAndChangeNothing) {
  const std::string layouts[] = {
      "mesh { torus: [1] data: 1 }\n", "mesh { torus: [2, 2] data: 4 } zero { stage: 1 }\n",
      "mesh { torus: [2, 2] data: 2 model: 2 }\n",
      "mesh { pods: 2 torus: [2] data: 2 } pathways { wire: FP32 }\n",
      "mesh { pods: 2 torus: [2] data: 1 model: 2 } pathways { every_steps: 3 nesterov {} }\n"};
  int64_t steps = 0;
  for (const std::string& layout : layouts) {
    for (const char* mode : {"train.deterministic=false", "train.deterministic=true"}) {
      std::vector<double> losses[2];
      for (const bool detect : {false, true}) {
        const std::string all = detect ? "{ memory_every: 1 wire_every: 1 replay_every: 1 replicas_every: 1 }"
                                       : "{ memory_every: 0 }";
        const config::RunConfig run = config_of(kAdamW + layout, {mode, "train.detect=" + all});
        const auto found = on_ranks(run, [&](Rank& rank, int number) {
          for (int64_t step = 0; step < 8; ++step) {
            rank.step(step);
            rank.hear(step + 1);
            if (number == 0) losses[detect ? 1 : 0].push_back(rank.engine.program->result(0).loss);
          }
          rank.detectors->look(8);
          if (detect && number == 0) steps += 8;  // ranks are threads
        });
        for (const auto& finding : found) EXPECT_FALSE(finding) << layout << mode << ": " << finding->what;
      }
      EXPECT_EQ(losses[0], losses[1]) << layout << mode;
    }
  }
  EXPECT_EQ(steps, 80);
}

TEST(Incidents, AreLinesOfJson) {
  const Path directory =
      std::filesystem::temp_directory_path() / ("toroid_incidents." + std::to_string(::getpid()));
  std::filesystem::create_directories(directory);
  append_incident(directory, {"corruption", "memory", 3, "host \"a\"", 17, "bit 3", std::nullopt});
  append_incident(directory, {"corruption", "compute", -1, "", 18, "wrong", true});
  std::ifstream in(directory / "incidents.jsonl");
  std::string first, second, third;
  std::getline(in, first);
  std::getline(in, second);
  EXPECT_FALSE(std::getline(in, third));
  EXPECT_NE(
      first.find(
          R"("detector":"memory","rank":3,"host":"host \"a\"","step":17,"what":"bit 3","lasting":null})"),
      std::string::npos)
      << first;
  EXPECT_NE(second.find(R"("rank":null,"host":"","step":18,"what":"wrong","lasting":true})"),
            std::string::npos)
      << second;
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace toroid::train
