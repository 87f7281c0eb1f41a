// The pretraining loop: batches in, steps, validations, metrics and checkpoints out.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "data/batch/batch.h"
#include "train/checkpoint/checkpoint.h"
#include "train/engine/engine.h"
#include "train/faults/injector.h"
#include "train/loop/data_position.h"
#include "train/loop/detectors.h"
#include "train/loop/run.h"
#include "train/loop/run_directory.h"
#include "train/loop/saver.h"
#include "train/loop/signals.h"
#include "train/loop/skip_watch.h"
#include "train/machine/run_peak.h"
#include "train/ranks/first_rank.h"
#include "train/ranks/identity.h"
#include "train/report/metrics.h"
#include "train/report/step_meter.h"
#include "train/report/trace.h"

namespace toroid::train {

class Pretrain {
 public:
  Pretrain(const TrainOptions& options, const Plugins& plugins);
  ExitCode run();
  // What a rank's transfers found, as it leaves run().
  void record_corruption(const CorruptionError& error);

 private:
  // A step whose result has not been read.
  struct Issued {
    int64_t step = 0;
    Event since;  // its duration is from here: from the end of the step before, if nothing came between
    StepMarks marks;
    StepShare share;
    SequenceRange taken;    // of global indices
    int64_t sequences = 0;  // that many
    int64_t tokens = 0;     // seen with it and before
  };
  // A step of which the ranks have begun to tell each other.
  struct Told {
    StepRow row;
    HostExchange::Answer answer;
  };
  // Where all ranks are of one mind on what the run is, this one's part of it; before anything is written.
  RunRank meet_ranks(TraceRequest& trace);
  void start();  // weights, optimizer and data position: drawn, imported or resumed
  void resume();
  // Goes on where the checkpoint stands in the data.
  void resume_data(const CheckpointReader& checkpoint, const config::RunConfig& saved);
  // From the step that it stands at to where the orders end, a signal or skipped steps stop it, which `order`
  // then is.
  ExitCode run_steps(const SignalGuard& signals, StepOrder& order);
  // To a checkpoint before the steps that were skipped, and without the data that they took; false where
  // there is none.
  bool go_back();
  void make_saver();
  Issued issue(const StepOrder& order, const Batch& batch);
  // Takes the result of a step, `steps_ago` before the one issued last, and tells the other ranks of it and
  // of a signal received; false where too many steps in a row were skipped.
  bool report(const Issued& issued, int steps_ago, int signal);
  // Hears what the ranks told each other last, and keeps that step's row. PeerError where the job ends.
  void hear();
  // Both at once, where something follows that needs them.
  bool report_now(const Issued& issued, int signal);
  void validate(int64_t step);
  void save(int64_t step, bool last);
  // Prints what the run of so many steps took beside what a dry run predicts.
  void report_memory(int64_t step);
  // And of the step, what options_.predict says.
  void report_prediction(int64_t step, double bytes_peak);
  // A line of metrics.jsonl, where this rank leads.
  template <class Row>
  void keep(const Row& row);
  void finish_line(int64_t step, const StepRow& row);

  const TrainOptions& options_;
  const Plugins& plugins_;
  config::RunConfig config_;  // the options', with what the ranks agreed on
  std::string config_text_;   // the same, each value with its origin
  Path directory_;
  std::unique_ptr<BatchSource> batches_;
  RunIdentity identity_;
  std::optional<CheckpointReader> from_;  // what the weights are read from, until they are
  optim::Schedule schedule_;
  std::optional<faults::Injector> faults_;  // that the config inflicts on this rank
  Engine engine_;
  std::optional<StepMeter> meter_;
  StragglerWatch stragglers_;
  std::optional<Told> told_;
  int signal_ = 0;  // the largest that a rank is known to have received
  Event paused_;    // when the last thing ended that is not a step
  std::optional<Tracer> tracer_;
  bool leads_ = true;  // writes what the run leaves behind, but for the checkpoints' parts
  std::optional<RunDirectory> run_directory_;  // where it leads; given back after the files below
  Lineage lineage_;
  std::optional<Saver> saver_;
  std::optional<MetricsFile> metrics_;
  int64_t issued_step_ = 0;  // that was issued last
  int64_t first_step_ = 0;
  std::optional<ValidationRow> validated_;  // the latest
  SkipWatch skips_;
  std::optional<Detectors> detectors_;
  DataPosition data_;             // after the step that was issued last
  int64_t resumed_sequence_ = 0;  // that the checkpoint of first_step_ goes on at
  BatchPlan plan_;
  RunPeak peak_;                   // of the rank that leads
  std::deque<StepPhases> phases_;  // of the latest steps, without the first
};

}  // namespace toroid::train
