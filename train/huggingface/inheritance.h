// What came with an imported model beside its weights and tokenizer.model, and how a run that goes on from it
// keeps that: ids in the config (model.token_ids), and files that no run reads but an export gives back.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "core/base/io/file.h"

namespace toroid {

namespace config {
class RunConfig;
struct Resolved;
}  // namespace config

namespace huggingface {

// The file of the tokenizer that a run in `directory` was trained with: its own, or that of its prepared
// data.
std::optional<Path> tokenizer_file(const Path& directory, const config::RunConfig& run);

// Copies the files of `model` that describe its tokenizer and its generation into the run, as
// run/huggingface/NAME. UserError where one of them is not a regular file of at most 256 MiB, or no JSON.
void keep_files(const Path& model, const Path& run);

// Names and contents of those files; empty where the run has none.
std::map<std::string, std::string> kept_files(const Path& run);

// Sets model.token_ids, where it is not set, to what the run has that this one goes on from (`resume`, else
// train.init_from). Not where the two have different tokenizers; that is logged.
void inherit_token_ids(config::Resolved& resolved, const Path& resume);

// Copies the kept files from there into the run in `directory`, under the same condition.
void inherit_files(const config::RunConfig& run, const Path& resume, const Path& directory);

}  // namespace huggingface
}  // namespace toroid
