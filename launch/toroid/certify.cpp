// toroid certify: trains the same steps under each of several layouts and compares them bit by bit.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/job_directory.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/verb.h"
#include "train/certify/certificate.h"

namespace toroid::launch {
namespace {

constexpr const char* kLayouts =
    "1x1; 2x2; 4x1; 1x4; 4x4; pods 2 of 2x2; model 2 of 4x2; model 4 of 4x4; zero 0,1,2,3";

struct CertifyFlags {
  ConfigFlags config;
  std::string layouts = kLayouts;
  int64_t steps = 8;
  bool fast = false;
  // What this verb tells the ranks of one layout, which it starts itself.
  std::string layout, report;
  int64_t sequences = 0;
};

// Where the certificate is longer than the run, what follows from the run's length follows from it: a
// schedule that ended before would let the layouts agree at rate 0.
config::RunConfig load_run(const CertifyFlags& flags) {
  config::RunConfig run = load_config(flags.config).run;
  if (flags.steps <= run.train().steps()) return run;
  ConfigFlags longer = flags.config;
  longer.overrides.push_back("train.steps=" + std::to_string(flags.steps));
  return load_config(longer).run;
}

// One rank of one layout.
ExitCode run_rank(const CertifyFlags& flags, const train::Plugins& plugins) {
  config::RunConfig run = load_run(flags);
  const train::Layout layout = train::parse_layouts(flags.layout).at(0);
  run = train::certified_config(run, {layout}, flags.steps);
  run.mutable_batch()->set_global_sequences(flags.sequences);
  run.mutable_train()->set_deterministic(!flags.fast);
  layout.apply(run);
  config::validate(run);
  train::CpuRank rank = train::join_on_cpu(run, plugins);
  const bool leads = rank.world->rank() == 0;
  train::LayoutRun out = train::run_layout(run, std::move(rank.world), std::move(rank.device), plugins);
  out.layout = flags.layout;
  if (leads) write_file(flags.report, train::to_text(out));
  return ExitCode::done;
}

class Certificate {
 public:
  explicit Certificate(const CertifyFlags& flags)
      : flags_(flags), layouts_(train::parse_layouts(flags.layouts)) {
    check_range("--steps", flags.steps, 1, 1'000'000);
    run_ = train::certified_config(load_run(flags), layouts_, flags.steps);
    // All of them now: a layout that does not fit would else end the certificate after those before it. Of
    // the list that nobody asked for, those are left out.
    const bool asked = flags.layouts != kLayouts;
    std::erase_if(layouts_, [&](const train::Layout& layout) {
      try {
        config::validate(deterministic(layout));
        return false;
      } catch (const UserError& error) {
        const std::string why = "the layout " + in_quotes(layout.text()) + " does not fit: " + error.what();
        if (asked) throw UserError(why);
        left_out_.push_back(why);
        return true;
      }
    });
    if (layouts_.empty()) throw UserError(left_out_.front());
  }

  ExitCode print() {
    std::cout << "certificate of " << printable(flags_.config.file) << ": " << flags_.steps << " steps of "
              << run_.batch().global_sequences() << " sequences under " << layouts_.size() << " layouts\n";
    for (const std::string& why : left_out_) std::cout << "left out: " << why << "\n";
    std::cout << "\n"
              << "deterministic mode: every layout must give the bits of " << layouts_[0].text() << "\n";
    const train::LayoutRun reference = launch(layouts_[0], false, {});
    for (size_t s = 0; s < reference.steps.size(); ++s) {
      const train::CertifiedStep& step = reference.steps[s];
      std::cout << fmt::format("  step {:2}  loss {:.9g}  norm {:.9g}  weights {}  moments {}\n", s + 1,
                               step.loss, step.gradient_norm, hex(step.weights), hex(step.moments));
    }
    for (size_t i = 0; i < layouts_.size(); ++i) {
      const train::LayoutRun run = i == 0 ? reference : launch(layouts_[i], false, {});
      const train::Verdict verdict = train::compare_bits(reference, run);
      report(layouts_[i].text(), verdict.passed, "bit-equal", verdict.findings);
      print_work(layouts_[i], run);
    }
    compare_fast();
    std::cout << "\n"
              << (failed_ == 0 ? "certified" : std::to_string(failed_) + " findings: not certified") << "\n";
    return failed_ == 0 ? ExitCode::done : ExitCode::internal_error;
  }

 private:
  config::RunConfig deterministic(const train::Layout& layout) const {
    config::RunConfig run = run_;
    run.mutable_train()->set_deterministic(true);
    layout.apply(run);
    return run;
  }

  // The fast mode may differ by twice what bf16 itself costs one rank.
  void compare_fast() {
    const std::vector<std::string> bf16{"train.precision=BF16"};
    const train::LayoutRun one = launch(layouts_[0], true, bf16);
    const train::LayoutRun exact = launch(layouts_[0], true, {"train.precision=FP32"});
    const double bound = 2 * train::deviation(exact, one);
    std::cout << fmt::format(
        "\nfast mode: largest relative deviation from {}, bound {:.3g} (twice bf16 from fp32)\n",
        layouts_[0].text(), bound);
    for (size_t i = 1; i < layouts_.size(); ++i) {
      const double deviation = train::deviation(one, launch(layouts_[i], true, bf16));
      report(layouts_[i].text(), deviation <= bound, fmt::format("deviates by {:.3g}", deviation),
             {fmt::format("deviates by {:.3g}, more than the bound", deviation)});
    }
  }

  train::LayoutRun launch(const train::Layout& layout, bool fast, const std::vector<std::string>& sets) {
    const JobDirectory directory;
    const Path file = directory.path() / "report.json";
    std::vector<std::string> arguments{"certify", "--config", flags_.config.file};
    for (const std::string& set : flags_.config.overrides) arguments.insert(arguments.end(), {"--set", set});
    for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
    arguments.insert(arguments.end(),
                     {"--steps", std::to_string(flags_.steps), "--rank-of", layout.text(), "--report",
                      file.string(), "--sequences", std::to_string(run_.batch().global_sequences())});
    if (fast) arguments.push_back("--fast");
    MpiJob job;
    job.ranks = layout.ranks();
    const int code = run_job(job, directory.path(), arguments);
    if (code != 0) {
      throw Error(static_cast<ExitCode>(code), "the layout " + layout.text() + " ended with exit code " +
                                                   std::to_string(code) + "; its ranks say why above");
    }
    return train::layout_run(read_file(file, int64_t{1} << 30), layout.text());
  }

  void report(const std::string& layout, bool passed, const std::string& good,
              const std::vector<std::string>& findings) {
    std::cout << fmt::format("  {:<28} ", layout) << (passed ? "pass  " + good : "FAIL") << "\n";
    if (passed) return;
    ++failed_;
    for (const std::string& finding : findings) std::cout << "      " << finding << "\n";
  }

  // That the work was shared: what the ranks did against the layout's formula.
  void print_work(const train::Layout& layout, const train::LayoutRun& run) {
    const train::PlannedWork work = train::planned_work(deterministic(layout));
    for (const std::string& line : train::describe(work)) std::cout << "      " << line << "\n";
    const std::vector<std::string> findings = train::compare_work(work, run.work);
    failed_ += static_cast<int>(findings.size());
    if (findings.empty()) {
      std::cout << "      equal to what " << (work.ranks == 1 ? "the rank" : "each rank") << " recorded\n";
      return;
    }
    std::cout << "      FAIL  the work was not shared so:\n";
    for (const std::string& finding : findings) std::cout << "      " << finding << "\n";
  }

  const CertifyFlags& flags_;
  std::vector<train::Layout> layouts_;
  config::RunConfig run_;
  std::vector<std::string> left_out_;
  int failed_ = 0;
};

ExitCode certify(const CertifyFlags& flags, const train::Plugins& plugins) {
  if (!flags.layout.empty()) return run_rank(flags, plugins);
  return Certificate(flags).print();
}

}  // namespace

void add_certify(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<CertifyFlags>();
  CLI::App& app =
      verbs.add("certify", "Show that layouts compute the same: toroid certify --config FILE --layouts LIST",
                "Training", [flags, &plugins] { return certify(*flags, plugins); });
  add_config_flags(app, flags->config);
  app.add_option("--layouts", flags->layouts,
                 "Layouts, separated by semicolons: [pods P of] [model M of] RxC [zero S], or zero S,S,...; "
                 "the first "
                 "is what the others are compared with")
      ->type_name("LIST")
      ->capture_default_str();
  app.add_option("--steps", flags->steps, "Steps under each layout")->capture_default_str();
  app.add_flag("--fast", flags->fast)->group("");
  app.add_option("--rank-of", flags->layout)->group("");
  app.add_option("--report", flags->report)->group("");
  app.add_option("--sequences", flags->sequences)->group("");
}

}  // namespace toroid::launch
