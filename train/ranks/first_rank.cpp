#include "train/ranks/first_rank.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/io/json.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/checkpoint/manifest.h"

namespace toroid::train {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMost = int64_t{1} << 62;

// The file that a claimed run directory has, as any rank sees it: number and time of change.
std::optional<std::array<int64_t, 2>> mark_of(const Path& directory) {
  struct stat found {};
  if (::stat((directory / "config.textproto").c_str(), &found) != 0) return std::nullopt;
  return std::array{static_cast<int64_t>(found.st_ino & 0x7fffffffffffffff),
                    int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec};
}

std::string text(const Json& json) {
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

TraceRequest agreed_trace(Meeting& ranks, const TraceRequest& mine) {
  const Json own{
      {"file", mine.file.string()}, {"after", mine.window.after()}, {"steps", mine.window.steps()}};
  const auto all = ranks.exchange(text(own), "--trace");
  const bool unlike = std::any_of(all.begin(), all.end(), [&](const auto& other) { return other != all[0]; });
  if (!unlike) return mine;
  if (ranks.leads()) {
    log::warn("the ranks were given different traces; the first rank's goes for all: {}",
              mine.file.empty() ? "none" : printable(mine.file.string()));
  }
  const JsonDocument document = JsonDocument::parse(all[0], "the trace of rank 0");
  const JsonView root = document.root();
  TraceRequest out;
  out.file = root.at("file").as_string();
  out.window.set_after(root.at("after").as_integer(0, kMost));
  out.window.set_steps(root.at("steps").as_integer(0, kMost));
  return out;
}

CheckpointReader open_resumed(Meeting& ranks, const Path& resume) {
  if (ranks.world().size() == 1) return CheckpointReader(resume, Verify::headers);
  std::optional<CheckpointReader> reader;
  if (ranks.leads()) reader.emplace(resume, Verify::all);
  const std::string mine = reader ? reader->directory().filename().string() : "";
  const std::string step = ranks.exchange(mine, "the step to resume")[0];
  if (!reader) {
    const bool is_step = is_present(resume / Manifest::kName);
    if (!is_step && !valid_checkpoint_name(step)) {
      throw UserError("rank 0 resumes " + in_quotes(step) +
                      ", which is no step of a run; give all ranks the same "
                      "--resume");
    }
    reader.emplace(is_step ? resume : run_of_checkpoint(resume) / "checkpoints" / step, Verify::headers);
  }
  RunIdentity identity;
  identity.add("checkpoint", step_hash(*reader));
  ranks.agree(identity);
  return std::move(*reader);
}

std::string describe_claimed(const Path& directory) {
  const auto mark = mark_of(directory);
  if (!mark) throw SystemError("the run directory " + in_quotes(directory.string()) + " is gone");
  return text(
      {{"path", std::filesystem::absolute(directory).string()}, {"file", (*mark)[0]}, {"time", (*mark)[1]}});
}

Path find_claimed(const Path& mine, const std::string& described) {
  const JsonDocument document = JsonDocument::parse(described, "what rank 0 says of the run directory");
  const JsonView root = document.root();
  Path first = root.at("path").as_string();
  if (std::filesystem::absolute(mine) == first) return mine;
  const std::array mark{root.at("file").as_integer(), root.at("time").as_integer()};
  if (mark_of(mine) == mark) return mine;
  if (mark_of(first) == mark) return first;
  throw UserError("rank 0 writes the run to " + in_quotes(first.string()) +
                  ", which this rank finds neither there "
                  "nor at its own --out " +
                  in_quotes(mine.string()) + "; all ranks must see one run directory");
}

}  // namespace toroid::train
