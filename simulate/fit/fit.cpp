#include "simulate/fit/fit.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <unsupported/Eigen/NonLinearOptimization>
#include <unsupported/Eigen/NumericalDiff>

#include "core/base/error.h"
#include "core/base/text.h"
#include "parallel/mesh/mesh.pb.h"
#include "parallel/schedule/schedule.h"
#include "simulate/play/chips.h"
#include "simulate/play/network.h"
#include "simulate/play/simulate.h"
#include "train/config/load.h"
#include "train/engine/engine.h"

namespace toroid::train {
namespace {

using config::Calibration;

double model_flops(const config::RunConfig& run, Calibration::Flops convention) {
  const DecoderConfig model = decoder_config(run.model());
  const ParameterCount count = count_parameters(model);
  const auto sequences = static_cast<double>(run.batch().global_sequences());
  const auto tokens = static_cast<double>(run.batch().tokens_per_sequence());
  const double pairs = convention == Calibration::CAUSAL ? tokens * tokens / 2 : tokens * tokens;
  return 6 * static_cast<double>(count.other + count.embedding) * tokens * sequences +
         12 * static_cast<double>(model.local.size()) * static_cast<double>(model.heads * model.head_dim) *
             pairs * sequences;
}

// Residuals of values that are kept within bounds by x = middle + half sin(t).
struct Problem {
  using Scalar = double;
  using InputType = Eigen::VectorXd;
  using ValueType = Eigen::VectorXd;
  using JacobianType = Eigen::MatrixXd;
  enum { InputsAtCompileTime = Eigen::Dynamic, ValuesAtCompileTime = Eigen::Dynamic };

  std::function<std::vector<double>(const Values&)> errors;
  std::vector<size_t> free;  // which constants are fitted
  Values start, least, most;
  int count = 0;  // of errors

  int inputs() const { return static_cast<int>(free.size()); }
  int values() const { return count; }  // Eigen's name

  Values at(const Eigen::VectorXd& t) const {
    Values out = start;
    for (size_t i = 0; i < free.size(); ++i) {
      const size_t c = free[i];
      const double share = (1 + std::sin(t[static_cast<Eigen::Index>(i)])) / 2;
      out[c] = least[c] + (most[c] - least[c]) * share;
    }
    return out;
  }
  int operator()(const Eigen::VectorXd& t, Eigen::VectorXd& out) const {
    const std::vector<double> all = errors(at(t));
    out = Eigen::Map<const Eigen::VectorXd>(all.data(), static_cast<Eigen::Index>(all.size()));
    return 0;
  }
};

}  // namespace

Calibrator::Calibrator(Calibration calibration, const Path& file, const Plugins& plugins)
    : calibration_(std::move(calibration)) {
  for (int i = 0; i < calibration_.training_size(); ++i) {
    const Calibration::Training& training = calibration_.training(i);
    const Path recipe = file.parent_path() / training.recipe();
    int64_t sequences = 0;
    for (const Calibration::Run& published : training.run()) {
      std::vector<std::string> overrides(training.set().begin(), training.set().end());
      if (published.pods() > 1) {
        overrides.push_back("mesh.pods=" + std::to_string(published.pods()));
        overrides.push_back("batch.global_sequences=" + std::to_string(published.pods() * sequences));
      }
      const config::RunConfig run = config::load(recipe, overrides).run;
      if (published.pods() == 1) sequences = run.batch().global_sequences();
      if (run.simulate().program().empty())
        throw UserError(printable(recipe.string()) + " names no simulate.program, and calibration is of one");
      Point point;
      point.training = static_cast<size_t>(i);
      point.pods = published.pods();
      point.flops = model_flops(run, training.flops());
      point.published_mfu = published.mfu_percent() / 100;
      point.chip = read_chip(run.chip(), recipe);
      point.program = run.simulate().program();
      sim::Network network(mesh::Mesh(run.mesh()), point.chip);
      const mesh::Mesh& mesh = network.mesh();
      const auto peak = point.chip.peak_flops_per_s.find(DType::bf16);
      if (peak == point.chip.peak_flops_per_s.end())
        throw UserError("chip " + point.chip.name + " has no peak for bf16, of which MFU is a share");
      point.peak_flops_per_s = peak->second * mesh.world_size();
      for (const SimulatedRole& role : record_roles(run, mesh, point.chip, plugins)) {
        point.roles.emplace_back(role.records, network, run.simulate().parallel_layers());
        point.peak_bytes = std::max(point.peak_bytes, role.memory.bytes_peak);
      }
      points_.push_back(std::move(point));
    }
  }
  for (const Calibration::Collective& measured : calibration_.collective()) {
    Collective& out = collectives_.emplace_back();
    out.chip = read_chip(measured.chip(), file);
    config::MeshConfig mesh;
    int64_t others = 1;
    for (const int64_t size : measured.torus()) {
      mesh.add_torus(size);
      others *= size;
    }
    const int64_t ranks = measured.torus(static_cast<int>(measured.gathered()));
    mesh.set_model(ranks);
    mesh.set_data(others / ranks);
    out.mesh = std::make_unique<mesh::Mesh>(mesh);
    const sim::Network network(*out.mesh, out.chip);
    out.info.operation = "all_gather";
    out.info.axis = mesh::name(mesh::Axis::model);
    out.info.bytes = out.info.wire_bytes = measured.bytes();
    out.info.ranks = static_cast<int>(ranks);
    out.info.method = schedule::name(schedule::automatic_algorithm(
        schedule::Operation::all_gather, network.mesh().shape(mesh::Axis::model), measured.bytes(), false));
  }
}

Values Calibrator::values() const {
  Values out;
  for (const auto& constant : calibration_.constant()) out.push_back(constant.value());
  return out;
}

Calibration Calibrator::with(const Values& values) const {
  Calibration out;
  *out.mutable_constant() = calibration_.constant();
  for (size_t i = 0; i < values.size(); ++i) out.mutable_constant(static_cast<int>(i))->set_value(values[i]);
  return out;
}

Seconds Calibrator::step_of(const Point& point, const Calibration& constants) const {
  sim::Chip chip = point.chip;
  chip.constants = fitted_constants(constants, chip.name).value_or(sim::ChipConstants{});
  const ProgramConstants program = program_constants(constants, point.program);
  Seconds longest{0};
  for (const ProgramStep& role : point.roles) longest = std::max(longest, role.time(chip, program).total());
  return longest;
}

Residuals Calibrator::evaluate(const Values& values) const {
  const Calibration constants = with(values);
  Residuals out;
  double squares = 0, one_pod = 0, one_pod_published = 0;
  int counted = 0;
  for (const Point& point : points_) {
    const Calibration::Training& training = calibration_.training(static_cast<int>(point.training));
    RunError run;
    run.model = training.name();
    run.pods = point.pods;
    run.published_mfu = point.published_mfu;
    run.step = step_of(point, constants);
    run.mfu = point.flops / point.peak_flops_per_s / run.step.count();
    run.error = run.mfu / run.published_mfu - 1;
    run.peak_bytes = point.peak_bytes;
    const double published = point.flops / point.peak_flops_per_s / point.published_mfu;
    if (point.pods == 1) {
      one_pod = run.step.count();
      one_pod_published = published;
    }
    run.ratio_error = run.step.count() / one_pod / (published / one_pod_published) - 1;
    if (training.most_ratio_percent() > 0) {
      squares += run.error * run.error;
      ++counted;
    }
    out.runs.push_back(run);
  }
  if (counted > 0) out.rms = std::sqrt(squares / counted);
  for (size_t i = 0; i < collectives_.size(); ++i) {
    const Collective& collective = collectives_[i];
    sim::Chip chip = collective.chip;
    chip.constants = fitted_constants(constants, chip.name).value_or(sim::ChipConstants{});
    CollectiveError error;
    error.name = calibration_.collective(static_cast<int>(i)).name();
    error.measured = Seconds(calibration_.collective(static_cast<int>(i)).seconds());
    error.simulated = sim::Network(*collective.mesh, chip).flow(collective.info).alone();
    error.error = error.simulated / error.measured - 1;
    out.collectives.push_back(error);
  }
  return out;
}

std::vector<double> Calibrator::errors(const Values& values, const std::string& without) const {
  const Residuals residuals = evaluate(values);
  std::vector<double> out;
  for (size_t i = 0; i < residuals.runs.size(); ++i) {
    const Calibration::Training& training = calibration_.training(static_cast<int>(points_[i].training));
    if (training.weight() == 0 || training.name() == without) continue;
    const RunError& run = residuals.runs[i];
    out.push_back(training.weight() * (run.published_mfu / run.mfu - 1));  // of the step's time
  }
  for (const CollectiveError& collective : residuals.collectives) out.push_back(collective.error);
  return out;
}

Values Calibrator::fit(const std::string& without) const {
  Problem problem;
  problem.start = values();
  problem.errors = [&](const Values& values) { return errors(values, without); };
  for (int i = 0; i < calibration_.constant_size(); ++i) {
    const auto& constant = calibration_.constant(i);
    problem.least.push_back(constant.least());
    problem.most.push_back(constant.most());
    if (constant.fitted_on_size() > 0) problem.free.push_back(static_cast<size_t>(i));
  }
  problem.count = static_cast<int>(problem.errors(problem.start).size());
  if (problem.count < problem.inputs()) {
    throw UserError("there are " + std::to_string(problem.inputs()) + " constants to fit on " +
                    std::to_string(problem.count) + " points; at least as many points are needed");
  }
  Eigen::NumericalDiff<Problem, Eigen::Central> functor(problem);
  Values best;
  double least = 0;
  for (const double share : {0.1, 0.3, 0.5, 0.7}) {
    Eigen::VectorXd t(problem.inputs()), left;
    for (Eigen::Index i = 0; i < t.size(); ++i) {
      // Different for each constant, and never at a bound, where the sine is flat.
      const double at = std::fmod(share + std::numbers::phi * static_cast<double>(i), 1.0);
      t[i] = std::asin(2 * (0.05 + 0.9 * at) - 1);
    }
    Eigen::LevenbergMarquardt<decltype(functor)> solver(functor);
    solver.parameters.xtol = solver.parameters.ftol = 1e-12;
    solver.parameters.maxfev = 4000;
    solver.minimize(t);
    problem(t, left);
    if (best.empty() || left.squaredNorm() < least) {
      least = left.squaredNorm();
      best = problem.at(t);
    }
  }
  return best;
}

Residuals Calibrator::with_left_out(const Values& values) const {
  Residuals out = evaluate(values);
  out.left_out = true;
  for (const Calibration::Training& training : calibration_.training()) {
    if (training.weight() == 0) continue;
    const Residuals without = evaluate(fit(training.name()));
    for (size_t i = 0; i < out.runs.size(); ++i) {
      if (out.runs[i].model == training.name()) out.runs[i].left_out_error = without.runs[i].error;
    }
  }
  return out;
}

}  // namespace toroid::train
