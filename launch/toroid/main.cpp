// The only place that ends the process: what is thrown becomes one sentence and an exit code
// (docs/exit_codes.md).
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/device_error.h"
#include "launch/toroid/mpirun.h"
#include "launch/toroid/verb.h"
#include "launch/toroid/version.h"
#include "train/engine/cuda/cuda_maker.h"
#include "train/engine/plugins.h"
#include "train/ranks/meeting.h"

namespace {

using namespace toroid;

train::Plugins all_plugins() {
  train::Plugins out;
  out.devices["CUDA"] = train::cuda_maker();
  return out;
}

void add_verbs(launch::Verbs& verbs, const train::Plugins& plugins) {
  launch::add_prepare(verbs);
  launch::add_data_show(verbs);
  launch::add_data_entropy(verbs);
  launch::add_train(verbs, plugins);
  launch::add_launch(verbs, plugins);
  launch::add_curves(verbs);
  launch::add_certify(verbs, plugins);
  launch::add_checkpoint_ls(verbs);
  launch::add_checkpoint_verify(verbs);
  launch::add_checkpoint_show(verbs);
  launch::add_checkpoint_diff(verbs);
  launch::add_checkpoint_convert(verbs);
  launch::add_checkpoint_prune(verbs);
  launch::add_mesh(verbs);
  launch::add_simulate(verbs, plugins);
  launch::add_calibrate(verbs, plugins);
  launch::add_generate(verbs, plugins);
  launch::add_import(verbs);
  launch::add_export(verbs);
  launch::add_doctor(verbs);
  launch::add_bench(verbs, plugins);
  launch::add_bench_collectives(verbs, plugins);
  launch::add_bench_kernels(verbs, plugins);
}

// One of the ranks that mpirun started: its number; nullptr: not one of several processes.
const char* rank_of_mpirun() {
  return std::getenv("OMPI_COMM_WORLD_RANK");
}

int exit_code(ExitCode code) {
  if (code == ExitCode::internal_error && rank_of_mpirun() != nullptr) return launch::kInternalErrorOfARank;
  return static_cast<int>(code);
}

// What is wrong with a config is wrong for every rank: the first one says so, and its end ends the others
// while they wait, which mpirun does after a second. What is wrong on another rank alone is said by that one,
// and a GPU's fault at once: its peers, whose deadlines run, would end the job before the reason is said.
void let_the_first_rank_speak() {
  const char* const rank = rank_of_mpirun();
  if (rank != nullptr && std::strcmp(rank, "0") != 0) std::this_thread::sleep_for(std::chrono::seconds(2));
}

int say(ExitCode code, const std::string& message) {
  std::cerr << "toroid: " << message << "\n";
  return exit_code(code);
}

int fail(ExitCode code, const std::string& message) {
  std::cout.flush();
  if (code == ExitCode::bad_input || code == ExitCode::system_error || message.empty())
    let_the_first_rank_speak();
  if (message.empty()) return exit_code(code);  // the first rank says why
  return say(code, message);
}

std::string nearest(const std::string& name, const std::vector<std::string>& known) {
  const std::string near = did_you_mean(name, known);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> verb_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(verb->get_name());
  }
  return names;
}

// Finds the first word that nothing expects, which CLI11 names without a suggestion.
std::string unexpected(const CLI::App& program, std::span<const std::string> arguments) {
  const CLI::App* app = &program;
  std::string typed = "toroid";
  for (const std::string& argument : arguments) {
    if (argument.size() > 1 && argument[0] == '-') {
      const std::string name = argument.substr(0, argument.find('='));
      if (app->get_option_no_throw(name) == nullptr) {
        return "`" + typed + "` has no flag " + printable(name) + nearest(name, flag_names(*app));
      }
      continue;
    }
    const std::vector<std::string> verbs = verb_names(*app);
    if (verbs.empty()) continue;  // a flag's value, or a word that is one too many
    const CLI::App* next = nullptr;
    for (const CLI::App* verb : app->get_subcommands([](const CLI::App*) { return true; })) {
      if (verb->get_name() == argument) next = verb;
    }
    if (next == nullptr)
      return "`" + typed + "` has no verb " + printable(argument) + nearest(argument, verbs);
    app = next;
    typed += " " + argument;
  }
  return {};
}

int parse_failed(const CLI::App& program, const CLI::ParseError& error,
                 std::span<const std::string> arguments) {
  std::string message = unexpected(program, arguments);
  if (message.empty()) message = printable(error.what(), 500);
  return fail(ExitCode::bad_input, message + " (--help lists what there is)");
}

int run(std::vector<std::string> arguments) {
  CLI::App program(
      "Toroid trains decoders of the Gemma family.\n\n"
      "  toroid prepare  --config configs/quickstart.textproto     text to tokens\n"
      "  toroid launch   --config configs/quickstart.textproto     tokens to weights, on every chip\n"
      "  toroid generate --checkpoint runs/quickstart --prompt 'The'\n",
      "toroid");
  program.set_version_flag("--version", launch::version_text, "Version, build and features");
  program.get_formatter()->column_width(34);
  program.require_subcommand(1);
  program.footer("`toroid VERB --help` lists a verb's flags. Exit codes: docs/exit_codes.md.");
  const train::Plugins plugins = all_plugins();
  launch::Verbs verbs(program);
  add_verbs(verbs, plugins);
  try {
    program.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& asked) {  // --help and --version
    return program.exit(asked);
  } catch (const CLI::ParseError& error) {
    if (arguments.empty()) {
      std::cerr << program.help();
      return exit_code(ExitCode::bad_input);
    }
    return parse_failed(program, error, arguments);
  }
  const ExitCode code = verbs.run();
  // A full disk behind a redirection shows only when the last of the output is written.
  if (!std::cout.flush()) throw SystemError("standard output cannot be written");
  return exit_code(code);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const train::RanksDisagree& error) {
    // Every rank has found the same and ends with the same code. The launcher, which ends the others once one
    // has failed, is not to turn theirs into a signal's.
    std::signal(SIGTERM, SIG_IGN);
    return error.speaks() ? fail(error.code(), error.what()) : exit_code(error.code());
  } catch (const DeviceError& error) {
    std::cout.flush();
    return say(error.code(), error.what());
  } catch (const Error& error) {
    return fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(ExitCode::system_error, "there is not enough memory");
  } catch (const std::filesystem::filesystem_error& error) {
    // Ours to have asked for with a sentence (core/base/io/file.h).
    return fail(ExitCode::system_error,
                "cannot use " + in_quotes(error.path1().string()) + ": " + printable(error.code().message()));
  } catch (const std::exception& error) {
    return fail(ExitCode::internal_error, "internal error: " + printable(error.what(), 500));
  }
}
