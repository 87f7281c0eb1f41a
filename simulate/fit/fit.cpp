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
  const double pairs = convention == Calibration::FULL_ATTENTION ? tokens * tokens
                       : convention == Calibration::CAUSAL       ? tokens * tokens / 2
                                                                 : 0;
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
      Point point;
      point.training = static_cast<size_t>(i);
      point.pods = published.pods();
      point.flops = model_flops(run, training.flops());
      point.published_mfu = published.mfu_percent() / 100;
      point.chip = read_chip(run.chip(), recipe);
      const sim::Network network = network_of(run, point.chip);
      const auto peak = point.chip.peak_flops_per_s.find(DType::bf16);
      if (peak == point.chip.peak_flops_per_s.end())
        throw UserError("chip " + point.chip.name + " has no peak for bf16, of which MFU is a share");
      point.peak_flops_per_s = peak->second * network.mesh().world_size();
      point.roles = record_roles(run, network.mesh(), point.chip, plugins);
      point.run = run;
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

bool Calibrator::counts(const Point& point, const std::string& without) const {
  const Calibration::Training& training = calibration_.training(static_cast<int>(point.training));
  return training.weight() > 0 && training.name() != without;
}

Seconds Calibrator::step_of(const Point& point, const Calibration& constants) const {
  sim::Chip chip = point.chip;
  (void)set_fitted(constants, chip);
  return play_step(point.run, chip, point.roles).step;
}

NullModel Calibrator::null_model(const std::string& without) const {
  std::vector<NullModel::Point> points;
  for (const Point& point : points_) {
    if (counts(point, without))
      points.push_back({point.flops / point.peak_flops_per_s, point.published(), point.pods});
  }
  return NullModel::fit(points);
}

CollectiveError Calibrator::collective_error(size_t i, const Calibration& constants) const {
  const Collective& collective = collectives_[i];
  const Calibration::Collective& measured = calibration_.collective(static_cast<int>(i));
  sim::Chip chip = collective.chip;
  (void)set_fitted(constants, chip);
  CollectiveError out;
  out.name = measured.name();
  out.measured = Seconds(measured.seconds());
  out.simulated = sim::Network(*collective.mesh, chip).flow(collective.info).alone();
  out.error = out.simulated / out.measured - 1;
  return out;
}

Residuals Calibrator::evaluate(const Values& values) const {
  const Calibration constants = with(values);
  const NullModel null = null_model("");
  Residuals out;
  double squares = 0, null_squares = 0, one_pod = 0, one_pod_published = 0;
  int counted = 0;
  for (const Point& point : points_) {
    const Calibration::Training& training = calibration_.training(static_cast<int>(point.training));
    RunError run;
    run.model = training.name();
    run.pods = point.pods;
    run.published_mfu = point.published_mfu;
    run.step = step_of(point, constants);
    const double ideal = point.flops / point.peak_flops_per_s, published = point.published();
    run.mfu = ideal / run.step.count();
    run.error = run.mfu / run.published_mfu - 1;
    run.null_error = published / null.seconds(ideal, point.pods) - 1;
    for (const SimulatedRole& role : point.roles)
      run.peak_bytes = std::max(run.peak_bytes, role.placed_bytes);
    if (point.pods == 1) {
      one_pod = run.step.count();
      one_pod_published = published;
    }
    run.ratio_error = run.step.count() / one_pod / (published / one_pod_published) - 1;
    if (counts(point, "")) {
      squares += run.error * run.error;
      null_squares += run.null_error * run.null_error;
      ++counted;
    }
    out.runs.push_back(run);
  }
  if (counted > 0) {
    out.rms = std::sqrt(squares / counted);
    out.null_rms = std::sqrt(null_squares / counted);
  }
  for (size_t i = 0; i < collectives_.size(); ++i) out.collectives.push_back(collective_error(i, constants));
  return out;
}

std::vector<double> Calibrator::errors(const Values& values, const std::string& without) const {
  const Calibration constants = with(values);
  std::vector<double> out;
  double one_pod = 1;  // simulated / published
  for (const Point& point : points_) {
    if (!counts(point, without)) continue;
    const Calibration::Training& training = calibration_.training(static_cast<int>(point.training));
    const double ratio = step_of(point, constants).count() / point.published();
    out.push_back(training.weight() * (ratio - 1));
    if (point.pods == 1) one_pod = ratio;
    // An error counts by how much of its bound it takes.
    const double finer = training.most_ratio_percent() > 0 && training.most_error_percent() > 0
                             ? training.most_error_percent() / training.most_ratio_percent()
                             : 1;
    if (point.pods > 1) out.push_back(training.weight() * finer * (ratio / one_pod - 1));
  }
  for (size_t i = 0; i < collectives_.size(); ++i) out.push_back(collective_error(i, constants).error);
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
  Eigen::NumericalDiff<Problem> functor(problem);
  Values best;
  double least = 0;
  for (const double share : {0.3, 0.6}) {
    Eigen::VectorXd t(problem.inputs()), left;
    for (Eigen::Index i = 0; i < t.size(); ++i) {
      // Different for each constant, and never at a bound, where the sine is flat.
      const double at = std::fmod(share + std::numbers::phi * static_cast<double>(i), 1.0);
      t[i] = std::asin(2 * (0.05 + 0.9 * at) - 1);
    }
    Eigen::LevenbergMarquardt<decltype(functor)> solver(functor);
    solver.parameters.xtol = solver.parameters.ftol = 1e-8;
    solver.parameters.maxfev = 400;
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
  double squares = 0, null_squares = 0;
  int counted = 0;
  for (const Calibration::Training& training : calibration_.training()) {
    if (training.weight() == 0) continue;
    const Calibration constants = with(fit(training.name()));
    const NullModel null = null_model(training.name());
    for (size_t i = 0; i < out.runs.size(); ++i) {
      RunError& run = out.runs[i];
      if (run.model != training.name()) continue;
      const Point& point = points_[i];
      run.left_out_error = point.published() / step_of(point, constants).count() - 1;
      run.null_left_out =
          point.published() / null.seconds(point.flops / point.peak_flops_per_s, point.pods) - 1;
      squares += run.left_out_error * run.left_out_error;
      null_squares += run.null_left_out * run.null_left_out;
      ++counted;
    }
  }
  if (counted > 0) {
    out.left_out_rms = std::sqrt(squares / counted);
    out.null_left_out_rms = std::sqrt(null_squares / counted);
  }
  return out;
}

double NullModel::seconds(double ideal, int64_t pods) const {
  const double more = pods > 1 ? second_pod + each_pod * static_cast<double>(pods - 2) : 0;
  return ideal / efficiency * (1 + more);
}

// seconds / measured - 1 is linear in 1 / efficiency and its products with the other two.
NullModel NullModel::fit(const std::vector<Point>& points) {
  const auto rows = static_cast<Eigen::Index>(points.size());
  Eigen::MatrixXd terms(rows, 3);
  for (Eigen::Index i = 0; i < rows; ++i) {
    const Point& point = points[static_cast<size_t>(i)];
    const double share = point.ideal / point.seconds;
    terms(i, 0) = share;
    terms(i, 1) = point.pods > 1 ? share : 0;
    terms(i, 2) = point.pods > 1 ? share * static_cast<double>(point.pods - 2) : 0;
  }
  const Eigen::VectorXd found = terms.completeOrthogonalDecomposition().solve(Eigen::VectorXd::Ones(rows));
  return {1 / found[0], found[1] / found[0], found[2] / found[0]};
}

}  // namespace toroid::train
