#include "train/checkpoint/checkpoint.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"
#include "train/checkpoint/aside.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/report_text.h"
#include "train/checkpoint/slice_name.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

bool is_there(const Path& path) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(path, error).type();
  if (error && type == fs::file_type::none) {
    throw SystemError("cannot look for " + in_quotes(path.string()), error.value());
  }
  return type != fs::file_type::not_found;
}

bool is_step(const Path& path) {
  return is_there(path / Manifest::kName) || step_of(path).has_value();
}

Manifest checked_manifest(const Path& step) {
  Manifest manifest = read_manifest(step);
  const auto named = step_of(step);
  if (named && *named != manifest.state.step) {
    throw UserError(in_quotes(step.string()) + " holds the manifest of step " +
                    std::to_string(manifest.state.step));
  }
  return manifest;
}

// Runs `work` on every rank and gives each all results. Where it fails on one, all throw: a rank that failed
// says so of itself, the others name the first of those that did.
std::vector<std::string> together(const SaveGroup& group, const std::function<std::string()>& work) {
  if (group.rank.world_size == 1) return {work()};
  const auto failed = [](int rank, std::string_view why) { return SystemError(could_not_save(rank, why)); };
  std::string text;
  std::optional<SystemError> own;
  try {
    text = "+" + work();
  } catch (const std::exception& error) {
    own = failed(group.rank.rank, error.what());
    text = "-" + std::string(error.what());
  }
  std::vector<std::string> all = group.exchange(text);
  if (own) throw SystemError(*own);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].starts_with('+')) {
      throw failed(static_cast<int>(rank), all[rank].empty() ? "it does not say why" : all[rank].substr(1));
    }
    all[rank].erase(0, 1);
  }
  return all;
}

}  // namespace

Checkpoints::Checkpoints(const Path& run, KeepRules keep, Lineage lineage, std::function<void()> may_write)
    : directory_(run / "checkpoints"),
      keep_(keep),
      lineage_(std::move(lineage)),
      may_write_(may_write ? std::move(may_write) : [] {}) {
  if (keep.newest < 1)
    throw UserError("checkpoints to keep: " + std::to_string(keep.newest) + ", but at least 1 must be kept");
}

Checkpoints::~Checkpoints() {
  wait();
}

bool Checkpoints::is_ours() const noexcept {
  try {
    may_write_();
    return true;
  } catch (...) {
    return false;
  }
}

bool Checkpoints::wait() {
  background_.join();
  return verified_;
}

Path Checkpoints::saving(int64_t step) const {
  return saving_directory(directory_, step);
}

void Checkpoints::open(int64_t step, const SaveGroup& group) {
  leads_ = group.rank.rank == 0;
  together(group, [&] {
    if (leads_) may_write_();
    if (leads_) begin_step(directory_, step, pruning_);
    return std::string();
  });
}

void Checkpoints::commit(const CheckpointState& state, std::span<const std::string> reports) {
  std::vector<RankReport> parsed;
  const int ranks = static_cast<int>(reports.size());
  for (int rank = 0; rank < ranks; ++rank) {
    parsed.push_back(parse_report(reports[static_cast<size_t>(rank)], {rank, ranks}));
  }
  CheckpointState with_lineage = state;
  with_lineage.lineage = lineage_;
  may_write_();
  seal_ = commit_step(saving(state.step), with_lineage, parsed);
}

void Checkpoints::committed(int64_t step) {
  if (!lineage_.run.empty()) lineage_.parent = CheckpointId{step, seal_};
  if (!leads_) return;
  wait();
  pruning_ = true;
  background_.start([this, step] {
    verify_and_prune(step);
    pruning_ = false;
  });
}

void Checkpoints::remove_saving(int64_t step) const {
  std::error_code ignored;
  if (is_ours()) fs::remove_all(saving(step), ignored);
}

void Checkpoints::abandon(int64_t step) {
  if (!leads_) return;
  wait();
  background_.start([this, step] { remove_saving(step); });
}

void Checkpoints::save(const CheckpointState& state, std::span<const TensorSlice> slices,
                       const SaveGroup& group, int threads) {
  wait();
  try {
    open(state.step, group);
    const auto reports = together(group, [&] {
      return report_text(write_rank(saving(state.step), group.rank, state.step, slices, threads));
    });
    together(group, [&] {
      if (leads_) commit(state, reports);
      return std::string();
    });
  } catch (...) {
    if (leads_) remove_saving(state.step);
    throw;
  }
  committed(state.step);
}

void Checkpoints::verify_and_prune(int64_t step) {
  try {
    const Path directory = directory_ / step_name(step);
    for (const ManifestFile& file : checked_manifest(directory).files) {
      verify_file(directory / file.name, file.digest, true);
    }
    verified_ = true;
  } catch (const std::exception& error) {
    verified_ = false;
    log::error("the checkpoint just saved does not verify, so older ones are kept: {}", error.what());
    return;
  }
  std::vector<KeptStep> steps;
  try {
    std::vector<int64_t> found = steps_in(directory_);
    // Steps after this one are of a run that went back; they are not this save's to remove.
    std::erase_if(found, [step](int64_t other) { return other > step; });
    steps = kept_steps(directory_, found);
  } catch (const SystemError& error) {
    log::warn("older checkpoints are kept: {}", error.what());
    return;
  }
  if (!is_ours()) return;  // which the run finds out by itself
  for (const int64_t old : steps_to_remove(steps, keep_)) {
    try {
      remove_step(directory_, old);
    } catch (const SystemError& error) {
      log::warn("the old checkpoint {} stays: {}", step_name(old), error.what());
    }
  }
}

void save_checkpoint(const Path& run, const CheckpointState& state, std::span<const TensorSlice> slices,
                     int keep) {
  Checkpoints checkpoints(run, {.newest = keep});
  checkpoints.save(state, slices);
  if (!checkpoints.wait())
    throw SystemError("the checkpoint saved under " + in_quotes(run.string()) + " does not verify");
}

struct CheckpointReader::Impl {
  struct Slice {
    const SafetensorsFile* file;
    const TensorInfo* stored;
    int64_t offset;
  };
  struct Tensor {
    std::vector<Slice> slices;  // by offset, covering the tensor exactly
    int64_t read = 0;           // elements read since the hash was last complete
    uint64_t hash = 0;
  };

  Impl(const Path& step, Verify verify)
      : directory(step), manifest(checked_manifest(step)), tensors(manifest.tensors.size()) {
    for (const ManifestFile& file : manifest.files) {
      const Path path = step / file.name;
      if (verify == Verify::all) verify_file(path, file.digest);
      files.push_back(std::make_unique<SafetensorsFile>(path));
      add(file, *files.back());
    }
    for (size_t i = 0; i < tensors.size(); ++i) check_cover(manifest.tensors[i], tensors[i].slices);
  }

  void add(const ManifestFile& entry, const SafetensorsFile& file) {
    const std::string where = in_quotes(file.path().string());
    const auto expect = [&](const char* key, const std::string& value) {
      const auto found = file.metadata().find(key);
      if (found == file.metadata().end() || found->second != value) {
        throw UserError(where + " is not the file that the manifest means: its " + key + " is " +
                        (found == file.metadata().end() ? "missing" : in_quotes(found->second)) + ", not '" +
                        value + "'");
      }
    };
    expect("part", entry.part);
    expect("rank", std::to_string(entry.rank));
    expect("step", std::to_string(manifest.state.step));
    expect("world_size", std::to_string(manifest.world_size));
    for (const TensorInfo& stored : file.tensors()) {
      const auto name = parse_slice_name(stored.name);
      if (!name) {
        throw UserError(where + ": the slice " + in_quotes(stored.name) + " does not end in @ and an offset");
      }
      const int64_t i = index(name->tensor, entry.part);
      if (i < 0)
        throw UserError(where + " has the tensor " + in_quotes(stored.name) +
                        ", which the manifest does not know");
      const CheckpointTensor& tensor = manifest.tensors[static_cast<size_t>(i)];
      if (stored.type != tensor.type) {
        throw UserError(where + ": " + in_quotes(stored.name) + " is " +
                        std::string(element_type_name(stored.type)) + ", but the manifest says " +
                        std::string(element_type_name(tensor.type)));
      }
      tensors[static_cast<size_t>(i)].slices.push_back({&file, &stored, name->offset});
    }
  }

  void check_cover(const CheckpointTensor& tensor, std::vector<Slice>& slices) const {
    std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) {
      return std::pair(a.offset, a.stored->bytes) < std::pair(b.offset, b.stored->bytes);
    });
    int64_t next = 0;
    bool exact = true;
    for (const Slice& slice : slices) {
      exact = exact && slice.offset == next && slice.stored->elements() <= tensor.elements - next;
      if (exact) next += slice.stored->elements();
    }
    if (!exact || next != tensor.elements) {
      throw UserError(in_quotes(directory.string()) + ": the slices of " + in_quotes(tensor.name) + " (" +
                      tensor.part + ") do not cover its " + std::to_string(tensor.elements) +
                      " elements exactly once");
    }
  }

  int64_t index(std::string_view name, std::string_view part) const {
    const auto& all = manifest.tensors;
    const auto place = std::lower_bound(
        all.begin(), all.end(), std::pair(part, name), [](const CheckpointTensor& t, const auto& key) {
          return std::pair<std::string_view, std::string_view>(t.part, t.name) < key;
        });
    return place == all.end() || place->part != part || place->name != name ? -1 : place - all.begin();
  }

  Path directory;
  Manifest manifest;
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::vector<Tensor> tensors;  // as manifest.tensors
};

CheckpointReader::CheckpointReader(const Path& run_or_step, Verify verify) {
  const Path path = without_slash(run_or_step);
  if (!is_there(path)) {
    const std::optional<Path> aside = is_step(path) ? find_aside(path) : std::nullopt;
    throw UserError(
        "there is no checkpoint at " + in_quotes(path.string()) + ": it does not exist" +
        (aside ? " since the run went back and set it aside as " + in_quotes(aside->string()) : ""));
  }
  if (is_step(path)) {
    impl_ = std::make_unique<Impl>(path, verify);
    return;
  }
  const Path checkpoints = path.filename() == "checkpoints" ? path : path / "checkpoints";
  const std::vector<int64_t> steps = steps_of_run(checkpoints);
  const std::vector<int64_t> newest = newest_first(known_steps(checkpoints, steps));
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (std::find(newest.begin(), newest.end(), *step) == newest.end()) {
      log::warn("{} is of a branch that the run has left and is passed over", step_name(*step));
      continue;
    }
    try {
      impl_ = std::make_unique<Impl>(checkpoints / step_name(*step), Verify::all);
      return;
    } catch (const Error& error) {
      log::warn("{} is damaged and passed over: {}", step_name(*step), error.what());
    }
  }
  throw UserError("there is no checkpoint to load under " + in_quotes(path.string()) + ": " +
                  (steps.empty()
                       ? "it has no checkpoints/step-N; give a run directory or one of its steps"
                       : "none of its " + std::to_string(steps.size()) + " steps is whole (see the log)"));
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;

const CheckpointState& CheckpointReader::state() const {
  return impl_->manifest.state;
}
CheckpointId CheckpointReader::id() const {
  return {impl_->manifest.state.step, impl_->manifest.seal};
}
const Path& CheckpointReader::directory() const {
  return impl_->directory;
}
const std::vector<CheckpointTensor>& CheckpointReader::tensors() const {
  return impl_->manifest.tensors;
}

const CheckpointTensor* CheckpointReader::find(std::string_view name, std::string_view part) const {
  const int64_t i = impl_->index(name, part);
  return i < 0 ? nullptr : &impl_->manifest.tensors[static_cast<size_t>(i)];
}

const CheckpointTensor& CheckpointReader::at(std::string_view name, std::string_view part) const {
  const CheckpointTensor* tensor = find(name, part);
  if (tensor == nullptr) {
    throw UserError("the checkpoint " + in_quotes(directory().string()) + " has no tensor " +
                    in_quotes(name) + " in part " + in_quotes(part) + "; was it written for another model?");
  }
  return *tensor;
}

void CheckpointReader::read(std::string_view name, std::string_view part, int64_t offset,
                            std::span<std::byte> out) {
  const CheckpointTensor& tensor = at(name, part);
  const int64_t size = element_bytes(tensor.type);
  const int64_t elements = static_cast<int64_t>(out.size()) / size;
  if (static_cast<int64_t>(out.size()) % size != 0 || offset < 0 || offset > tensor.elements ||
      elements > tensor.elements - offset) {
    throw UserError("the checkpoint " + in_quotes(directory().string()) + " has " +
                    std::to_string(tensor.elements) + " elements of " + std::to_string(size) + " bytes in " +
                    in_quotes(name) + " (" + tensor.part + "), but the " + std::to_string(out.size()) +
                    " bytes from element " + std::to_string(offset) +
                    " on were asked for; was it written for another model?");
  }
  auto& state = impl_->tensors[static_cast<size_t>(impl_->index(name, part))];
  std::string from;
  for (const auto& slice : state.slices) {
    const int64_t first = std::max(offset, slice.offset);
    const int64_t last = std::min(offset + elements, slice.offset + slice.stored->elements());
    if (first >= last) continue;
    slice.file->read(
        *slice.stored,
        out.subspan(static_cast<size_t>((first - offset) * size), static_cast<size_t>((last - first) * size)),
        (first - slice.offset) * size);
  }
  state.hash += tensor_hash(out, size, static_cast<uint64_t>(offset));
  state.read += elements;
  if (state.read < tensor.elements) return;
  state.read = 0;
  if (std::exchange(state.hash, 0) == tensor.hash) return;
  for (const auto& slice : state.slices) from += " " + in_quotes(slice.file->path().string());
  throw UserError("the bytes of " + in_quotes(name) + " (" + tensor.part +
                  ") are not those that were saved: they were read from" + from +
                  " and their hash is not the manifest's");
}

Path run_of_checkpoint(const Path& run_or_step) {
  Path path = without_slash(run_or_step);
  const bool step = is_step(path);
  if (!step && path.filename() != "checkpoints") return path;
  // What a short relative name leaves out is what tells.
  if (path.is_relative() && std::distance(path.begin(), path.end()) < 4) path = fs::current_path() / path;
  if (!step) return path.parent_path();
  const Path folder = is_aside(path.parent_path()) ? path.parent_path().parent_path() : path.parent_path();
  return folder.filename() == "checkpoints" ? folder.parent_path() : path;
}

bool is_checkpoint(const Path& run_or_step) {
  return is_step(without_slash(run_or_step));
}

std::vector<int64_t> checkpoint_steps(const Path& run) {
  return steps_of_run(run / "checkpoints");
}

}  // namespace toroid
