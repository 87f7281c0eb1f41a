// A verb of the program is one file, launch/toroid/<verb>.cpp, that defines one add_<verb>() declared below
// and called in main.cpp. CLI11 stays in the .cpp files.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/base/error.h"

namespace CLI {
class App;
}

namespace toroid::train {
struct Plugins;
}

namespace toroid::launch {

class Verbs {
 public:
  explicit Verbs(CLI::App& program);
  ~Verbs();
  Verbs(const Verbs&) = delete;  // the parsed program points into it

  // Adds `name` ("train"; "data show" is a verb within a verb) with one line of help, listed under `group`.
  // `run` is called after parsing where this verb was typed; what it needs lives in a shared_ptr that it
  // captures:
  //
  //   auto flags = std::make_shared<Flags>();
  //   CLI::App& app = verbs.add("prepare", "Train the tokenizer and write token shards", "Data",
  //                             [flags] { return prepare(*flags); });
  //   app.add_option("--out", flags->out, "Directory to write to");
  //
  // Bad input is thrown (UserError), never returned: main prints the sentence and picks the exit code.
  CLI::App& add(const std::string& name, const std::string& help, const std::string& group,
                std::function<ExitCode()> run);

  // Runs the verb that was typed.
  ExitCode run() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

void add_train(Verbs&, const train::Plugins&);  // the plugins outlive the verbs
void add_prepare(Verbs&);
void add_data_show(Verbs&);
void add_data_entropy(Verbs&);
void add_curves(Verbs&);
void add_launch(Verbs&, const train::Plugins&);
void add_checkpoint_ls(Verbs&);
void add_checkpoint_verify(Verbs&);
void add_checkpoint_show(Verbs&);
void add_checkpoint_diff(Verbs&);
void add_checkpoint_convert(Verbs&);
void add_checkpoint_prune(Verbs&);
void add_certify(Verbs&, const train::Plugins&);
void add_mesh(Verbs&);
void add_simulate(Verbs&, const train::Plugins&);
void add_calibrate(Verbs&, const train::Plugins&);
void add_generate(Verbs&, const train::Plugins&);
void add_import(Verbs&);
void add_export(Verbs&);
void add_bench(Verbs&, const train::Plugins&);
void add_bench_collectives(Verbs&, const train::Plugins&);
void add_bench_kernels(Verbs&, const train::Plugins&);
void add_doctor(Verbs&);

}  // namespace toroid::launch
