// From text to token shards: what is kept, where it goes, and when the work is done again.
#include "data/prepare/prepare.h"

#include <fcntl.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "data/batch/dataset.h"
#include "data/check.h"
#include "data/data.pb.h"
#include "data/shard/shard.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/core/base/io/temporary_directory.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

void write(const Path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// Some words in an order that depends on the seed alone.
std::string prose(unsigned seed, int words) {
  static const std::vector<std::string> kWords = {
      "torus",  "the",    "a",       "gradient", "of",     "shard",    "is",    "reduced", "by",   "rank",
      "model",  "which",  "learns",  "from",     "text",   "and",      "every", "token",   "has",  "one",
      "window", "before", "another", "theorem",  "return", "function", "x1",    "=",       "42;",  "naive",
      "proof",  "page",   "query",   "select",   "where",  "index",    "begin", "commit",  "lock", "table"};
  std::string out;
  unsigned state = seed * 2654435761u + 1;
  for (int i = 0; i < words; ++i) {
    state = state * 1664525u + 1013904223u;
    out += kWords[(state >> 16) % kWords.size()];
    out += i % 11 == 10 ? ".\n" : " ";
  }
  return out;
}

class Prepare : public testing::Test {
 protected:
  void SetUp() override {
    for (unsigned i = 0; i < 120; ++i) {
      write(root_ / "corpus/web" / (std::to_string(i) + ".txt"), prose(i, 60 + static_cast<int>(i)));
      write(root_ / "corpus/code" / (std::to_string(i) + ".py"), "def f():\n\t" + prose(i + 1000, 40));
    }
    std::ofstream lines(root_ / "corpus/more.jsonl");
    for (unsigned i = 0; i < 40; ++i) {
      std::string text = prose(i + 2000, 30);
      for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "\\n");
      lines << "{\"text\": \"" << text << "\"}\n";
    }
  }

  config::DataConfig config(const std::string& more = "", const std::string& directory = "data") const {
    config::DataConfig config;
    const std::string text = R"(
      tokenizer { train { vocab: 640 input_megabytes: 1 } }
      source { name: "web" path: "web" format: TEXT weight: 2 }
      source { name: "code" path: "code" format: CODE }
      source { name: "more" path: "more.jsonl" format: JSONL }
      validation_fraction: 0.2 threads: 2 )";
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config));
    config.set_directory((root_ / directory).string());
    config.set_corpus((root_ / "corpus").string());
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(more, &config)) << more;
    return config;
  }

  Prepared run(const config::DataConfig& config, bool again = false) const {
    return prepare(config, builtin_sources(), builtin_filters(), {again});
  }

  // Every file below the directory, by name.
  std::map<std::string, std::string> files(const std::string& directory) const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(root_ / directory)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      all[entry.path().lexically_relative(root_ / directory).string()] = {std::istreambuf_iterator<char>(in),
                                                                          {}};
    }
    return all;
  }

  std::string failure(const config::DataConfig& config) const {
    try {
      run(config);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }

  // The documents of one shard, decoded.
  std::map<std::string, std::string> texts(const std::string& source, Split split) const {
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_path(root_ / "data"));
    const ShardReader shard(shard_prefix(root_ / "data", source, split), tokenizer.vocab_size(),
                            tokenizer.hash());
    std::map<std::string, std::string> all;
    for (int64_t d = 0; d < shard.documents(); ++d) {
      const int64_t begin = shard.document_start(d);
      std::vector<int32_t> ids(static_cast<size_t>(shard.document_start(d + 1) - begin));
      shard.read(begin, ids);
      EXPECT_EQ(ids.front(), tokenizer.special().bos);
      EXPECT_EQ(ids.back(), tokenizer.special().eos);
      all[shard.document(d).name] = tokenizer.decode(ids);
    }
    return all;
  }

  TemporaryDirectory root_;
};

TEST_F(Prepare, EveryDocumentIsInOneSplitAndDecodesToItsText) {
  const Prepared prepared = run(config());
  EXPECT_FALSE(prepared.was_there);
  EXPECT_EQ(prepared.manifest.vocab, 640);
  const auto train = texts("code", Split::train), held_out = texts("code", Split::validation);
  EXPECT_EQ(train.size() + held_out.size(), 120u);
  EXPECT_GT(held_out.size(), 10u);
  EXPECT_LT(held_out.size(), 40u);
  for (const auto* split : {&train, &held_out}) {
    for (const auto& [name, text] : *split) {
      const unsigned i = static_cast<unsigned>(std::stoul(name));
      EXPECT_EQ(text, "def f():\n\t" + prose(i + 1000, 40)) << name;
    }
  }
  const auto lines = texts("more", Split::train);
  EXPECT_EQ(lines.at("more.jsonl:1"), prose(2000, 30));
  EXPECT_EQ(prepared.manifest.sources[1].train.documents, static_cast<int64_t>(train.size()));
}

TEST_F(Prepare, TheResultDoesNotDependOnThreads) {
  run(config("threads: 1", "one"));
  const auto one = files("one");
  EXPECT_GE(one.size(), 2u + 3 * 2 * 4);
  for (const std::string threads : {"2", "7"}) {
    run(config("threads: " + threads, "other"), true);
    const auto other = files("other");
    ASSERT_EQ(other.size(), one.size());
    for (const auto& [name, bytes] : one)
      EXPECT_EQ(other.at(name).substr(0, 500), bytes.substr(0, 500)) << name;
  }
}

TEST_F(Prepare, DuplicatesAreDroppedAcrossSources) {
  write(root_ / "corpus/web/a.txt", prose(77, 137));  // 77.txt again, and before it in order
  write(root_ / "corpus/code/copy.py", "shared by two\n");
  write(root_ / "corpus/web/copy.txt", "shared by two\n");
  const Prepared prepared = run(config());
  EXPECT_EQ(prepared.manifest.sources[0].duplicates, 1);
  EXPECT_EQ(prepared.manifest.sources[1].duplicates, 1);
  EXPECT_EQ(prepared.manifest.sources[1].duplicate_bytes, 14);
  auto web = texts("web", Split::train);
  web.merge(texts("web", Split::validation));
  EXPECT_EQ(web.size(), 121u);
  EXPECT_TRUE(web.count("77.txt") == 1 && web.count("a.txt") == 0);  // '7' sorts before 'a'
}

TEST_F(Prepare, TheSplitDependsOnTheTextAlone) {
  run(config());
  const auto before = texts("web", Split::validation);
  for (unsigned i = 0; i < 60; ++i) fs::remove(root_ / "corpus/web" / (std::to_string(2 * i) + ".txt"));
  fs::rename(root_ / "corpus/web/1.txt", root_ / "corpus/web/z.txt");
  run(config());
  const auto after = texts("web", Split::validation);
  for (const auto& [name, text] : after) {
    EXPECT_EQ(before.count(name == "z.txt" ? "1.txt" : name), 1u) << name;
  }
  EXPECT_GT(after.size(), 3u);
}

TEST_F(Prepare, NothingIsDoneWhereNothingChanged) {
  run(config());
  EXPECT_TRUE(run(config()).was_there);
  EXPECT_TRUE(run(config("threads: 5")).was_there);
  config::DataConfig reweighted = config();
  reweighted.mutable_source(0)->set_weight(9);
  EXPECT_TRUE(run(reweighted).was_there);
  EXPECT_FALSE(run(config(), true).was_there);
  EXPECT_FALSE(run(config("validation_fraction: 0.3")).was_there);
  EXPECT_FALSE(run(config()).was_there);
  write(root_ / "corpus/web/new.txt", "a new document\n");
  EXPECT_FALSE(run(config()).was_there);
  EXPECT_TRUE(run(config()).was_there);
}

TEST_F(Prepare, ASplitWithoutDocumentsIsNoReasonToDoItAgain) {
  write(root_ / "corpus/one/a.txt", "the only document of its source\n");
  const std::string more = "source { name: 'one' path: 'one' format: TEXT weight: 0 }";
  const PreparedManifest made = run(config(more)).manifest;
  EXPECT_EQ(made.sources[3].train.documents + made.sources[3].validation.documents, 1);
  EXPECT_TRUE(run(config(more)).was_there);
}

TEST_F(Prepare, WhatIsDamagedIsMadeAgain) {
  run(config());
  fs::resize_file(root_ / "data/web/train.bin", 10);
  EXPECT_FALSE(run(config()).was_there);
  fs::remove(root_ / "data/code/validation.idx");
  EXPECT_FALSE(run(config()).was_there);
  fs::remove(tokenizer_path(root_ / "data"));
  EXPECT_FALSE(run(config()).was_there);
  write(root_ / "data/manifest.json", "{\"format\": \"toroid prep");
  EXPECT_NE(failure(config()).find("manifest.json"), std::string::npos);
  EXPECT_FALSE(run(config(), true).was_there);
}

TEST_F(Prepare, AGivenTokenizerIsUsed) {
  run(config());
  fs::copy(tokenizer_path(root_ / "data"), root_ / "corpus/other.model");
  const Prepared prepared = run(config("tokenizer { model: 'other.model' }", "second"));
  EXPECT_EQ(prepared.manifest.vocab, 640);
  const auto first = files("data"), second = files("second");
  EXPECT_EQ(first.at("tokenizer.model"), second.at("tokenizer.model"));
  EXPECT_EQ(first.at("web/train.bin"), second.at("web/train.bin"));
}

TEST_F(Prepare, TrainingAsksForTheSameConfig) {
  EXPECT_THROW(check_prepared(config()), UserError);
  run(config());
  EXPECT_EQ(check_prepared(config("threads: 3")).sources.size(), 3u);
  EXPECT_THROW(check_prepared(config("minimum_document_bytes: 5")), UserError);
}

TEST_F(Prepare, ABadDocumentLeavesNoManifest) {
  run(config());
  std::ofstream(root_ / "corpus/more.jsonl", std::ios::app) << "{\"text\": \n";
  const std::string why = failure(config());
  EXPECT_NE(why.find("line 41 of"), std::string::npos) << why;
  EXPECT_FALSE(fs::exists(root_ / "data/manifest.json"));
  EXPECT_FALSE(fs::exists(root_ / "data/.text"));
}

TEST_F(Prepare, DamageAndBadLinesAreCountedInTableAndManifest) {
  std::ofstream(root_ / "corpus/more.jsonl", std::ios::app)
      << "{\"text\": \n{\"text\": \"cut \\ud83d\"}\n{\"text\": \"caf\xE9\"}\n{\"title\": 1}\n";
  config::DataConfig lenient = config();
  lenient.mutable_source(2)->mutable_jsonl()->set_on_bad_line(config::JsonlConfig::SKIP);
  const PreparedManifest made = run(lenient).manifest;
  const Prepared again = run(lenient);
  EXPECT_TRUE(again.was_there);
  for (const PreparedManifest& manifest : {made, again.manifest}) {
    const SourceCounts& counts = manifest.sources[2].counts;
    EXPECT_EQ(counts.dropped_not_json, 1);
    EXPECT_EQ(counts.dropped_no_text, 1);
    const std::map<FilterReason, int64_t> noted = {{{"damage", "bytes that are not UTF-8"}, 1},
                                                   {{"damage", "escapes of no character"}, 1},
                                                   {{"damage", "repaired with U+FFFD"}, 2}};
    EXPECT_EQ(manifest.sources[2].filters.noted, noted);
    const std::string table = prepared_table(manifest);
    for (const char* line : {"left out: lines that are not JSON 1, lines without a text 1",
                             "the first line left out: line 41 of ",
                             "noted by damage: bytes that are not UTF-8 1, escapes of no character 1, "
                             "repaired with U+FFFD 2\n"}) {
      EXPECT_NE(table.find(line), std::string::npos) << table;
    }
  }
  // The policy is part of what the data was made from.
  EXPECT_THROW(check_prepared(config()), UserError);
}

TEST_F(Prepare, AManifestOfAnEarlierVersionIsRead) {
  run(config());
  nlohmann::ordered_json manifest = nlohmann::ordered_json::parse(files("data").at("manifest.json"));
  for (auto& source : manifest["sources"]) {
    source.erase("filters");
    source["counts"].erase("dropped_not_json");
    source["counts"]["dropped_binary"] = 3;
  }
  write(root_ / "data/manifest.json", manifest.dump());
  EXPECT_TRUE(run(config()).was_there);
}

TEST_F(Prepare, TooSmallAVocabularyNamesTheField) {
  const std::string why = failure(config("tokenizer { train { vocab: 506 } }"));
  EXPECT_NE(why.find("data.tokenizer.train.vocab is 506, but this text needs at least "), std::string::npos)
      << why;
  EXPECT_EQ(why.find("--"), std::string::npos) << why;
}

TEST_F(Prepare, ASourceWithoutDocumentsIsAnError) {
  write(root_ / "corpus/empty/a.txt", " \n");
  const std::string more = "source { name: 'none' path: 'empty' format: TEXT }";
  const std::string why = failure(config(more));
  EXPECT_NE(why.find("'none' has a weight but no training document"), std::string::npos) << why;
  config::DataConfig unused = config(more);
  unused.mutable_source(3)->set_weight(0);
  const FilterCounts filters = run(unused).manifest.sources[3].filters;
  EXPECT_EQ(filters.dropped.at({"minimum_document_bytes", "too short"}), 1);
  EXPECT_NE(why.find("minimum_document_bytes: too short 1"), std::string::npos) << why;
}

TEST_F(Prepare, ASourceThatMayBeMissingIsGoneOnWithout) {
  const std::string more = "source { name: 'gone' path: 'gone' format: HTML may_be_missing: true weight: 5 }";
  EXPECT_EQ(run(config(more)).manifest.sources[3].counts.files, 0);
  const auto batches = open_dataset(config(more), {32, 640, 1});
  EXPECT_EQ(batches->batch(0, 4).sequences, 4);
  write(root_ / "corpus/gone/back.html", "<p>It is back.");
  EXPECT_EQ(run(config(more)).manifest.sources[3].counts.files, 1);
  fs::remove_all(root_ / "corpus/gone");
  EXPECT_NE(failure(config("source { name: 'gone' path: 'gone' format: HTML }")), "");
}

TEST_F(Prepare, OneDirectoryIsPreparedByOneProcessAtATime) {
  fs::create_directories(root_ / "data");
  const int lock = ::open((root_ / "data/.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  EXPECT_NE(failure(config()).find("another toroid prepare"), std::string::npos);
  ::close(lock);
  EXPECT_FALSE(run(config()).was_there);
}

TEST_F(Prepare, TheTableNamesEverySource) {
  const std::string table = prepared_table(run(config()).manifest);
  for (const char* name : {"web", "code", "more", "all"})
    EXPECT_NE(table.find(name), std::string::npos) << table;
}

// A source that no folder of the program knows: squares, in words.
class CountingSource : public Source {
 public:
  explicit CountingSource(int numbers) : numbers_(numbers) {}
  size_t parts() const override { return static_cast<size_t>(numbers_); }
  SourceCounts read(size_t part, const DocumentSink& sink) const override {
    sink({"the square of " + std::to_string(part) + " is " + std::to_string(part * part) + "\n",
          "square " + std::to_string(part)});
    SourceCounts counts;
    counts.documents = 1;
    return counts;
  }
  std::string identity() const override { return std::to_string(numbers_); }

 private:
  int numbers_;
};

TEST_F(Prepare, ASourceOfAnotherFileIsUsedByConfig) {
  SourceRegistry registry = builtin_sources();
  registry.add("counting", [](const config::SourceConfig& source, const Path&) {
    int numbers = 0;
    for (const auto& p : source.custom().parameter()) {
      if (p.key() == "numbers") numbers = std::stoi(p.value());
    }
    return std::make_unique<CountingSource>(numbers);
  });
  const std::string more =
      "source { name: 'squares' custom { name: 'counting' parameter { key: 'numbers' value: '50' } } }";
  const Prepared prepared = prepare(config(more), registry, builtin_filters());
  EXPECT_EQ(prepared.manifest.sources[3].counts.documents, 50);
  auto all = texts("squares", Split::train);
  all.merge(texts("squares", Split::validation));
  EXPECT_EQ(all.at("square 7"), "the square of 7 is 49\n");
  EXPECT_NE(failure(config(more)).find("custom.name 'counting', which no source is registered as"),
            std::string::npos);
}

// A filter that no folder of the program knows: drops documents with one word, and cuts another out.
class WordFilter final : public Filter {
 public:
  explicit WordFilter(std::string dropped) : dropped_(std::move(dropped)) {}
  Verdict apply(Document& document) const override {
    if (document.text.find(dropped_) != std::string::npos) return {"holds the word"};
    const size_t cut = document.text.find("gradient ");
    if (cut == std::string::npos) return {};
    document.text.erase(cut, 9);
    return {{}, {"cut"}};
  }
  std::string identity() const override { return dropped_; }

 private:
  std::string dropped_;
};

FilterRegistry with_word_filter(const std::string& list) {
  FilterRegistry registry = builtin_filters();
  registry.add("word", [list](const config::FilterConfig& config, const std::string& path) {
    if (config.custom().parameter_size() > 0) throw UserError(path + " takes no parameter");
    return std::make_unique<WordFilter>(list);
  });
  return registry;
}

TEST_F(Prepare, AFilterOfAnotherFileIsUsedByConfig) {
  config::DataConfig filtered = config();
  filtered.mutable_source(0)->add_filter()->mutable_custom()->set_name("word");
  filtered.mutable_source(0)->add_filter()->mutable_length()->set_minimum_words(100);
  const PreparedManifest made = prepare(filtered, builtin_sources(), with_word_filter("theorem")).manifest;
  int64_t with_word = 0, cut = 0, short_ones = 0;
  for (unsigned i = 0; i < 120; ++i) {
    const std::string text = prose(i, 60 + static_cast<int>(i));
    const bool has_word = text.find("theorem") != std::string::npos;
    const bool is_cut = !has_word && text.find("gradient ") != std::string::npos;
    with_word += has_word ? 1 : 0;
    cut += is_cut ? 1 : 0;
    short_ones += !has_word && 60 + i - (is_cut ? 1 : 0) < 100 ? 1 : 0;
  }
  ASSERT_GT(with_word, 0);
  ASSERT_GT(short_ones, 0);
  const auto read_back = prepare(filtered, builtin_sources(), with_word_filter("theorem"));
  EXPECT_TRUE(read_back.was_there);
  for (const PreparedManifest& manifest : {made, read_back.manifest}) {
    const FilterCounts& counts = manifest.sources[0].filters;
    const std::map<FilterReason, int64_t> dropped = {{{"length", "too few words"}, short_ones},
                                                     {{"word", "holds the word"}, with_word}};
    EXPECT_EQ(counts.dropped, dropped);
    EXPECT_EQ(counts.noted.at({"word", "cut"}), cut);
    EXPECT_EQ(manifest.sources[0].counts.documents, 120 - with_word - short_ones);
    EXPECT_EQ(manifest.sources[1].filters, FilterCounts{});
    const std::string table = prepared_table(manifest);
    EXPECT_NE(table.find("dropped by word: holds the word " + std::to_string(with_word)), std::string::npos)
        << table;
    EXPECT_NE(table.find("noted by word: cut " + std::to_string(cut)), std::string::npos) << table;
  }
  for (const auto& [name, text] : texts("web", Split::train)) {
    EXPECT_EQ(text.find("theorem"), std::string::npos) << name;
  }
  // What a filter read elsewhere is part of the inputs.
  EXPECT_FALSE(prepare(filtered, builtin_sources(), with_word_filter("window")).was_there);
  EXPECT_THROW(check_prepared(config()), UserError);
}

TEST_F(Prepare, FiltersThatCannotBeMadeEndItBeforeAnythingIsRead) {
  config::DataConfig wrong = config("source { name: 'none' path: 'absent' format: TEXT }");
  config::FilterConfig& filter = *wrong.mutable_source(3)->add_filter();
  filter.mutable_custom()->set_name("lenght");
  EXPECT_EQ(failure(wrong).find("data.source[3].filter[0].custom.name is 'lenght', which no filter is "
                                "registered as; did you mean \"length\"? (registered: binary"),
            0u)
      << failure(wrong);
  filter.mutable_custom()->set_name("word");
  filter.mutable_custom()->add_parameter()->set_key("unknown");
  try {
    prepare(wrong, builtin_sources(), with_word_filter("x"));
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "data.source[3].filter[0].custom takes no parameter");
  }
}

TEST_F(Prepare, ConfigsThatCannotWorkSayWhatIsWrong) {
  const auto why = [&](const std::string& more) {
    try {
      data::check(config(more));
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(why(""), "");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"directory: ''", "data.directory is not set"},
      {"tokenizer { train { vocab: 10 } }", "data.tokenizer.train.vocab"},
      {"tokenizer { train { vocab: 2147483647 } }", "data.tokenizer.train.vocab"},
      {"tokenizer { train { input_megabytes: nan } }", "input_megabytes"},
      {"tokenizer { model: '' }", "data.tokenizer.model"},
      {"source { name: 'web' path: 'x' format: TEXT }", "\"web\" again"},
      {"source { name: '../x' path: 'x' format: TEXT }", "data.source[3].name"},
      {"source { name: 'x' path: 'x' }", "neither format nor custom"},
      {"source { name: 'x' format: TEXT }", "data.source[3].path"},
      {"source { name: 'x' path: 'x' format: TEXT weight: -1 }", "data.source[3].weight"},
      {"source { name: 'x' path: 'x' format: TEXT weight: inf }", "data.source[3].weight"},
      {"source { name: 'x' path: 'x' format: TEXT maximum_megabytes: 0 }", "maximum_megabytes"},
      {"source { name: 'x' custom { } }", "custom.name is not set"},
      {"source { name: 'x' path: 'x' format: TEXT filter { } }", "data.source[3].filter[0] is empty"},
      {"source { name: 'x' path: 'x' format: TEXT filter { custom { } } }",
       "filter[0].custom.name is not set"},
      {"source { name: 'x' path: 'x' format: TEXT filter { length { minimum_bytes: -1 } } }",
       "data.source[3].filter[0].length.minimum_bytes"},
      {"source { name: 'x' path: 'x' format: TEXT filter { line_ends { } } filter { length { } } }",
       "data.source[3].filter[1].length has no bound"},
      {"validation_fraction: 1", "data.validation_fraction"},
      {"validation_fraction: nan", "data.validation_fraction"},
      {"threads: -1", "data.threads"},
  };
  for (const auto& [more, expected] : cases) {
    EXPECT_NE(why(more).find(expected), std::string::npos) << more << " gave: " << why(more);
  }
}

}  // namespace
}  // namespace toroid
