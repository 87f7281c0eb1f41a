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
#include <mutex>

#include "core/base/error.h"
#include "core/base/tensor_hash.h"
#include "core/base/text.h"
#include "train/checkpoint/on_threads.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

using Tensors = std::map<std::pair<std::string, std::string>, CheckpointTensor>;  // by part and name

std::string name_in_file(const TensorSlice& slice) {
  const int64_t whole = tensor_bytes(slice.global_shape, slice.type, "tensor " + in_quotes(slice.name)) /
                        element_bytes(slice.type);
  return slice.elements == whole ? slice.name : slice.name + "@" + std::to_string(slice.offset);
}

// A file of a step: digested as it is written, and each block compared with what the kernel has of it while
// that is still near.
class DigestedFile {
 public:
  explicit DigestedFile(const Path& path) : path_(path), out_(path, OutputFile::Name::at_once) {}
  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {  // never more than to the end of a block, so that a block is read back at once
      const int64_t left = FileDigest::kBlockBytes - out_.size() % FileDigest::kBlockBytes;
      const auto piece = bytes.first(std::min(bytes.size(), static_cast<size_t>(left)));
      hasher_.add(piece);
      out_.write(piece);
      if (static_cast<int64_t>(piece.size()) == left) read_back(hasher_.blocks().back());
      bytes = bytes.subspan(piece.size());
    }
  }
  FileDigest commit() {
    const FileDigest digest = hasher_.finish();
    if (read_back_ < digest.bytes) read_back(digest.blocks.back());
    out_.commit();
    return digest;
  }

 private:
  void read_back(uint64_t expected) {
    block_.resize(static_cast<size_t>(out_.size() - read_back_));
    out_.read_back(read_back_, block_);
    if (block_hash(block_) != expected) {
      throw SystemError("what was just written to " + in_quotes(path_.string()) + " from byte " +
                        std::to_string(read_back_) + " on reads back differently");
    }
    read_back_ = out_.size();
  }

  Path path_;
  OutputFile out_;
  FileHasher hasher_;
  std::vector<std::byte> block_;
  int64_t read_back_ = 0;  // bytes
};

// Adds each slice's hash to its tensor's as the bytes pass by. `one_asks` is held while a slice is asked.
ManifestFile write_part(const Path& temporary, const CheckpointRank& rank, int64_t step,
                        const PartSlices& part, Tensors& tensors, std::mutex& one_asks) {
  std::vector<TensorSource> sources;
  for (const TensorSlice* slice : part.slices) {
    TensorSource source;
    const int64_t size = element_bytes(slice->type);
    source.name = name_in_file(*slice);
    source.type = slice->type;
    source.shape = source.name == slice->name ? slice->global_shape : std::vector<int64_t>{slice->elements};
    source.fill = [slice, size, &one_asks, &hash = tensors.at({part.part, slice->name}).hash](
                      int64_t first, std::span<std::byte> piece) {
      if (slice->fill) {
        const std::lock_guard lock(one_asks);
        slice->fill(first, piece);
      } else {
        std::memcpy(piece.data(), slice->data.data() + first, piece.size());
      }
      hash += tensor_hash(piece, size, static_cast<uint64_t>(slice->offset + first / size));
    };
    sources.push_back(std::move(source));
  }
  ManifestFile file{checkpoint_file_name(part.part, rank), part.part, rank.rank, {}};
  DigestedFile out(temporary / file.name);
  write_safetensors([&](std::span<const std::byte> bytes) { out.write(bytes); }, std::move(sources),
                    {{"format", "pt"},
                     {"part", part.part},
                     {"rank", std::to_string(rank.rank)},
                     {"step", std::to_string(step)},
                     {"world_size", std::to_string(rank.world_size)}});
  file.digest = out.commit();
  if (InputFile(temporary / file.name, Symlinks::refuse).size() != file.digest.bytes) {
    throw SystemError(in_quotes((temporary / file.name).string()) + " has another length than was written");
  }
  return file;
}

void check_slice(const TensorSlice& slice) {
  require(valid_checkpoint_name(slice.part), "a part's name is one that a checkpoint can hold");
  require(valid_checkpoint_name(slice.name), "a tensor's name is one that a checkpoint can hold");
  const int64_t whole = tensor_bytes(slice.global_shape, slice.type, "tensor " + in_quotes(slice.name)) /
                        element_bytes(slice.type);
  require(slice.offset >= 0 && slice.elements >= 0 && slice.offset <= whole - slice.elements,
          "a slice lies inside its tensor");
  require(slice.fill || static_cast<int64_t>(slice.data.size()) == slice.elements * element_bytes(slice.type),
          "a slice's bytes fit its elements");
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

Path begin_step(const Path& checkpoints, int64_t step, bool removing) {
  if (!is_present_directory(checkpoints)) {
    make_directories(checkpoints);
    sync_directory(
        checkpoints.parent_path());  // a step is only as durable as the name of the folder it lies in
  }
  std::error_code error;
  for (const Path& entry : list_directory(checkpoints)) {
    const std::string name = entry.filename().string();
    const bool left = name.starts_with(".saving-") || (name.starts_with(".removing-") && !removing);
    if (left) fs::remove_all(entry, error);
  }
  Path temporary = saving_directory(checkpoints, step);
  if (::mkdir(temporary.c_str(), 0755) != 0) {
    throw SystemError("cannot create directory " + in_quotes(temporary.string()), errno);
  }
  return temporary;
}

std::vector<PartSlices> parts_in_order(std::span<const TensorSlice> slices) {
  std::map<std::string, std::vector<const TensorSlice*>> parts;
  parts["master"];  // so that every rank has a file
  for (const TensorSlice& slice : slices) parts[slice.part].push_back(&slice);
  std::vector<PartSlices> out;
  for (auto& [part, members] : parts) {
    sort_for_safetensors(
        members, [](const TensorSlice* slice) { return std::pair(slice->type, name_in_file(*slice)); });
    out.push_back({part, std::move(members)});
  }
  return out;
}

RankReport write_rank(const Path& temporary, CheckpointRank rank, int64_t step,
                      std::span<const TensorSlice> slices, int threads) {
  Tensors tensors;
  for (const TensorSlice& slice : slices) {
    check_slice(slice);
    CheckpointTensor& tensor = tensors[{slice.part, slice.name}];
    tensor.name = slice.name;
    tensor.part = slice.part;
    tensor.type = slice.type;
    tensor.shape = slice.global_shape;
    tensor.elements += slice.elements;
  }
  const std::vector<PartSlices> parts = parts_in_order(slices);
  RankReport report;
  report.files.resize(parts.size());
  std::mutex one_asks;
  on_threads(parts.size(), threads, [&](size_t i) {
    report.files[i] = write_part(temporary, rank, step, parts[i], tensors, one_asks);
  });
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

void remove_step(const Path& checkpoints, int64_t step) {
  const Path from = checkpoints / step_name(step), to = checkpoints / (".removing-" + step_name(step));
  std::error_code error;
  fs::remove_all(to, error);  // of a removal that was stopped
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw SystemError("cannot remove " + in_quotes(from.string()), errno);
  sync_directory(checkpoints);
  fs::remove_all(to, error);
  if (error) throw SystemError("cannot remove " + in_quotes(to.string()), error.value());
}

}  // namespace toroid
