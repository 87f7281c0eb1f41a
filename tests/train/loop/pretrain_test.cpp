// The loop from prepared text to checkpoints: exact resume, reproducibility, skips, signals, run directories,
// and one more of everything that a config can name.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "core/device/cpu/cpu_kernels.h"
#include "core/op/update.h"
#include "data/prepare/prepare.h"
#include "optim/optim.pb.h"
#include "tests/deadline.h"
#include "tests/train/loop/runs.h"
#include "train/loop/run.h"

namespace toroid::train {
namespace {

using PretrainTest = RunsTest;

TEST_F(PretrainTest, TwoRunsOfOneConfigAreBitEqual) {
  EXPECT_EQ(run(options("a")), ExitCode::done);
  EXPECT_EQ(run(options("b")), ExitCode::done);
  EXPECT_EQ(metrics("a"), metrics("b"));
  EXPECT_EQ(hashes("a"), hashes("b"));
  EXPECT_NE(metrics("a").find("validation_loss"), std::string::npos);
  EXPECT_NE(metrics("a").find("bits_per_byte"), std::string::npos);
}

TEST_F(PretrainTest, ResumeContinuesBitForBitWithOtherDataThreads) {
  EXPECT_EQ(run(options("whole", {"data.threads=1"})), ExitCode::done);
  for (const int64_t stop : {2, 4, 6}) {
    const std::string name = "half" + std::to_string(stop);
    EXPECT_EQ(run(options(name, {"data.threads=1"})), ExitCode::done);
    TrainOptions rest = options(name, {"data.threads=3"});
    rest.resume = root_ / name / "checkpoints" / ("step-" + std::to_string(stop));
    EXPECT_EQ(run(rest), ExitCode::done);
    EXPECT_EQ(metrics("whole"), metrics(name)) << "resumed at " << stop;
    EXPECT_EQ(hashes("whole"), hashes(name)) << "resumed at " << stop;
  }
}

TEST_F(PretrainTest, ARunThatIsThereIsNotOverwritten) {
  EXPECT_EQ(run(options("once")), ExitCode::done);
  EXPECT_THROW((void)run(options("once")), UserError);
  TrainOptions again = options("once");
  again.again = true;
  EXPECT_EQ(run(again), ExitCode::done);
}

TEST_F(PretrainTest, AnotherConfigIsNotResumedUnlessToldTo) {
  EXPECT_EQ(run(options("changed")), ExitCode::done);
  TrainOptions other = options("changed", {"optim.adamw.beta2=0.9", "train.steps=9"});
  other.resume = root_ / "changed";
  EXPECT_THROW((void)run(other), UserError);
  other.allow_changes = true;
  EXPECT_EQ(run(other), ExitCode::done);
}

TEST_F(PretrainTest, ATraceHasTheStepsAskedFor) {
  const auto steps = [](const Path& file) {
    std::set<int64_t> found;
    const auto trace = nlohmann::json::parse(read_file(file, 1 << 28));
    for (const auto& event : trace.at("traceEvents")) {
      if (event.at("ph") == "X") found.insert(event.at("args").at("step").get<int64_t>());
    }
    return found;
  };
  EXPECT_EQ(run(options("plain")), ExitCode::done);
  TrainOptions traced = options("traced", {"train.trace.after=1", "train.trace.steps=2"});
  traced.trace = root_ / "trace.json";
  EXPECT_EQ(run(traced), ExitCode::done);
  EXPECT_EQ(steps(traced.trace), (std::set<int64_t>{2, 3}));
  EXPECT_EQ(hashes("traced"), hashes("plain"));

  // A resumed run counts from where it starts, and one that ends early writes what it has.
  traced.resume = root_ / "traced" / "checkpoints" / "step-6";
  traced.config.mutable_train()->mutable_trace()->set_steps(9);
  EXPECT_EQ(run(traced), ExitCode::done);
  EXPECT_EQ(steps(traced.trace), (std::set<int64_t>{8}));

  traced.trace = root_ / "no_trace.json";
  traced.config.mutable_train()->mutable_trace()->set_after(2);
  EXPECT_EQ(run(traced), ExitCode::done);
  EXPECT_FALSE(std::filesystem::exists(traced.trace));
}

TEST_F(PretrainTest, ThePredictionOfItsStepIsTheLastRow) {
  TrainOptions options = this->options("predicted");
  options.predict = [](const config::RunConfig& run) {
    EXPECT_EQ(run.model().d_model(), 32);
    return std::optional<Prediction>({{10, 20, 30}, 1e12});
  };
  ASSERT_EQ(run(options), ExitCode::done);
  std::ifstream in(root_ / "predicted" / "metrics.jsonl");
  std::string last;
  for (std::string line; std::getline(in, line);) last = line;
  const auto row = nlohmann::json::parse(last);
  EXPECT_EQ(row["step"], 8);
  EXPECT_EQ(row["predicted_step_s"], 60.0);
  EXPECT_EQ(row["predicted_bytes"], 1e12);
  const double measured = row["measured_step_s"];
  EXPECT_GT(measured, 0);
  EXPECT_LT(measured, 60);
  EXPECT_DOUBLE_EQ(row["step_s_error"].get<double>(), 60 / measured - 1);
  EXPECT_GT(row["measured_bytes"].get<double>(), 0);
}

TEST_F(PretrainTest, ASignalSavesAndLeaves) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    const std::string name = "signal" + std::to_string(signal);
    TrainOptions long_run =
        options(name, {"train.steps=100000", "train.checkpoint.every=0", "train.validate.every=0"});
    std::thread killer([&] {
      EXPECT_TRUE(toroid::testing::comes_true([&] { return !metrics(name).empty(); }))
          << "the run wrote no row";
      std::raise(signal);
    });
    EXPECT_EQ(run(long_run), ExitCode::saved_on_signal);
    killer.join();
    EXPECT_GT(CheckpointReader(root_ / name).state().step, 0);
  }
}

TEST_F(PretrainTest, TooManySkippedStepsStopTheRun) {
  // A rate that throws the weights out of range: every later loss is infinite or not a number.
  EXPECT_EQ(run(options("skips", {"optim.schedule.cosine.peak=0.999", "optim.schedule.cosine.warmup=0",
                                  "optim.adamw.weight_decay=0", "optim.skip.zscore=1e-6",
                                  "optim.skip.warmup=1", "optim.skip.max_consecutive=2", "train.steps=60"})),
            ExitCode::too_many_skips);
  EXPECT_NE(metrics("skips").find("\"skipped\":true"), std::string::npos);
}

TEST_F(PretrainTest, StartsFromImportedWeights) {
  EXPECT_EQ(run(options("teacher")), ExitCode::done);
  make_directories(root_ / "teacher/huggingface");
  write_file(root_ / "teacher/huggingface/generation_config.json", "{}");
  TrainOptions student = options("student", {"train.init_from=" + (root_ / "teacher").string(),
                                             "train.steps=1", "optim.schedule.cosine.peak=1e-12",
                                             "optim.schedule.cosine.warmup=0", "optim.adamw.weight_decay=0"});
  EXPECT_EQ(run(student), ExitCode::done);
  EXPECT_EQ(CheckpointReader(root_ / "student").state().step, 1);
  EXPECT_EQ(read_file(root_ / "student/huggingface/generation_config.json", 100), "{}");  // for an export
  std::vector<float> from(32), to(32);
  CheckpointReader(root_ / "teacher")
      .read("model.norm.weight", "master", 0, std::as_writable_bytes(std::span(from)));
  CheckpointReader(root_ / "student")
      .read("model.norm.weight", "master", 0, std::as_writable_bytes(std::span(to)));
  for (size_t i = 0; i < from.size(); ++i) EXPECT_NEAR(from[i], to[i], 1e-9);
}

// --- one more operator, optimizer, schedule and data source, all in this file and all named by the config
// ---

// w = w - rate * sign(gradient): the simplest rule there is.
void sign_descent_reference(const Call& call) {
  const auto *gradient = call[0].as<float>(), *control = call[1].as<float>();
  auto* master = call[2].as<float>();
  if (control[op::apply] == 0) return;
  for (int64_t i = 0; i < call[0].elements(); ++i) {
    const float sign = gradient[i] > 0 ? 1.0f : gradient[i] < 0 ? -1.0f : 0.0f;
    master[i] -= control[op::rate] * sign;
  }
}

Cost sign_descent_cost(const Call& call) {
  Cost cost;
  cost.vector_flops = 2 * call[0].elements();
  cost.bytes_read = 2 * call[0].bytes();
  cost.bytes_written = call[0].bytes();
  return cost;
}

const OpKind sign_descent_kind{"sign_descent", sign_descent_cost, sign_descent_reference, nullptr};

class SignDescent final : public optim::Optimizer {
 public:
  std::vector<std::string> states(const UpdatedTensor&) const override { return {}; }
  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor>, const UpdatedTensor&) const override {
    Call call;
    call.kind = &sign_descent_kind;
    call.operands = {{gradient, Access::in}, {scalars.control, Access::in}, {master, Access::inout}};
    call.phase = Phase::optimizer;
    device.launch(call);
  }
};

// The next token's loss, which says of itself that it is no likelihood.
class CountingObjective final : public Objective {
 public:
  explicit CountingObjective(std::atomic<int>& calls) : calls_(calls) {}
  bool is_likelihood() const override { return false; }
  std::vector<std::string> metrics() const override { return {"again"}; }
  void loss(Context& c, const HeadInputs& in, const Tensor& x, const Tensor& token_loss,
            std::span<const Tensor> metrics) const override {
    ++calls_;
    next_token_->loss(c, in, x, token_loss, {});
    c.device.copy(metrics[0], token_loss);
  }
  Array gradient(Context& c, const HeadInputs& in, Array x, const Tensor& token_loss,
                 const HeadGradients& to) const override {
    ++calls_;
    return next_token_->gradient(c, in, std::move(x), token_loss, to);
  }

 private:
  std::atomic<int>& calls_;
  std::unique_ptr<Objective> next_token_ = make_next_token();
};

class CountingSource final : public Source {
 public:
  explicit CountingSource(size_t documents) : documents_(documents) {}
  size_t parts() const override { return documents_; }
  SourceCounts read(size_t part, const DocumentSink& sink) const override {
    std::string text;
    for (size_t j = 0; j < 40; ++j) text += "made up " + std::to_string(part * 1000 + j) + " ";
    SourceCounts counts;
    counts.files = counts.documents = 1;
    sink(Document{text, std::to_string(part)});
    return counts;
  }
  std::string identity() const override { return "counting " + std::to_string(documents_); }

 private:
  size_t documents_;
};

class EvenFilter final : public Filter {
 public:
  Verdict apply(Document& document) const override {
    return {(document.id.back() - '0') % 2 == 0 ? "" : "odd"};
  }
};

TEST_F(PretrainTest, OneMoreOfEverythingIsAFileAndALine) {
  Plugins plugins;
  plugins.optimizers.add("sign_descent",
                         [](const config::OptimConfig&) { return std::make_unique<SignDescent>(); });
  plugins.schedules.add("halving", [](const config::ScheduleConfig& config) {
    const double peak = optim::parameter(config, "peak");
    return [peak](int64_t step) {
      return peak / static_cast<double>(int64_t{1} << std::min<int64_t>(step, 40));
    };
  });
  std::atomic<int> calls = 0;
  plugins.objectives.add(
      "counting", [&](const config::ObjectiveConfig&) { return std::make_unique<CountingObjective>(calls); });
  plugins.devices["CPU"].kernels = [](int threads, Bf16Products products) {
    auto kernels = make_cpu_kernels(threads, products);
    kernels->add(sign_descent_kind,
                 {[](const Call& call, const LaunchContext&) { sign_descent_reference(call); }, nullptr});
    return kernels;
  };
  SourceRegistry sources = builtin_sources();
  sources.add("counting",
              [](const config::SourceConfig&, const Path&) { return std::make_unique<CountingSource>(60); });
  FilterRegistry filters = builtin_filters();
  filters.add("even",
              [](const config::FilterConfig&, const std::string&) { return std::make_unique<EvenFilter>(); });

  const std::vector<std::string> overrides{
      "data.directory=" + (root_ / "more").string(),  "data.source[0].custom.name=counting",
      "data.source[0].filter[0].custom.name=even",    "optim.custom.name=sign_descent",
      "train.objective.custom.name=counting",         "train.validate.every=1",
      "optim.schedule.custom.name=halving",           "optim.schedule.custom.parameter[0].key=peak",
      "optim.schedule.custom.parameter[0].value=1e-3"};
  TrainOptions options = RunsTest::options("more_run", overrides);
  const Prepared prepared = prepare(options.config.data(), sources, filters);
  EXPECT_EQ(prepared.manifest.sources[0].counts.documents, 30);
  EXPECT_NO_THROW(plugins.check(options.config));
  EXPECT_THROW(Plugins().check(options.config), UserError);
  EXPECT_EQ(run(options, plugins), ExitCode::done);
  EXPECT_GT(calls, 0);
  EXPECT_NE(metrics("more_run").find("\"perplexity\":null"), std::string::npos) << metrics("more_run");
  const std::string rows = metrics("more_run"), last = rows.substr(0, rows.rfind("\"validation_targets\""));
  const auto validated =
      nlohmann::json::parse(rows.substr(last.rfind('{'), rows.find('\n', last.size()) - last.rfind('{')));
  EXPECT_EQ(validated.at("validation_again"), validated.at("validation_loss"));
  EXPECT_NE(metrics("more_run").find("\"learning_rate\":0.000500"), std::string::npos) << metrics("more_run");
}

}  // namespace
}  // namespace toroid::train
