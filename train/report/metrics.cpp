#include "train/report/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::train {
namespace {

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

// The step of a row that this file wrote; -1 for anything else, such as the torn last line of a killed run.
int64_t step_of(std::string_view line) {
  const auto row = nlohmann::json::parse(line, nullptr, false);
  if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) return -1;
  return row["step"].get<int64_t>();
}

struct Rows {
  std::string kept, later;
};

Rows split(const Path& path, int64_t last_step) {
  Rows rows;
  if (!is_present(path)) return rows;
  std::ifstream in(path);
  if (!in) throw SystemError("cannot open " + in_quotes(path.string()), errno);
  for (std::string text; std::getline(in, text);) {
    const int64_t step = step_of(text);
    if (step >= 0) (step <= last_step ? rows.kept : rows.later) += text + "\n";
  }
  return rows;
}

}  // namespace

void move_later_rows(const Path& metrics, int64_t step, const Path& to) {
  const Rows rows = split(metrics, step);
  if (rows.later.empty()) return;
  write_file(to, rows.later);
  write_file(metrics, rows.kept);
}

MetricsFile::MetricsFile(const Path& path, int64_t steps_done) : path_(path) {
  write_file(path, split(path, steps_done).kept);
  out_.open(path, std::ios::app);
}

void MetricsFile::line(const std::string& text) {
  out_ << text << '\n' << std::flush;
  if (!out_) throw SystemError("cannot write " + path_.string() + "; is the disk full?");
}

void MetricsFile::write(const StepRow& row) {
  nlohmann::ordered_json json;
  json["step"] = row.step;
  json["loss"] = number(row.loss);
  json["grad_norm"] = number(row.gradient_norm);
  json["learning_rate"] = number(row.learning_rate);
  json["tokens"] = row.tokens;
  json["tokens_per_s"] = number(row.tokens_per_s);
  json["step_s"] = number(row.step_s);
  json["mfu"] = row.mfu ? number(*row.mfu) : nlohmann::ordered_json(nullptr);
  const StepCommunication& ranks = row.communication;
  json["exposed_s"] = number(ranks.exposed_s);
  json["communication_s"] = number(ranks.under_way_s);
  json["overlap"] = ranks.overlap ? number(*ranks.overlap) : nlohmann::ordered_json(nullptr);
  for (size_t i = 0; i < ranks.link_bytes.size(); ++i) {
    const bool pods = i + 1 == ranks.link_bytes.size();
    json["link_bytes"][pods ? "pods" : "torus_" + std::to_string(i)] = number(ranks.link_bytes[i]);
  }
  json["slowest_rank"] = ranks.slowest;
  json["slowest_own_s"] = number(ranks.own_s.at(static_cast<size_t>(ranks.slowest)));
  json["median_own_s"] = number(ranks.median_own_s());
  json["saving"] = row.saving;
  json["skipped"] = row.skipped;
  json["skipped_total"] = row.skipped_total;
  line(json.dump());
}

void MetricsFile::write(const ValidationRow& row) {
  nlohmann::ordered_json json;
  json["step"] = row.step;
  json["validation_loss"] = number(row.validation_loss);
  json["perplexity"] = number(row.perplexity);
  json["bits_per_byte"] = number(row.bits_per_byte);
  json["validation_targets"] = row.targets;
  for (const auto& [name, value] : row.metrics) json["validation_" + name] = number(value);
  line(json.dump());
}

void MetricsFile::write(const PredictionRow& row) {
  nlohmann::ordered_json json;
  json["step"] = row.step;
  const auto put = [&](const std::string& name, const Prediction& from) {
    json[name + "_step_s"] = number(from.time.step_s());
    json[name + "_forward_s"] = number(from.time.forward_s);
    json[name + "_backward_s"] = number(from.time.backward_s);
    json[name + "_optimizer_s"] = number(from.time.optimizer_s);
    json[name + "_bytes"] = number(from.bytes);
  };
  put("predicted", row.comparison.predicted);
  put("measured", row.comparison.measured);
  json["step_s_error"] = number(row.comparison.time_error());
  json["bytes_error"] = number(row.comparison.bytes_error());
  line(json.dump());
}

}  // namespace toroid::train
