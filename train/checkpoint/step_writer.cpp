#include "train/checkpoint/step_writer.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

using Tensors = std::map<std::pair<std::string, std::string>, CheckpointTensor>;  // by part and name

// Adds each slice's hash to its tensor's as the bytes pass by.
ManifestFile write_part(const Path& temporary, const CheckpointRank& rank, int64_t step,
                        const std::string& part, const std::vector<const TensorSlice*>& slices,
                        Tensors& tensors) {
  std::vector<TensorSource> sources;
  for (const TensorSlice* slice : slices) {
    TensorSource source;
    const int64_t whole = tensor_bytes(slice->global_shape, slice->type, "tensor " + in_quotes(slice->name)) /
                          element_bytes(slice->type);
    require(valid_checkpoint_name(slice->name), "a tensor's name is one that a checkpoint can hold");
    require(slice->offset >= 0 && slice->elements >= 0 && slice->offset <= whole - slice->elements,
            "a slice lies inside its tensor");
    const int64_t size = element_bytes(slice->type);
    require(slice->fill || static_cast<int64_t>(slice->data.size()) == slice->elements * size,
            "a slice's bytes fit its elements");
    const bool all = slice->elements == whole;
    source.name = all ? slice->name : slice->name + "@" + std::to_string(slice->offset);
    source.type = slice->type;
    source.shape = all ? slice->global_shape : std::vector<int64_t>{slice->elements};
    source.fill = [slice, size, &hash = tensors.at({part, slice->name}).hash](int64_t first,
                                                                              std::span<std::byte> piece) {
      if (slice->fill) {
        slice->fill(first, piece);
      } else {
        std::memcpy(piece.data(), slice->data.data() + first, piece.size());
      }
      hash += tensor_hash(piece, size, static_cast<uint64_t>(slice->offset + first / size));
    };
    sources.push_back(std::move(source));
  }
  ManifestFile file{checkpoint_file_name(part, rank), part, rank.rank, {}};
  OutputFile out(temporary / file.name);
  FileHasher hasher;
  write_safetensors(
      [&](std::span<const std::byte> bytes) {
        hasher.add(bytes);
        out.write(bytes);
      },
      std::move(sources),
      {{"format", "pt"},
       {"part", part},
       {"rank", std::to_string(rank.rank)},
       {"step", std::to_string(step)},
       {"world_size", std::to_string(rank.world_size)}});
  out.commit();
  file.digest = hasher.finish();
  try {
    verify_file(temporary / file.name, file.digest);
  } catch (const UserError& error) {
    throw SystemError(std::string("what was just written reads back differently: ") + error.what());
  }
  return file;
}

}  // namespace

std::string step_name(int64_t step) {
  return "step-" + std::to_string(step);
}

std::string checkpoint_file_name(const std::string& part, const CheckpointRank& rank) {
  std::array<char, 64> suffix;
  std::snprintf(suffix.data(), suffix.size(), "-%05d-of-%05d.safetensors", rank.rank, rank.world_size);
  return part + suffix.data();
}

Path saving_directory(const Path& checkpoints, int64_t step) {
  return checkpoints / (".saving-" + step_name(step));
}

Path begin_step(const Path& checkpoints, int64_t step) {
  if (!is_present_directory(checkpoints)) {
    make_directories(checkpoints);
    sync_directory(
        checkpoints.parent_path());  // a step is only as durable as the name of the folder it lies in
  }
  std::error_code error;
  for (const Path& entry : list_directory(checkpoints)) {
    const std::string name = entry.filename().string();
    if (name.starts_with(".saving-") || name.starts_with(".removing-")) fs::remove_all(entry, error);
  }
  Path temporary = saving_directory(checkpoints, step);
  if (::mkdir(temporary.c_str(), 0755) != 0) {
    throw SystemError("cannot create directory " + in_quotes(temporary.string()), errno);
  }
  return temporary;
}

RankReport write_rank(const Path& temporary, CheckpointRank rank, int64_t step,
                      std::span<const TensorSlice> slices) {
  std::map<std::string, std::vector<const TensorSlice*>> parts;
  Tensors tensors;
  parts["master"];  // so that every rank has a file
  for (const TensorSlice& slice : slices) {
    require(valid_checkpoint_name(slice.part), "a part's name is one that a checkpoint can hold");
    parts[slice.part].push_back(&slice);
    CheckpointTensor& tensor = tensors[{slice.part, slice.name}];
    tensor.name = slice.name;
    tensor.part = slice.part;
    tensor.type = slice.type;
    tensor.shape = slice.global_shape;
    tensor.elements += slice.elements;
  }
  RankReport report;
  for (const auto& [part, members] : parts) {
    report.files.push_back(write_part(temporary, rank, step, part, members, tensors));
  }
  for (auto& [key, tensor] : tensors) report.tensors.push_back(std::move(tensor));
  return report;
}

std::string commit_step(const Path& temporary, const CheckpointState& state,
                        std::span<const RankReport> reports) {
  Manifest manifest;
  manifest.state = state;
  manifest.world_size = static_cast<int>(reports.size());
  Tensors tensors;
  for (const RankReport& report : reports) {
    manifest.files.insert(manifest.files.end(), report.files.begin(), report.files.end());
    for (const CheckpointTensor& part : report.tensors) {
      const auto [place, fresh] = tensors.try_emplace({part.part, part.name}, part);
      if (fresh) continue;
      CheckpointTensor& sum = place->second;
      require(sum.shape == part.shape && sum.type == part.type, "ranks agree on a tensor's shape");
      if (__builtin_add_overflow(sum.elements, part.elements, &sum.elements)) {
        sum.elements = std::numeric_limits<int64_t>::max();
      }
      sum.hash += part.hash;
    }
  }
  for (auto& [key, tensor] : tensors) {
    const int64_t whole = tensor_bytes(tensor.shape, tensor.type, tensor.name) / element_bytes(tensor.type);
    if (tensor.elements != whole) {
      throw InternalError("the slices of " + in_quotes(tensor.name) + " (" + tensor.part + ") hold " +
                          std::to_string(tensor.elements) + " of its " + std::to_string(whole) + " elements");
    }
    manifest.tensors.push_back(std::move(tensor));
  }
  write_file(temporary / Manifest::kName, manifest_text(manifest));
  sync_directory(temporary);
  const Path checkpoints = temporary.parent_path();
  const Path final_name = checkpoints / step_name(state.step);
  if (::rename(temporary.c_str(), final_name.c_str()) != 0) {
    // The step is there already (a run that went back): change places, so that the name never lacks a whole
    // step.
    if (errno != ENOTEMPTY && errno != EEXIST) {
      throw SystemError("cannot rename " + in_quotes(temporary.string()), errno);
    }
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, final_name.c_str(), RENAME_EXCHANGE) != 0) {
      const Path aside = checkpoints / (".removing-" + step_name(state.step));
      if (::rename(final_name.c_str(), aside.c_str()) != 0 ||
          ::rename(temporary.c_str(), final_name.c_str()) != 0) {
        throw SystemError("cannot rename " + in_quotes(temporary.string()), errno);
      }
    }
    std::error_code ignored;
    sync_directory(checkpoints);
    fs::remove_all(temporary, ignored);
  }
  sync_directory(checkpoints);
  return manifest.seal;
}

}  // namespace toroid
