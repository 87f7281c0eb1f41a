#include "data/prepare/prepare.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "data/check.h"
#include "data/data.pb.h"
#include "data/dedup/dedup.h"
#include "data/filter/length.h"
#include "data/prepare/config_hash.h"
#include "data/prepare/in_order.h"
#include "data/prepare/progress.h"
#include "data/prepare/spool.h"
#include "data/shard/shard.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_tokenizer.h"

namespace toroid {
namespace {

constexpr size_t kBatchBytes = size_t{1} << 20;
constexpr int64_t kPiece = 4096;  // of training text that is taken or left
constexpr int64_t kMostModelBytes = int64_t{256} << 20;
constexpr Split kSplits[] = {Split::train, Split::validation};

size_t thread_count(const config::DataConfig& config) {
  if (config.threads() > 0) return static_cast<size_t>(config.threads());
  cpu_set_t set;
  CPU_ZERO(&set);
  const int cores = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return static_cast<size_t>(std::max(1, cores));
}

// Two prepares of one directory would mix their files.
class DirectoryLock {
 public:
  explicit DirectoryLock(const Path& directory) {
    make_directories(directory);
    const Path path = directory / ".lock";
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor_ < 0) throw SystemError("cannot create " + quoted(path), errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(descriptor_);
      if (error != EWOULDBLOCK) throw SystemError("cannot lock " + quoted(path), error);
      throw UserError("another toroid prepare is writing to " + quoted(directory) +
                      "; wait until it has ended");
    }
  }
  ~DirectoryLock() { ::close(descriptor_); }
  DirectoryLock(const DirectoryLock&) = delete;  // a lock has one holder
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int descriptor_ = -1;
};

using Sources = std::vector<std::unique_ptr<Source>>;

// By source: the filters that the config asks for, the shortest document's length after them.
std::vector<FilterChain> make_filters(const config::DataConfig& config, const FilterRegistry& registry) {
  config::FilterConfig minimum;
  minimum.mutable_length()->set_minimum_bytes(config.minimum_document_bytes());
  std::vector<FilterChain> chains;
  for (int s = 0; s < config.source_size(); ++s) {
    FilterChain& chain = chains.emplace_back();
    for (int f = 0; f < config.source(s).filter_size(); ++f) {
      chain.add(registry.make(config.source(s).filter(f), data::filter_path(s, f)));
    }
    if (config.minimum_document_bytes() > 0) {
      chain.add({"minimum_document_bytes", make_length_filter(minimum, "")});
    }
  }
  return chains;
}

Sources open_sources(const config::DataConfig& config, const SourceRegistry& registry) {
  Sources sources;
  for (const config::SourceConfig& source : config.source()) {
    sources.push_back(registry.make(source, config.corpus()));
  }
  return sources;
}

// The model's bytes where the config names one, "" where one is trained.
std::string given_tokenizer(const config::DataConfig& config) {
  if (!config.tokenizer().has_model()) return {};
  return read_file(Path(config.corpus()) / config.tokenizer().model(), kMostModelBytes);
}

std::string inputs_hash(const Sources& sources, const std::vector<FilterChain>& filters,
                        const std::string& model) {
  std::string all = hex(content_hash(model)) + "\n";
  for (const auto& source : sources) all += source->identity() + "\n";
  for (const FilterChain& chain : filters) all += chain.identity();
  return hex(content_hash(all));
}

// Whether the files that the manifest speaks of are all there, at their full length.
bool is_whole(const Path& directory, const PreparedManifest& manifest) {
  try {
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_path(directory));
    if (hex(tokenizer.hash()) != manifest.tokenizer) return false;
    for (const PreparedSource& source : manifest.sources) {
      for (const Split split : kSplits) {
        const PreparedSplit& known = split == Split::train ? source.train : source.validation;
        const Path prefix = shard_prefix(directory, source.name, split);
        if (known.documents == 0) {  // nothing that a reader would open
          if (read_shard_manifest(prefix).documents != 0) return false;
          continue;
        }
        const ShardReader shard(prefix, tokenizer.vocab_size(), tokenizer.hash(), ShardCheck::sizes);
        if (shard.tokens() != known.tokens || shard.documents() != known.documents) return false;
      }
    }
    return true;
  } catch (const UserError&) {
    return false;  // it is made again, which is the remedy that the message would name
  }
}

// The clean text of every source.
struct Texts {
  std::vector<Spool> train, validation;  // by source
};

struct TextDocument {
  Document document;
  ContentHash hash;
};

struct TextBatch {
  std::vector<TextDocument> documents;
  FilteredCounts counts;
};

// Reads one part of a source, in batches of bounded size.
void read_part(const Source& source, size_t part, const FilterChain& chain,
               const InOrder<TextBatch>::Emit& emit) {
  TextBatch batch;
  size_t bytes = 0;
  const auto sink = [&](Document&& document) {
    bytes += document.text.size();
    const ContentHash hash = content_hash(document.text);
    batch.documents.push_back({std::move(document), hash});
    if (bytes < kBatchBytes) return;
    emit(std::exchange(batch, {}));
    bytes = 0;
  };
  batch.counts = read_filtered(source, part, chain, sink);
  emit(std::move(batch));
}

// Sources to spools: the sequential end of the pipeline, where "the first of two equal documents" has a
// meaning.
Texts read_texts(const config::DataConfig& config, const Sources& sources,
                 const std::vector<FilterChain>& filters, const Path& scratch, PreparedManifest& manifest) {
  Texts texts;
  std::vector<FilterChain> chains;
  std::vector<std::pair<size_t, size_t>> parts;  // (source, part of it)
  for (size_t s = 0; s < sources.size(); ++s) {
    const std::string& name = config.source(static_cast<int>(s)).name();
    texts.train.emplace_back(scratch / (name + ".train"));
    texts.validation.emplace_back(scratch / (name + ".validation"));
    manifest.sources.push_back({name, sources[s]->listed(), {}, 0, 0, {}, {}});
    chains.push_back(sources[s]->cleaning());
    chains.back().add(filters[s]);
    for (size_t part = 0; part < sources[s]->parts(); ++part) parts.emplace_back(s, part);
  }
  Progress progress("reading", static_cast<int64_t>(parts.size()), "files");
  ExactDedup seen;
  InOrder<TextBatch>(parts.size(), thread_count(config))
      .run(
          [&](size_t, size_t p, const auto& emit) {
            const auto& [s, part] = parts[p];
            read_part(*sources[s], part, chains[s], emit);
          },
          [&](size_t p, TextBatch&& batch) {
            const size_t s = parts[p].first;
            PreparedSource& source = manifest.sources[s];
            source.counts += batch.counts.source;
            source.filters += batch.counts.filters;
            for (const auto& [document, hash] : batch.documents) {
              if (!seen.insert(hash)) {
                ++source.duplicates;
                source.duplicate_bytes += static_cast<int64_t>(document.text.size());
                continue;
              }
              const bool held_out = split_of(hash.low, config.validation_fraction()) == Split::validation;
              (held_out ? texts.validation : texts.train)[s].add(document.id, document.text, hash);
            }
          },
          [&](size_t) { progress.add(1); });
  for (std::vector<Spool>* spools : {&texts.train, &texts.validation}) {
    for (Spool& spool : *spools) spool.close();
  }
  progress.finish();
  return texts;
}

// Bits of the training documents of all sources, spread evenly, `wanted` bytes in all.
class TrainingSample {
 public:
  TrainingSample(const std::vector<Spool>& spools, double wanted_bytes) : spools_(spools) {
    double all = 0;
    for (const Spool& spool : spools) all += static_cast<double>(spool.text_bytes());
    share_ = all > wanted_bytes ? wanted_bytes / all : 1;
  }

  bool next(std::string_view& text) {
    while (bit_ == bits_.size()) {
      if (!read_block()) return false;
    }
    text = bits_[bit_++];
    return true;
  }

 private:
  // Cuts the next block into pieces at line ends and takes the share of them that is due.
  bool read_block() {
    bits_.clear();
    bit_ = 0;
    while (spool_ < spools_.size() && block_ == spools_[spool_].blocks()) ++spool_, block_ = 0;
    if (spool_ == spools_.size()) return false;
    spools_[spool_].read(block_++, [&](const SpooledDocument& document) {
      for (std::string_view rest = document.text; !rest.empty();) {
        const size_t line = rest.find('\n', std::min<size_t>(rest.size(), kPiece));
        const size_t length = line == std::string_view::npos ? rest.size() : line + 1;
        due_ += share_ * static_cast<double>(length) / static_cast<double>(kPiece);
        if (share_ == 1 || due_ * static_cast<double>(kPiece) >= static_cast<double>(length)) {
          bits_.emplace_back(rest.substr(0, length));
          due_ -= static_cast<double>(length) / static_cast<double>(kPiece);
        }
        rest.remove_prefix(length);
      }
    });
    return true;
  }

  const std::vector<Spool>& spools_;
  double share_ = 1, due_ = 0;  // due: pieces owed so far
  size_t spool_ = 0, block_ = 0, bit_ = 0;
  std::vector<std::string> bits_;
};

Tokenizer make_tokenizer(const config::DataConfig& config, const std::string& given,
                         const std::vector<Spool>& texts) {
  if (!given.empty()) {
    return Tokenizer::from_bytes(given, (Path(config.corpus()) / config.tokenizer().model()).string());
  }
  const config::TrainTokenizerConfig& train = config.tokenizer().train();
  TrainingSample sample(texts, train.input_megabytes() * 1e6);
  TokenizerTraining training;
  training.vocab = train.vocab();
  training.threads = 1;  // merges are learnt one after another, and the model's bytes record the number
  Progress progress("tokenizer", train.vocab(), "pieces");
  Tokenizer tokenizer = train_tokenizer([&](std::string_view& text) { return sample.next(text); }, training);
  progress.add(tokenizer.vocab_size());
  progress.finish();
  if (tokenizer.vocab_size() < train.vocab()) {
    log::warn(
        "data.tokenizer.train.vocab is {}, but the text gives no more than {} pieces, and the tokenizer has "
        "so many; give it more text, or set it and model.vocab to that",
        with_commas(train.vocab()), with_commas(tokenizer.vocab_size()));
  }
  return tokenizer;
}

struct EncodedDocument {
  std::vector<int32_t> ids;
  ShardDocument document;
};

using EncodedBatch = std::vector<EncodedDocument>;

struct EncodeTask {
  size_t source;
  Split split;
  const Spool* spool;
  size_t block;
};

std::vector<EncodeTask> encode_tasks(const Texts& texts) {
  std::vector<EncodeTask> tasks;
  for (size_t s = 0; s < texts.train.size(); ++s) {
    for (const Split split : kSplits) {
      const Spool& spool = split == Split::train ? texts.train[s] : texts.validation[s];
      for (size_t block = 0; block < spool.blocks(); ++block) tasks.push_back({s, split, &spool, block});
    }
  }
  return tasks;
}

// The writers of all shards. They come into being one after the other, and an empty split has an empty shard.
class Shards {
 public:
  Shards(const Path& directory, const Tokenizer& tokenizer, PreparedManifest& manifest)
      : directory_(directory), tokenizer_(tokenizer), manifest_(manifest) {}

  ShardWriter& writer(size_t source, Split split) {
    const size_t wanted = 2 * source + static_cast<size_t>(split);
    while (open_ != wanted) step();
    return *writer_;
  }

  void finish() {
    while (open_ != 2 * manifest_.sources.size()) step();
  }

 private:
  // Finishes the shard that is open and opens the next.
  void step() {
    if (writer_) {
      PreparedSource& source = manifest_.sources[open_ / 2];
      const ShardManifest shard = writer_->finish({{"source", source.name}, {"config", manifest_.config}});
      PreparedSplit& split = open_ % 2 == 0 ? source.train : source.validation;
      split = {shard.documents, shard.text_bytes, shard.tokens, hex(shard.bin.hash)};
      writer_.reset();
    }
    ++open_;
    if (open_ == 2 * manifest_.sources.size()) return;
    const auto split = static_cast<Split>(open_ % 2);
    const Path prefix = shard_prefix(directory_, manifest_.sources[open_ / 2].name, split);
    make_directories(prefix.parent_path());
    writer_ = std::make_unique<ShardWriter>(prefix, tokenizer_.vocab_size(), tokenizer_.hash());
  }

  const Path& directory_;
  const Tokenizer& tokenizer_;
  PreparedManifest& manifest_;
  size_t open_ = static_cast<size_t>(-1);  // 2 x source + split
  std::unique_ptr<ShardWriter> writer_;
};

void write_shards(const config::DataConfig& config, const Texts& texts, const Tokenizer& tokenizer,
                  PreparedManifest& manifest) {
  const Path directory = config.directory();
  const std::vector<EncodeTask> tasks = encode_tasks(texts);
  int64_t bytes = 0;
  for (const std::vector<Spool>* spools : {&texts.train, &texts.validation}) {
    for (const Spool& spool : *spools) bytes += spool.text_bytes();
  }
  const size_t threads = thread_count(config);
  std::vector<Encoder> encoders;
  for (size_t t = 0; t < threads; ++t) encoders.emplace_back(tokenizer);
  Progress progress("encoding", bytes, "bytes");
  Shards shards(directory, tokenizer, manifest);
  InOrder<EncodedBatch>(tasks.size(), threads)
      .run(
          [&](size_t thread, size_t t, const auto& emit) {
            EncodedBatch batch;
            tasks[t].spool->read(tasks[t].block, [&](const SpooledDocument& document) {
              EncodedDocument& encoded = batch.emplace_back();
              encoders[thread].encode_document(document.text, encoded.ids);
              encoded.document = {std::string(document.id), document.hash.low,
                                  static_cast<int64_t>(document.text.size())};
            });
            emit(std::move(batch));
          },
          [&](size_t t, EncodedBatch&& batch) {
            ShardWriter& writer = shards.writer(tasks[t].source, tasks[t].split);
            int64_t done = 0;
            for (const EncodedDocument& encoded : batch) {
              writer.add(encoded.ids, encoded.document);
              done += encoded.document.text_bytes;
            }
            progress.add(done);
          },
          [](size_t) {});
  shards.finish();
  progress.finish();
}

// What launch/fetch_corpus.sh recorded, if it made the corpus.
std::vector<std::string> packages_of(const config::DataConfig& config) {
  const Path path = Path(config.corpus()) / "PACKAGES.tsv";
  std::vector<std::string> lines;
  if (!is_reachable(path)) return lines;
  try {
    std::istringstream text(read_file(path, int64_t{1} << 20));
    for (std::string line; std::getline(text, line);) lines.push_back(line);
  } catch (const Error& error) {
    log::warn("where the corpus is from is not recorded: {}", error.what());
  }
  return lines;
}

// Removed on every way out; also what an interrupted run left.
class Scratch {
 public:
  explicit Scratch(Path path) : path_(std::move(path)) {
    clear();
    make_directories(path_);
  }
  ~Scratch() { clear(); }
  Scratch(const Scratch&) = delete;  // the directory has one owner
  Scratch& operator=(const Scratch&) = delete;
  const Path& path() const { return path_; }

 private:
  void clear() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Path path_;
};

void require_training_text(const config::DataConfig& config, const PreparedManifest& manifest,
                           const Texts& texts) {
  for (size_t s = 0; s < manifest.sources.size(); ++s) {
    const PreparedSource& source = manifest.sources[s];
    const config::SourceConfig& wanted = config.source(static_cast<int>(s));
    if (texts.train[s].documents() > 0 || wanted.weight() == 0) continue;
    if (wanted.may_be_missing()) {
      log::warn("source '{}' holds no document; going on without it", source.name);
      continue;
    }
    const std::string omitted = left_out(source), &first = source.counts.first_skipped;
    throw UserError("source '" + source.name + "' has a weight but no training document: " +
                    with_commas(source.counts.files) + " files gave " + with_commas(source.counts.documents) +
                    " documents, of which " + with_commas(source.duplicates) + " were duplicates" +
                    (omitted.empty() ? "" : "; left out: " + omitted) +
                    (first.empty() ? "" : " (" + printable(first, 1000) + ")") +
                    "; check its path and format, or give it weight 0");
  }
}

}  // namespace

Prepared prepare(const config::DataConfig& config, const SourceRegistry& source_kinds,
                 const FilterRegistry& filter_kinds, const PrepareOptions& options) {
  data::check(config);
  const Path directory = config.directory();
  const std::vector<FilterChain> filters = make_filters(config, filter_kinds);
  const Sources sources = open_sources(config, source_kinds);
  const std::string model = given_tokenizer(config);
  PreparedManifest manifest;
  manifest.config = config_hash(config);
  manifest.inputs = inputs_hash(sources, filters, model);
  if (!options.again) {
    const std::optional<PreparedManifest> there = read_prepared_manifest(directory);
    if (there && there->config == manifest.config && there->inputs == manifest.inputs &&
        is_whole(directory, *there)) {
      return {true, *there};
    }
  }
  const DirectoryLock lock(directory);
  // From here on the directory is unfinished until the new manifest is written.
  std::error_code error;
  std::filesystem::remove(manifest_path(directory), error);
  if (error) throw SystemError("cannot remove " + quoted(manifest_path(directory)), error.value());

  const Scratch scratch(directory / ".text");
  const Texts texts = read_texts(config, sources, filters, scratch.path(), manifest);
  require_training_text(config, manifest, texts);
  const Tokenizer tokenizer = make_tokenizer(config, model, texts.train);
  write_file(tokenizer_path(directory), tokenizer.model_bytes());
  manifest.tokenizer = hex(tokenizer.hash());
  manifest.vocab = tokenizer.vocab_size();
  write_shards(config, texts, tokenizer, manifest);
  manifest.packages = packages_of(config);
  write_prepared_manifest(directory, manifest);
  return {false, manifest};
}

PreparedManifest check_prepared(const config::DataConfig& config) {
  const Path directory = config.directory();
  std::optional<PreparedManifest> manifest = read_prepared_manifest(directory);
  if (!manifest) {
    throw UserError("data.directory " + quoted(directory) +
                    " holds no prepared data; run toroid prepare with this config first");
  }
  if (manifest->config != config_hash(config)) {
    throw UserError(
        "data.directory " + quoted(directory) +
        " was prepared from another data config than this run's, or by another version of toroid; "
        "run toroid prepare again, or give the run a directory of its own");
  }
  return *std::move(manifest);
}

}  // namespace toroid
