#include "train/checkpoint/convert.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/io/fresh_directory.h"
#include "core/base/text.h"
#include "train/checkpoint/elements.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

// Bytes of elements from `first` on, as `type`.
void read_as(CheckpointReader& reader, const CheckpointTensor& tensor, ElementType type, int64_t first,
             std::span<std::byte> out) {
  if (type == tensor.type) {
    reader.read(tensor.name, tensor.part, first, out);
    return;
  }
  std::vector<float> values(out.size() / static_cast<size_t>(element_bytes(type)));
  read_elements(reader, tensor, first, values);
  write_elements(values, type, out);
}

void check_type(const std::optional<ElementType>& type) {
  require(!type || is_number(*type), "a checkpoint is converted to F32 or BF16");
}

// A tensor that is read on another mesh can change its type where it is a number of one of the two.
ElementType type_of(const CheckpointTensor& tensor, const std::optional<ElementType>& type, bool chosen) {
  return type && chosen && is_number(tensor.type) ? *type : tensor.type;
}

std::vector<TensorSlice> slices_of(CheckpointReader& reader, const StepConversion& options, int rank) {
  std::vector<TensorSlice> slices;
  for (const CheckpointTensor& tensor : reader.tensors()) {
    const bool chosen = options.parts.empty() || std::find(options.parts.begin(), options.parts.end(),
                                                           tensor.part) != options.parts.end();
    const ElementType type = type_of(tensor, options.type, chosen);
    const auto runs = options.cut(tensor);
    for (const ElementRun& run : runs.at(static_cast<size_t>(rank))) {
      TensorSlice slice;
      slice.name = tensor.name;
      slice.part = tensor.part;
      slice.global_shape = tensor.shape;
      slice.offset = run.first;
      slice.elements = run.last - run.first;
      slice.type = type;
      slice.fill = [&reader, &tensor, type, start = run.first](int64_t first, std::span<std::byte> out) {
        read_as(reader, tensor, type, start + first / element_bytes(type), out);
      };
      slices.push_back(std::move(slice));
    }
  }
  return slices;
}

}  // namespace

TensorCut even_cut(int ranks) {
  return [ranks](const CheckpointTensor& tensor) {
    std::vector<std::vector<ElementRun>> runs(static_cast<size_t>(ranks));
    if (tensor.elements == 0) runs[0] = {{0, 0}};
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const int64_t step = tensor.elements / ranks, more = tensor.elements % ranks;
      const int64_t first = rank * step + std::min(rank, more), last = first + step + (rank < more ? 1 : 0);
      if (first < last) runs[static_cast<size_t>(rank)] = {{first, last}};
    }
    return runs;
  };
}

Path convert_step(const StepConversion& options) {
  check_type(options.type);
  require(options.ranks >= 1 && options.cut, "a step is cut for some ranks");
  FreshDirectory out(options.out);
  CheckpointReader reader(options.from, Verify::headers);
  for (const std::string& part : options.parts) {
    const auto& tensors = reader.tensors();
    if (std::none_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.part == part; })) {
      throw UserError(in_quotes(reader.directory().string()) + " has no part " + in_quotes(part));
    }
  }
  CheckpointState state = reader.state();
  state.lineage = {new_run_id(), reader.id()};
  const Path checkpoints = options.out / "checkpoints";
  const Path temporary = begin_step(checkpoints, state.step);
  std::vector<RankReport> reports;
  for (int rank = 0; rank < options.ranks; ++rank) {
    reports.push_back(
        write_rank(temporary, {rank, options.ranks}, state.step, slices_of(reader, options, rank)));
  }
  commit_step(temporary, state, reports);
  write_file(options.out / "config.textproto", state.config);
  out.keep();
  return checkpoints / step_name(state.step);
}

void write_plain_model(const Path& out, std::vector<TensorSource> tensors, int64_t shard_bytes) {
  std::vector<std::vector<TensorSource>> shards(1);
  int64_t in_shard = 0, total = 0;
  for (TensorSource& tensor : tensors) {
    const int64_t bytes = tensor_bytes(tensor.shape, tensor.type, in_quotes(tensor.name));
    if (in_shard > 0 && in_shard + bytes > shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    in_shard += bytes;
    total += bytes;
    shards.back().push_back(std::move(tensor));
  }
  if (shards.size() == 1) {
    write_safetensors(out / "model.safetensors", std::move(shards[0]));
    return;
  }
  nlohmann::json map = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    std::array<char, 64> name;
    std::snprintf(name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    for (const TensorSource& source : shards[i]) map[source.name] = name.data();
    write_safetensors(out / name.data(), std::move(shards[i]));
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file(out / "model.safetensors.index.json", index.dump(2) + "\n");
}

int64_t convert_to_plain(const PlainConversion& options) {
  check_type(options.type);
  FreshDirectory out(options.out);
  CheckpointReader reader(options.from, Verify::headers);
  std::vector<TensorSource> sources;
  int64_t elements = 0;
  for (const CheckpointTensor& tensor : reader.tensors()) {
    if (tensor.part != options.part) continue;
    const ElementType type = type_of(tensor, options.type, true);
    TensorSource source;
    source.name = tensor.name;
    source.type = type;
    source.shape = tensor.shape;
    source.fill = [&reader, &tensor, type](int64_t first, std::span<std::byte> piece) {
      read_as(reader, tensor, type, first / element_bytes(type), piece);
    };
    sources.push_back(std::move(source));
    elements += tensor.elements;
  }
  if (sources.empty()) {
    throw UserError(in_quotes(reader.directory().string()) + " has no part " + in_quotes(options.part));
  }
  write_plain_model(options.out, std::move(sources), options.shard_bytes);
  out.keep();
  return elements;
}

}  // namespace toroid
