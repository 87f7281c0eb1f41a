#include "train/checkpoint/step_check.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/checkpoint/file_check.h"
#include "train/checkpoint/manifest_json.h"
#include "train/checkpoint/on_threads.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

// The slices of one tensor, from whichever files.
struct Gathered {
  struct Part {
    CheckedSlice slice;
    size_t file;  // index of its FileCheck
  };
  std::vector<Part> parts;
};
using GatheredTensors = std::map<std::pair<std::string, std::string>, Gathered>;

class Step {
 public:
  Step(const Path& directory, const CheckOptions& options) : options_(options) { out_.directory = directory; }

  StepCheck run() {
    read_manifest();
    if (out_.manifest) {
      check_files();
    } else {
      look_at_files();
    }
    return std::move(out_);
  }

 private:
  void fault(const std::string& what) { out_.faults.push_back({"", -1, 0, 0, {}, what}); }

  void read_manifest() {
    const Path path = out_.directory / Manifest::kName;
    const std::string name(Manifest::kName);
    try {
      if (!is_present(path)) {
        out_.faults.push_back({name, -1, 0, 0, {}, "is missing"});
        return;
      }
      const std::string text = read_file(path, kManifestLimits.bytes);
      out_.bytes += static_cast<int64_t>(text.size());
      UnsealedManifest parsed = parse_unsealed(text, name);
      if (!parsed.sealed()) {
        out_.faults.push_back(
            {name, -1, 0, 0, {}, "is damaged or was changed: its seal is not the hash of the rest of it"});
      }
      out_.manifest = std::move(parsed.manifest);
    } catch (const Error& error) {
      out_.faults.push_back({name, -1, 0, 0, {}, "cannot be used: " + std::string(error.what())});
      return;
    }
    const auto named = step_of(out_.directory);
    if (named && *named != out_.manifest->state.step) {
      fault("its name says step " + std::to_string(*named) + ", but it holds the manifest of step " +
            std::to_string(out_.manifest->state.step));
    }
  }

  void check_files() {
    const Manifest& manifest = *out_.manifest;
    std::vector<FileCheck> files(manifest.files.size());
    on_threads(files.size(), options_.threads, [&](size_t i) {
      files[i] = check_file(out_.directory / manifest.files[i].name, &manifest.files[i], manifest.state.step,
                            manifest.world_size, options_);
    });
    GatheredTensors tensors;
    for (size_t i = 0; i < files.size(); ++i) {
      out_.bytes += files[i].bytes;
      out_.bytes_read += files[i].bytes_read;
      for (const CheckedSlice& slice : files[i].slices) {
        tensors[{manifest.files[i].part, slice.tensor}].parts.push_back({slice, i});
      }
    }
    std::vector<Fault> of_tensors;
    for (const CheckpointTensor& tensor : manifest.tensors) {
      const auto found = tensors.find({tensor.part, tensor.name});
      Gathered none;
      Gathered& gathered = found == tensors.end() ? none : found->second;
      check_tensor(tensor, gathered, files, of_tensors);
      if (found != tensors.end()) tensors.erase(found);
    }
    for (const auto& [key, gathered] : tensors) {
      const StoredSlice& place = gathered.parts[0].slice.place;
      of_tensors.push_back({place.file,
                            place.rank,
                            0,
                            0,
                            {{key.second, key.first, 0, 0}},
                            "has a tensor that the manifest does not know"});
    }
    for (FileCheck& file : files) {
      std::move(file.faults.begin(), file.faults.end(), std::back_inserter(out_.faults));
    }
    std::move(of_tensors.begin(), of_tensors.end(), std::back_inserter(out_.faults));
    if (!uncovered_.empty()) {
      const std::string count = std::to_string(uncovered_.size());
      out_.faults.push_back({"", -1, 0, 0, std::move(uncovered_),
                             "the slices that are there do not cover " + count +
                                 (count == "1" ? " tensor" : " tensors") + " exactly once"});
    }
  }

  // Whose hash is wrong is spoilt: in which of the bytes that are damaged is said with these, and where none
  // are, of the tensor.
  void check_tensor(const CheckpointTensor& tensor, Gathered& gathered, std::vector<FileCheck>& files,
                    std::vector<Fault>& faults) {
    auto& parts = gathered.parts;
    std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
      return std::pair(a.slice.place.offset, a.slice.place.elements) <
             std::pair(b.slice.place.offset, b.slice.place.elements);
    });
    auto& places = out_.slices[{tensor.part, tensor.name}];
    int64_t next = 0;
    uint64_t hash = 0;
    bool exact = true, read = true;
    for (const auto& [slice, file] : parts) {
      places.push_back(slice.place);
      if (slice.place.type != tensor.type) {
        faults.push_back({slice.place.file,
                          slice.place.rank,
                          slice.first,
                          slice.last,
                          {{tensor.name, tensor.part, 0, 0}},
                          "holds " + std::string(element_type_name(slice.place.type)) +
                              ", but the manifest says " + std::string(element_type_name(tensor.type))});
      }
      exact = exact && slice.place.offset == next && slice.place.elements <= tensor.elements - next;
      if (exact) next += slice.place.elements;
      hash += slice.hash;
      read = read && slice.read;
    }
    if (!exact || next != tensor.elements) {
      uncovered_.push_back({tensor.name, tensor.part, 0, tensor.elements});
      read = false;
    }
    if (options_.depth != Depth::contents || (read && hash == tensor.hash)) {
      if (options_.depth == Depth::lengths) name_in_faults(tensor, parts, files, false);
      return;
    }
    const bool named = name_in_faults(tensor, parts, files, true);
    if (named || !read) return;
    Fault& fault = faults.emplace_back();
    fault.tensors = {{tensor.name, tensor.part, 0, tensor.elements}};
    fault.what = "does not have the hash of the manifest, though the bytes of its files do: " + hex(hash) +
                 " instead of " + hex(tensor.hash);
  }

  // Adds the tensor to the faults whose bytes hold some of it; false where there are none. What was not read
  // is spoilt only where bytes are missing.
  static bool name_in_faults(const CheckpointTensor& tensor, const std::vector<Gathered::Part>& parts,
                             std::vector<FileCheck>& files, bool wrong) {
    bool any = false;
    for (const auto& [slice, file] : parts) {
      const int64_t size = element_bytes(slice.place.type);
      for (Fault& fault : files[file].faults) {
        const int64_t first = std::max(fault.first, slice.first), last = std::min(fault.last, slice.last);
        if (first >= last || (!wrong && slice.read)) continue;
        any = true;
        fault.tensors.push_back({tensor.name, tensor.part, slice.place.offset + (first - slice.first) / size,
                                 slice.place.offset + (last - slice.first + size - 1) / size});
      }
    }
    return any;
  }

  // Without a manifest: whether the files look like those of one step, by their headers.
  void look_at_files() {
    const auto named = step_of(out_.directory);
    std::set<std::string> steps, worlds, ranks;
    int64_t files = 0, tensors = 0;
    for (const Path& path : list_directory(out_.directory)) {
      if (path.extension() != ".safetensors") continue;
      FileCheck file = check_file(path, nullptr, 0, 0, options_);
      ++files;
      tensors += static_cast<int64_t>(file.slices.size());
      out_.bytes += file.bytes;
      std::move(file.faults.begin(), file.faults.end(), std::back_inserter(out_.faults));
      const auto value = [&](const char* key) {
        const auto found = file.metadata.find(key);
        return found == file.metadata.end() ? std::string() : found->second;
      };
      if (file.metadata.empty()) continue;
      steps.insert(value("step"));
      worlds.insert(value("world_size"));
      if (value("part") == "master") ranks.insert(value("rank"));
      if (named && value("step") != std::to_string(*named)) {
        out_.faults.push_back({path.filename().string(),
                               -1,
                               0,
                               0,
                               {},
                               "is of step " + in_quotes(value("step")) + ", by its header"});
      }
    }
    if (worlds.size() > 1) fault("its files are of saves by different numbers of ranks, by their headers");
    std::string found = "without a manifest nothing can be compared; by their headers its " +
                        std::to_string(files) + " files hold " + std::to_string(tensors) + " slices";
    if (worlds.size() == 1) {
      found += ", of " + std::to_string(ranks.size()) + " of " + printable(*worlds.begin(), 20) + " ranks";
    }
    fault(found);
  }

  const CheckOptions& options_;
  StepCheck out_;
  std::vector<TensorRange> uncovered_;
};

}  // namespace

std::string to_text(const Fault& fault) {
  std::string text = fault.file.empty() ? "" : printable(fault.file);
  if (fault.rank >= 0) text += " (written by rank " + std::to_string(fault.rank) + ")";
  if (fault.last > 0) {
    text += ", bytes " + std::to_string(fault.first) + " to " + std::to_string(fault.last) + ",";
  }
  text += (text.empty() ? "" : " ") + fault.what;
  constexpr size_t kShown = 8;
  for (size_t i = 0; i < std::min(fault.tensors.size(), kShown); ++i) {
    const TensorRange& tensor = fault.tensors[i];
    text += (i == 0 ? ": " : ", ") + printable(tensor.name) + " (" + tensor.part + ")";
    if (tensor.last > 0) {
      text += " elements " + std::to_string(tensor.first) + " to " + std::to_string(tensor.last);
    }
  }
  if (fault.tensors.size() > kShown) {
    text += " and " + std::to_string(fault.tensors.size() - kShown) + " more tensors";
  }
  return text;
}

StepCheck check_step(const Path& step, const CheckOptions& options) {
  if (!is_present_directory(step)) {
    throw UserError("there is no checkpoint at " + in_quotes(step.string()) + ": it is no directory");
  }
  return Step(step, options).run();
}

}  // namespace toroid
