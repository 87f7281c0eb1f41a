#include "train/huggingface/inheritance.h"

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "configs/run.pb.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/load.h"

namespace toroid::huggingface {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 7> kNames = {
    "added_tokens.json", "chat_template.jinja",     "chat_template.json",   "generation_config.json",
    "tokenizer.json",    "special_tokens_map.json", "tokenizer_config.json"};
constexpr int64_t kLargest = int64_t{256} << 20;

Path folder(const Path& run) {
  return run / "huggingface";
}

bool is_there(const Path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

// The run whose weights this one starts from; empty where there is none.
Path parent_of(const config::RunConfig& run, const Path& resume) {
  if (!resume.empty()) return run_of_checkpoint(resume);
  return run.train().init_from().empty() ? Path() : run_of_checkpoint(run.train().init_from());
}

// The parent's config. Nothing where it has none that can be read: weights are taken from older runs as well.
std::optional<config::RunConfig> config_of(const Path& parent) {
  const Path file = parent / "config.textproto";
  if (parent.empty() || !is_there(file)) return std::nullopt;
  try {
    return config::load(file).run;
  } catch (const UserError& error) {
    log::warn("ids and tokenizer files of {} are not taken over: {}", in_quotes(parent.string()),
              error.what());
    return std::nullopt;
  }
}

bool same_contents(const Path& a, const Path& b) {
  return read_file(a, kLargest) == read_file(b, kLargest);
}

// Whether ids mean the same in both runs. A run without a tokenizer has no ids of its own to contradict.
bool same_tokenizer(const Path& parent, const config::RunConfig& parent_run, const config::RunConfig& run) {
  const auto ours = tokenizer_file(Path(), run);
  if (!ours) return true;
  const auto theirs = tokenizer_file(parent, parent_run);
  return theirs && same_contents(*theirs, *ours);
}

}  // namespace

std::optional<Path> tokenizer_file(const Path& directory, const config::RunConfig& run) {
  for (const Path& place : {directory, Path(run.data().directory())}) {
    if (place.empty()) continue;
    if (is_there(place / "tokenizer.model")) return place / "tokenizer.model";
  }
  return std::nullopt;
}

void keep_files(const Path& model, const Path& run) {
  for (const char* name : kNames) {
    if (!is_there(model / name)) continue;
    const std::string text = read_file(model / name, kLargest);
    const bool json = std::string_view(name).ends_with(".json");
    if (json ? !nlohmann::json::accept(text) : !valid_utf8(text)) {
      throw UserError(in_quotes((model / name).string()) + " is not valid " + (json ? "JSON" : "UTF-8") +
                      "; mend it or leave it out");
    }
    make_directories(folder(run));
    write_file(folder(run) / name, text);
  }
}

std::map<std::string, std::string> kept_files(const Path& run) {
  std::map<std::string, std::string> files;
  for (const char* name : kNames) {
    const Path path = folder(run) / name;
    if (is_there(path)) files[name] = read_file(path, kLargest);
  }
  return files;
}

void inherit_token_ids(config::Resolved& resolved, const Path& resume) {
  config::ModelConfig& model = *resolved.run.mutable_model();
  if (model.has_token_ids()) return;
  const Path parent = parent_of(resolved.run, resume);
  const auto parent_run = config_of(parent);
  if (!parent_run || !parent_run->model().has_token_ids()) return;
  if (!same_tokenizer(parent, *parent_run, resolved.run)) {
    log::warn("the data's tokenizer is not that of {}, so its ids and tokenizer files are not taken over",
              in_quotes(parent.string()));
    return;
  }
  *model.mutable_token_ids() = parent_run->model().token_ids();
  const std::string origin = "from " + parent.string();
  const std::string path = "model.token_ids.";
  if (model.token_ids().has_bos()) resolved.origins[path + "bos"] = origin;
  if (model.token_ids().has_pad()) resolved.origins[path + "pad"] = origin;
  for (int i = 0; i < model.token_ids().eos_size(); ++i) {
    resolved.origins[path + "eos[" + std::to_string(i) + "]"] = origin;
  }
}

void inherit_files(const config::RunConfig& run, const Path& resume, const Path& directory) {
  const Path parent = parent_of(run, resume);
  std::error_code error;
  if (parent.empty() || fs::equivalent(parent, directory, error)) return;
  const std::map<std::string, std::string> files = kept_files(parent);
  if (files.empty()) return;
  const auto parent_run = config_of(parent);
  if (!parent_run || !same_tokenizer(parent, *parent_run, run)) return;
  make_directories(folder(directory));
  for (const auto& [name, text] : files) write_file(folder(directory) / name, text);
}

}  // namespace toroid::huggingface
