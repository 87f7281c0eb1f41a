#include "tests/layers/layers.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

namespace toroid {
namespace {

bool below(std::string_view path, std::string_view folder) {
  return folder.empty() || path == folder ||
         (path.starts_with(folder) && path.size() > folder.size() && path[folder.size()] == '/');
}

const Layer* layer_of(std::string_view path) {
  const Layer* best = nullptr;
  for (const Layer& layer : layers()) {
    if (below(path, layer.folder) && (!best || layer.folder.size() > best->folder.size())) best = &layer;
  }
  return best;
}

std::string folder_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash));
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// The name between `open` and `close` after `keyword`, or nothing.
std::string_view quoted_after(std::string_view line, std::string_view keyword, char open, char close) {
  if (!line.starts_with(keyword)) return {};
  line = trim(line.substr(keyword.size()));
  if (line.empty() || line.front() != open) return {};
  const size_t end = line.find(close, 1);
  return end == std::string_view::npos ? std::string_view{} : line.substr(1, end - 1);
}

// Where the file stands that an include names; a generated header stands where its proto file does.
bool exists_in(const std::filesystem::path& root, std::string_view name) {
  if (std::filesystem::exists(root / name)) return true;
  constexpr std::string_view generated = ".pb.h";
  if (!name.ends_with(generated)) return false;
  return std::filesystem::exists(root /
                                 (std::string(name.substr(0, name.size() - generated.size())) + ".proto"));
}

}  // namespace

const std::vector<Layer>& layers() {
  static const std::vector<Layer> table = {
      {"core/base", {"core/base"}},
      // One chip, without circles: base <- tensor <- op <- device <- comm <- model.
      {"core/tensor", {"core/base", "core/tensor"}},
      {"core/op", {"core/base", "core/tensor", "core/op"}},
      {"core/device", {"core/base", "core/tensor", "core/op", "core/device"}},
      {"core/comm", {"core/base", "core/tensor", "core/op", "core/device", "core/comm"}},
      {"core", {"core"}},
      {"parallel", {"core", "parallel"}},
      // Within `comm` a family knows those before it; what stands in `comm` itself joins them.
      {"parallel/comm/board", {"core", "parallel/comm/board"}},
      {"parallel/comm/side_channel", {"core", "parallel/comm/board", "parallel/comm/side_channel"}},
      {"parallel/comm/watch",
       {"core", "parallel/comm/board", "parallel/comm/side_channel", "parallel/comm/watch"}},
      {"parallel/comm/messages",
       {"core", "parallel/schedule", "parallel/comm/combine.h", "parallel/comm/watch",
        "parallel/comm/messages"}},
      {"parallel/comm/within_host",
       {"core", "parallel/comm/combine.h", "parallel/comm/board", "parallel/comm/watch",
        "parallel/comm/within_host"}},
      {"optim", {"core", "optim"}},
      {"data", {"core/base", "data"}},
      {"configs", {"core", "parallel", "optim", "data", "train", "simulate", "configs"}},
      {"train", {"core", "parallel", "optim", "data", "configs", "train"}},
      {"train/config",
       {"core", "parallel", "optim", "data", "configs", "train/train.pb.h", "train/train.proto",
        "train/faults/faults.pb.h", "train/config"}},
      {"train/checkpoint", {"core", "train/checkpoint"}},
      {"train/step", {"core", "parallel", "optim", "train/step"}},
      {"train/ranks",
       {"core", "parallel", "data", "configs", "train/train.pb.h", "train/config", "train/checkpoint",
        "train/ranks"}},
      {"train/engine",
       {"core", "parallel", "optim", "data", "configs", "train/config", "train/checkpoint", "train/step",
        "train/ranks", "train/engine"}},
      {"train/faults", {"core", "parallel", "configs", "train/checkpoint", "train/engine", "train/faults"}},
      {"train/machine",
       {"core", "parallel", "configs", "train/config", "train/ranks", "train/engine", "train/machine"}},
      {"train/report",
       {"core", "parallel", "optim", "configs", "train/config", "train/step", "train/ranks", "train/engine",
        "train/report"}},
      {"train/huggingface",
       {"core", "data", "configs", "train/config", "train/checkpoint", "train/huggingface"}},
      {"simulate", {"core", "parallel", "optim", "data", "configs", "train", "simulate"}},
      {"simulate/play", {"core", "parallel", "optim", "data", "configs", "train", "simulate/play"}},
      {"simulate/fit",
       {"core", "parallel", "optim", "data", "configs", "train", "simulate/play", "simulate/fit"}},
      {"simulate/answer",
       {"core", "parallel", "optim", "data", "configs", "train", "simulate/play", "simulate/fit",
        "simulate/answer"}},
      {"launch", {""}},
      {"bench", {""}},
      {"tests", {""}},
  };
  return table;
}

const std::vector<ConfinedHeader>& confined_headers() {
  static const std::vector<ConfinedHeader> table = {
      {"oneapi/dnnl", "core/device/cpu"},
      {"dnnl", "core/device/cpu"},
      {"hwy/", "core/device/cpu"},
      {"cuda", "core/device/cuda"},
      {"cublas", "core/device/cuda"},
      {"mpi.h", "parallel/comm/mpi"},
      {"openssl/", "parallel/comm/side_channel"},
      {"nccl.h", "parallel/comm/nccl"},
      {"sentencepiece", "data"},
      {"libxml/", "data"},
      {"CLI/", "launch"},
  };
  return table;
}

bool allowed(std::string_view from, std::string_view to) {
  const Layer* layer = layer_of(from);
  if (!layer) return true;  // not a folder of the table: a generated or foreign file
  return std::any_of(layer->uses.begin(), layer->uses.end(),
                     [&](std::string_view folder) { return below(to, folder); });
}

std::vector<std::string> check_includes(const std::filesystem::path& root, const std::string& path,
                                        std::string_view text) {
  std::vector<std::string> found;
  const bool proto = path.ends_with(".proto");
  const bool free = allowed(path, "launch");  // programs and tests may use everything
  int number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    const std::string where = path + ":" + std::to_string(++number) + ": ";

    const std::string_view name =
        proto ? quoted_after(line, "import", '"', '"') : quoted_after(line, "#include", '"', '"');
    const std::string_view library = quoted_after(line, "#include", '<', '>');
    if (!name.empty() && !name.starts_with("google/")) {
      const bool library_style = name.find('/') == std::string_view::npos || name.starts_with("hwy/");
      if (name.find("..") != std::string_view::npos) {
        found.push_back(where + "\"" + std::string(name) + "\" is not a path from the repository's root");
      } else if (!allowed(path, name)) {
        if (layer_of(name)) {
          found.push_back(where + folder_of(path) + " may not use " + folder_of(name) + " (\"" +
                          std::string(name) + "\")");
        } else if (!library_style) {
          found.push_back(where + "\"" + std::string(name) + "\" is not a path from the repository's root");
        }
      } else if (!library_style && layer_of(name) && !exists_in(root, name)) {
        found.push_back(where + "\"" + std::string(name) + "\" does not exist");
      }
    }
    const std::string_view outside = !library.empty() ? library : name;
    if (free || outside.empty() || layer_of(outside)) continue;
    const auto confined =
        std::find_if(confined_headers().begin(), confined_headers().end(),
                     [&](const ConfinedHeader& header) { return outside.starts_with(header.prefix); });
    if (confined != confined_headers().end() && !below(path, confined->folder)) {
      found.push_back(where + "only " + std::string(confined->folder) + " may use <" + std::string(outside) +
                      ">");
    }
  }
  return found;
}

std::vector<std::string> check_tree(const std::filesystem::path& root) {
  std::vector<std::string> found;
  std::set<std::filesystem::path> folders;
  for (const Layer& layer : layers()) folders.insert(std::filesystem::path(layer.folder));
  for (const std::filesystem::path& folder : folders) {
    // Folders of folders are seen on the way through the outermost.
    if (folder.has_parent_path() || !std::filesystem::is_directory(root / folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      static const std::set<std::string> known = {".h", ".cpp", ".cu", ".cuh", ".proto"};
      if (!entry.is_regular_file() || !known.contains(extension)) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      std::ostringstream text;
      text << file.rdbuf();
      const std::string path = std::filesystem::relative(entry.path(), root).generic_string();
      const auto more = check_includes(root, path, text.view());
      found.insert(found.end(), more.begin(), more.end());
    }
  }
  return found;
}

std::vector<std::string> check_links(std::string_view graph) {
  std::vector<std::string> found;
  std::istringstream lines{std::string(graph)};
  std::string target, folder, linked, linked_folder;
  while (lines >> target >> folder >> linked >> linked_folder) {
    if (!allowed(folder, linked_folder)) {
      found.push_back(target + " (" + folder + ") may not link " + linked + " (" + linked_folder + ")");
    }
  }
  return found;
}

}  // namespace toroid
