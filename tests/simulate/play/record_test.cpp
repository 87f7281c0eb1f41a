// What is simulated is what runs: the records of a step on a chip that only keeps the clock are those of the
// same step of a real rank, whose collectives are messages; and the memory is the same to the byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <string>
#include <vector>

#include "simulate/play/chips.h"
#include "simulate/play/simulate.h"
#include "tests/train/certify/local_layout.h"
#include "train/certify/layout.h"

namespace toroid::train {
namespace {

struct Case {
  std::string name, recipe, layout;
  std::vector<std::string> sets;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

// A record in one line, without the operands' addresses; waits apart.
std::string text_of(const Record& record) {
  const std::string queue = ", queue " + std::to_string(static_cast<int>(record.queue));
  switch (record.kind) {
    case Record::Kind::launch: {
      std::string out = std::string(record.op) + ", " + name_of(record.phase).data() + queue;
      for (const Product& product : record.cost.products) {
        out += ", " + std::to_string(product.count) + " of " + std::to_string(product.m) + "x" +
               std::to_string(product.n) + "x" + std::to_string(product.k) + " " +
               std::string(name_of(product.type));
      }
      return out + ", vector " + std::to_string(record.cost.vector_flops) + ", reads " +
             std::to_string(record.cost.bytes_read) + ", writes " + std::to_string(record.cost.bytes_written);
    }
    case Record::Kind::copy:
      return "copy " + std::to_string(record.bytes) + queue;
    case Record::Kind::transfer:
      return record.info->operation + " " + record.info->axis + " " + record.info->tensor + " by " +
             record.info->method + ", " + std::to_string(record.info->bytes) + " bytes, on the wire " +
             std::to_string(record.info->wire_bytes) + ", ranks " + std::to_string(record.info->ranks) +
             queue;
    case Record::Kind::allocate:
      return "allocate " + record.text + " " + std::to_string(record.bytes);
    case Record::Kind::free:
      return "free " + record.text + " " + std::to_string(record.bytes);
    case Record::Kind::wait:
      break;
  }
  return "";
}

// What the queues have been told to wait for when something is issued: by queue, the tickets of the others.
using Waited = std::array<Tickets, kQueues>;

// What is issued but waits, and what has been waited for by then.
struct Issued {
  std::vector<std::string> records;
  std::vector<Waited> waited;
  Statistics memory;
};

// Tickets are counted from the step's first on their queue.
Issued issued_of(const sim::StepRecords& records, const Statistics& memory) {
  Issued out;
  out.memory = memory;
  Tickets before{};
  records.each([&](const Record& record) {
    uint64_t& first = before[static_cast<size_t>(record.queue)];
    if (first == 0 && record.ticket > 0) first = record.ticket - 1;
  });
  Waited waited{};
  records.each([&](const Record& record) {
    if (record.kind == Record::Kind::wait) {
      const auto on = static_cast<size_t>(record.until.queue);
      uint64_t& until = waited[static_cast<size_t>(record.queue)][on];
      until = std::max(until, record.until.ticket - std::min(record.until.ticket, before[on]));
    } else {
      out.records.push_back(text_of(record));
      out.waited.push_back(waited);
    }
  });
  return out;
}

// As the simulator's: reference kernels, whose products read weights where they lie.
std::shared_ptr<const DeviceKernels> kernels() {
  auto out = std::make_shared<DeviceKernels>();
  add_reference_kernels(*out);
  out->traits.packs = false;
  return out;
}

// The second step of every rank of a real run, each of which is a host of its own.
std::vector<Issued> run_really(const config::RunConfig& run, const mesh::Mesh& mesh) {
  LocalJob::Options options;
  options.reads_memory = options.relays = false;
  options.hosts = mesh.world_size();
  LocalJob job(mesh.world_size(), options);
  std::vector<Issued> out(static_cast<size_t>(mesh.world_size()));
  const std::string failures = testing::run_rank_threads(mesh.world_size(), [&](int rank) {
    const Plugins plugins;
    CpuDevice cpu(kernels(), std::make_shared<cpu::TransferThread>());
    auto recording = std::make_unique<RecordingDevice>(cpu);
    RecordingDevice& recorder = *recording;
    recorder.keep_records(false);
    recorder.keep_waits();
    const Engine engine = make_engine(run, mesh, job.world(rank), std::move(recording), plugins);
    engine.program->initialise(run.train().seed());
    for (const bool keep : {false, true}) {
      recorder.keep_records(keep);
      engine.program->upload(host_batch(synthetic_batch(run, keep ? 1 : 0)), 1e-3);
      engine.program->step();
    }
    recorder.keep_records(false);
    (void)engine.program->result(0);
    out[static_cast<size_t>(rank)] = issued_of({recorder.records(), {}}, recorder.statistics());
  });
  EXPECT_EQ(failures, "");
  return out;
}

std::vector<std::string> collectives_of(const std::vector<std::string>& records) {
  std::vector<std::string> out;
  for (const std::string& record : records) {
    if (record.find(" on the wire ") != std::string::npos) out.push_back(record);
  }
  return out;
}

// A chip's memory is handed on while queues still use it, which brings waits that a CPU's allocator has not:
// more may be waited for than really was, and nothing less.
bool waits_for_all_of(const Waited& simulated, const Waited& real) {
  for (size_t queue = 0; queue < kQueues; ++queue) {
    for (size_t on = 0; on < kQueues; ++on) {
      if (simulated[queue][on] < real[queue][on]) return false;
    }
  }
  return true;
}

class Simulated : public ::testing::TestWithParam<Case> {};

TEST_P(Simulated, StepIssuesWhatARealOneDoes) {
  const Case& c = GetParam();
  config::RunConfig run = config::load("configs/" + c.recipe + ".textproto", c.sets).run;
  const Layout layout = parse_layouts(c.layout)[0];
  layout.apply(run);
  config::validate(run);
  const mesh::Mesh mesh(run.mesh());
  const std::vector<SimulatedRole> roles =
      record_roles(run, mesh, read_chip("v5e", "configs/x.textproto"), Plugins());
  const std::vector<Issued> real = run_really(run, mesh);
  ASSERT_FALSE(roles.empty());
  int collectives = 0;
  for (const SimulatedRole& role : roles) {
    const Issued simulated = issued_of(role.records(), role.memory);
    const Issued& issued = real[static_cast<size_t>(role.rank)];
    EXPECT_GT(simulated.records.size(), 100u);
    EXPECT_EQ(simulated.records.size(), issued.records.size()) << "rank " << role.rank;
    for (size_t i = 0; i < std::min(simulated.records.size(), issued.records.size()); ++i) {
      ASSERT_EQ(simulated.records[i], issued.records[i]) << "record " << i << " of rank " << role.rank;
      ASSERT_TRUE(waits_for_all_of(simulated.waited[i], issued.waited[i]))
          << "before record " << i << " of rank " << role.rank << ", " << issued.records[i];
    }
    role.records().each(
        [&](const Record& record) { collectives += record.kind == Record::Kind::transfer ? 1 : 0; });
    EXPECT_EQ(role.memory.bytes_peak, issued.memory.bytes_peak) << "rank " << role.rank;
    EXPECT_EQ(role.memory.peak_by_holder, issued.memory.peak_by_holder) << "rank " << role.rank;
  }
  EXPECT_GT(collectives, 10);
  // The other ranks' shards begin at other tensors, but what they do together is the same.
  for (const Issued& rank : real) EXPECT_EQ(collectives_of(rank.records), collectives_of(real[0].records));
}

std::vector<Case> cases() {
  const std::vector<std::string> bf16 = {"train.precision=BF16"};
  const std::vector<std::string> gqa = {"model.kv_heads=2", "train.precision=BF16", "train.remat=FULL"};
  return {
      {"mqa_data_4", "tiny_gemma", "2x2", bf16},
      {"mqa_pods", "tiny_gemma", "pods 2 of 1x2", {"batch.sequences_per_replica=1"}},
      {"gqa_model_4", "tiny_gemma", "model 4 of 1x4", gqa},
      {"gqa_data_2_model_2", "tiny_gemma", "model 2 of 2x2", gqa},
      {"gemma3_data_4", "tiny_gemma3", "1x4", bf16},
      {"gemma3_model_2", "tiny_gemma3", "model 2 of 2x2", {}},
  };
}

INSTANTIATE_TEST_SUITE_P(Tiny, Simulated, ::testing::ValuesIn(cases()),
                         [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace toroid::train
