// Bytes a second that one thread turns into ids, with the word cache and by SentencePiece alone, on the files
// of a corpus.
//
//   encode_speed --model DIR/tokenizer.model --corpus DIR [--benchmark_...]
//
// BM_first_pass begins with an empty cache each time, BM_second_pass with a full one.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/text.h"
#include "core/base/utf8.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tokenizer.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCorpusBytes = int64_t{16} << 20;

struct Corpus {
  std::vector<std::string> documents;
  int64_t bytes = 0;
};

Corpus read_corpus(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  Corpus corpus;
  for (const fs::path& file : files) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    if (!valid_utf8(text.str()) || text.str().size() > (4 << 20)) continue;
    corpus.bytes += static_cast<int64_t>(text.str().size());
    corpus.documents.push_back(text.str());
    if (corpus.bytes > kCorpusBytes) break;
  }
  return corpus;
}

void encode(benchmark::State& state, const Corpus& corpus, const Tokenizer& tokenizer, bool fresh) {
  Encoder encoder(tokenizer);
  std::vector<int32_t> ids;
  int64_t tokens = 0;
  for (auto _ : state) {
    if (fresh) encoder = Encoder(tokenizer);
    tokens = 0;
    for (const std::string& document : corpus.documents) {
      ids.clear();
      encoder.encode(document, ids);
      tokens += static_cast<int64_t>(ids.size());
    }
  }
  state.SetBytesProcessed(state.iterations() * corpus.bytes);
  state.counters["bytes_per_token"] = static_cast<double>(corpus.bytes) / static_cast<double>(tokens);
}

void sentencepiece(benchmark::State& state, const Corpus& corpus, const Tokenizer& tokenizer) {
  const SentencePieceModel model(tokenizer.model_bytes(), "bench");
  std::vector<int> ids;
  for (auto _ : state) {
    for (const std::string& document : corpus.documents) model.encode(document, ids);
  }
  state.SetBytesProcessed(state.iterations() * corpus.bytes);
}

int run(int argc, char** argv) {
  std::string model, directory;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--model") == 0) model = argv[i + 1];
    if (std::strcmp(argv[i], "--corpus") == 0) directory = argv[i + 1];
  }
  if (model.empty() || directory.empty()) {
    std::fputs("usage: encode_speed --model FILE --corpus DIRECTORY [--benchmark_...]\n", stderr);
    return 2;
  }
  const Tokenizer tokenizer = Tokenizer::load(model);
  const Corpus corpus = read_corpus(directory);
  std::printf("%zu documents, %s\n", corpus.documents.size(), human_bytes(corpus.bytes).c_str());
  const auto time = [](const char* name, auto&& body) {
    benchmark::RegisterBenchmark(name, body)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();
  };
  time("BM_first_pass", [&](benchmark::State& s) { encode(s, corpus, tokenizer, true); });
  time("BM_second_pass", [&](benchmark::State& s) { encode(s, corpus, tokenizer, false); });
  time("BM_sentencepiece_alone", [&](benchmark::State& s) { sentencepiece(s, corpus, tokenizer); });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  try {
    return toroid::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "encode_speed: %s\n", error.what());
    return 2;
  }
}
