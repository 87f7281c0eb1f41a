#include "train/engine/engine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/ranks/bf16_products.h"
#include "train/ranks/choices.h"

namespace toroid::train {
namespace {

// Before anything is allocated: in the middle of a step it would be found late, and one kind at a time.
void check_kernels(const Device& device) {
  const std::vector<const OpKind*> missing = missing_kinds(device.kernels());
  if (missing.empty()) return;
  std::string names;
  for (const OpKind* kind : missing) names += (names.empty() ? "" : ", ") + std::string(kind->name);
  throw UserError(
      "the device '" + std::string(device.name()) + "' lacks kernels for " + names +
      ", which no other operators can express; register them with its kernels (train/engine/plugins.h), or "
      "choose another device");
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? printable(name.data()) : "";
}

// Chips that only keep the clock have nothing that changes unseen.
bool detects(const config::RunConfig& run) {
  return run.device() != config::RunConfig::SIM;
}

}  // namespace

int compute_threads(const config::TrainConfig& train, size_t host_ranks) {
  if (train.threads() > 0) return static_cast<int>(train.threads());
  if (const char* text = std::getenv("OMP_NUM_THREADS"); text != nullptr) {
    const long threads = std::strtol(text, nullptr, 10);
    if (threads > 0 && threads <= 4096) return static_cast<int>(threads);
  }
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
    return std::max(1, CPU_COUNT(&cores) / static_cast<int>(std::max<size_t>(1, host_ranks)));
  }
  return 1;
}

Cut cut_of(const config::MeshConfig& mesh) {
  switch (mesh.overlap()) {
    case config::MeshConfig::AUTO:
      return Cut::by_rule;
    case config::MeshConfig::OFF:
      return Cut::never;
    case config::MeshConfig::ALWAYS:
      return Cut::always;
  }
  throw InternalError("an unknown mesh.overlap");
}

StepOptions step_options(const config::RunConfig& run) {
  StepOptions out;
  out.tokens_per_sequence = run.batch().tokens_per_sequence();
  out.global_sequences = run.batch().global_sequences();
  out.sequences_per_replica = run.batch().sequences_per_replica();
  out.compute = run.train().precision() == config::TrainConfig::FP32 ? DType::f32 : DType::bf16;
  switch (run.train().remat()) {
    case config::TrainConfig::NONE:
      out.remat = Remat::none;
      break;
    case config::TrainConfig::CHEAP:
      out.remat = Remat::cheap;
      break;
    case config::TrainConfig::FULL:
      out.remat = Remat::full;
      break;
  }
  out.keep_gathered = run.train().keep_gathered();
  out.deterministic = run.train().deterministic();
  const bool rounds = run.mesh().has_model_wire() ? run.mesh().model_wire() == config::MeshConfig::BF16
                                                  : out.compute == DType::bf16;
  out.model_wire = rounds && !out.deterministic ? Wire::bf16 : Wire::exact;
  out.loss_block_tokens = run.train().loss().block_tokens();
  out.zero.ema_decay = run.optim().ema().decay();
  out.zero.ema_type = run.optim().ema().precision() == config::EmaConfig::BF16 ? DType::bf16 : DType::f32;
  out.zero.seed = run.train().seed();
  out.zero.stage = static_cast<int>(run.zero().stage());
  out.zero.prefetch = static_cast<int>(run.zero().prefetch());
  out.zero.reshard_after_forward = run.zero().reshard_after_forward();
  out.zero.whole_below = run.zero().whole_below();
  out.zero.max_live = run.zero().max_live();
  out.zero.wire = run.zero().wire() == config::ZeroConfig::BF16 ? Wire::bf16 : Wire::exact;
  out.zero.round_gradients = run.zero().gradients() == config::ZeroConfig::BF16;
  out.zero.pods.outer = run.pathways().has_nesterov();
  out.zero.pods.every_steps = run.pathways().every_steps();
  out.zero.pods.learning_rate = run.pathways().nesterov().learning_rate();
  out.zero.pods.momentum = run.pathways().nesterov().momentum();
  switch (run.pathways().wire()) {
    case config::PathwaysConfig::FP32:
      out.zero.pods.wire = pathways::PodWire::fp32;
      break;
    case config::PathwaysConfig::BF16:
      out.zero.pods.wire = pathways::PodWire::bf16;
      break;
    case config::PathwaysConfig::INT8:
      out.zero.pods.wire = pathways::PodWire::int8;
      break;
  }
  out.zero.checksums_every = detects(run) ? run.train().detect().memory_every() : 0;
  out.zero.replays = detects(run) && run.train().detect().replay_every() > 0;
  out.decide.clip_norm = run.optim().clip_norm();
  out.decide.z_threshold = run.optim().skip().zscore();
  out.decide.z_decay = run.optim().skip().decay();
  out.decide.z_warmup = run.optim().skip().warmup();
  return out;
}

Engine make_engine(const config::RunConfig& run, std::unique_ptr<World> world, std::unique_ptr<Device> device,
                   const Plugins& plugins, const AdaptGroups& adapt) {
  return make_engine(run, mesh::Mesh(run.mesh()), std::move(world), std::move(device), plugins, adapt);
}

Engine make_engine(const config::RunConfig& run, const mesh::Mesh& mesh, std::unique_ptr<World> world,
                   std::unique_ptr<Device> device, const Plugins& plugins, const AdaptGroups& adapt) {
  Engine engine;
  engine.world = std::move(world);
  engine.device = std::move(device);
  check_kernels(*engine.device);
  engine.layout = std::make_unique<RankLayout>(mesh, *engine.world);
  engine.hosts = engine.world->exchange().texts(host_name(), "the hosts");
  const int64_t every = run.train().detect().wire_every();
  if (detects(run) && every > 0) engine.world->check_wire(every, engine.hosts);
  engine.groups = engine.layout->groups(*engine.world, *engine.device, run.train().deterministic(),
                                        cut_of(run.mesh()), agreed_choices(*engine.world, run.mesh()));
  if (adapt) engine.groups = adapt(std::move(engine.groups), *engine.device);
  StepOptions options = step_options(run);
  options.objective = plugins.objectives.make(run.train().objective());
  engine.program =
      std::make_unique<StepProgram>(*engine.device, engine.groups.zero(), decoder_config(run.model()),
                                    std::move(options), plugins.optimizers.make(run.optim()));
  return engine;
}

RunRank leave_as_rank(Meeting meeting, const config::RunConfig& run, Bf16Products products,
                      const Plugins& plugins) {
  RunRank rank;
  rank.world = meeting.part();
  const int threads = compute_threads(run.train(), rank.world->host_ranks().size());
  rank.bf16_products = products;
  const DeviceMaker& maker = plugins.device(run);
  rank.device = maker.make(maker.kernels(threads, products), rank.world.get());
  return rank;
}

RunRank join_ranks(const config::RunConfig& run, const Plugins& plugins,
                   const std::vector<RunIdentity::Part>& more) {
  Meeting ranks = meet_launched_ranks(Seconds(run.train().deadline_s()));
  ranks.settle_instructions();
  const Bf16Products products = agreed_bf16_products(ranks, run.train());
  RunIdentity identity = identity_of(run);
  add_processor(identity, products);
  identity.parts.insert(identity.parts.end(), more.begin(), more.end());
  ranks.agree(identity);
  return leave_as_rank(std::move(ranks), run, products, plugins);
}

Batch synthetic_batch(const config::RunConfig& run, int64_t step, const std::vector<std::string>& operands) {
  SyntheticTokens tokens;
  tokens.tokens_per_sequence = run.batch().tokens_per_sequence();
  tokens.vocab = static_cast<int32_t>(run.model().vocab());
  tokens.seed = run.train().seed();
  tokens.operands = operands;
  const int64_t sequences = run.batch().global_sequences();
  return synthetic_batches(tokens)->batch(step * sequences, sequences);
}

HostBatch host_batch(const Batch& batch) {
  return {batch.ids,          batch.targets,  batch.positions, batch.document_starts,
          batch.target_count, &batch.operands};
}

}  // namespace toroid::train
