// The whole of a real corpus, where there is one: the ids are SentencePiece's and the text comes back.
// TOROID_CORPUS names the directory; without it the quick start's is taken, or launch/fetch_corpus.sh's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/utf8.h"
#include "data/tokenizer/sentencepiece.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_tokenizer.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

fs::path corpus() {
  if (const char* given = std::getenv("TOROID_CORPUS")) return given;
  const fs::path quickstart = ".cache/quickstart/corpus";  // tests run in the repository's root
  if (fs::exists(quickstart)) return quickstart;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return fs::path(cache) / "toroid/corpus";
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "." : home) / ".cache/toroid/corpus";
}

std::vector<fs::path> files() {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(corpus(), ignored)) {
    if (entry.is_regular_file() && !entry.is_symlink() && entry.file_size() < (10 << 20))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

TEST(TokenizerCorpus, EqualsSentencePieceOnEveryDocument) {
  const std::vector<fs::path> all = files();
  if (all.empty()) GTEST_SKIP() << "no corpus at " << corpus() << "; run launch/fetch_corpus.sh";
  size_t next = 0;
  std::string text;
  const Tokenizer tokenizer = train_tokenizer(
      [&](std::string_view& part) {
        if (next >= all.size()) return false;
        text = read(all[next]);
        next += std::max<size_t>(all.size() / 200, 1);  // some 200 documents of every kind
        part = text;
        return true;
      },
      {4096, 1});
  const SentencePieceModel sentencepiece(tokenizer.model_bytes(), "corpus");
  Encoder encoder(tokenizer);
  std::vector<int> expected;
  size_t compared = 0;
  for (const fs::path& path : all) {
    text = read(path);
    const std::vector<int32_t> ids = encoder.encode(text);
    ASSERT_EQ(tokenizer.decode(ids), text) << path;
    // Documents without escapes are one piece of text, so SentencePiece may see them whole.
    if (!valid_utf8(text) || text.find("\xe2\x96\x81") != std::string::npos || text.size() > (4 << 20))
      continue;
    if (text.find("<unused") != std::string::npos || text.find("_of_turn>") != std::string::npos ||
        text.find("<mask>") != std::string::npos) {
      continue;
    }
    sentencepiece.encode(text, expected);
    ASSERT_EQ(ids, std::vector<int32_t>(expected.begin(), expected.end())) << path;
    ++compared;
  }
  EXPECT_GT(compared, all.size() / 2);
  RecordProperty("documents", static_cast<int>(compared));
}

}  // namespace
}  // namespace toroid
