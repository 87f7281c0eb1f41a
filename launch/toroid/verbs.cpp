#include <CLI/CLI.hpp>
#include <utility>

#include "launch/toroid/verb.h"

namespace toroid::launch {

struct Verbs::Impl {
  CLI::App& program;
  std::function<ExitCode()> chosen;
};

Verbs::Verbs(CLI::App& program) : impl_(new Impl{program, {}}) {}
Verbs::~Verbs() = default;

CLI::App& Verbs::add(const std::string& name, const std::string& help, const std::string& group,
                     std::function<ExitCode()> run) {
  CLI::App* parent = &impl_->program;
  std::string last = name;
  if (const size_t space = name.find(' '); space != std::string::npos) {
    const std::string outer = name.substr(0, space);
    last = name.substr(space + 1);
    const auto found =
        impl_->program.get_subcommands([&](const CLI::App* app) { return app->get_name() == outer; });
    if (!found.empty()) {
      parent = found.front();
    } else {
      parent = impl_->program.add_subcommand(outer,
                                             "Verbs about " + outer + "; see `toroid " + outer + " --help`");
      parent->group(group);
      parent->require_subcommand(1);
    }
  }
  CLI::App* verb = parent->add_subcommand(last, help);
  verb->group(parent == &impl_->program ? group : "Verbs");
  verb->callback([impl = impl_.get(), run = std::move(run)] { impl->chosen = run; });
  return *verb;
}

ExitCode Verbs::run() const {
  require(impl_->chosen != nullptr, "a verb was typed");
  return impl_->chosen();
}

}  // namespace toroid::launch
