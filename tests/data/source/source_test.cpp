// Sources: what is read from files as they are found, and what is refused.
#include "data/source/source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "data/source/byte_stream.h"
#include "data/source/html.h"
#include "data/source/registry.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/data/source/reading.h"

namespace toroid {
namespace {

namespace fs = std::filesystem;

const Path kHere = "tests/data/source";

std::string contents(const Path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Html, TextIsWhatAReaderSees) {
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(kHere / "html")) {
    if (entry.path().extension() != ".html") continue;
    Path expected = entry.path();
    expected.replace_extension(".txt");
    HtmlOptions options;
    options.drop = {"menu", "toc"};
    EXPECT_EQ(html_text(contents(entry.path()), options), contents(expected)) << entry.path();
    ++cases;
  }
  EXPECT_GE(cases, 6);
}

TEST(Html, FurnitureIsKeptWhenAsked) {
  HtmlOptions options;
  options.keep_page_furniture = true;
  EXPECT_EQ(html_text("<nav>Home</nav><p>Text<footer>End</footer>", options), "Home\n\nText\n\nEnd\n");
}

TEST(Html, BrokenPagesGiveTheirText) {
  const auto text = html_text("<p>Unclosed <b>bold <i>both</b> it</i> a < b &unknown; <p x=\"1>lost</p>");
  ASSERT_TRUE(text);
  EXPECT_TRUE(text->starts_with("Unclosed bold both it a < b &unknown;")) << *text;
  EXPECT_EQ(html_text(""), "");
  EXPECT_EQ(html_text("a <"), "a\n");
  EXPECT_EQ(html_text("<!--"), "");
  EXPECT_EQ(html_text("plain text"), "plain text\n");
}

std::string repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Html, DeepNestingIsReadWithoutAStack) {
  constexpr int kDeep = 100'000;
  EXPECT_EQ(html_text(repeat("<div>", kDeep) + "deep" + repeat("</div>", kDeep)), "deep\n");
  EXPECT_EQ(html_text(repeat("<b>", kDeep) + "deep"), "deep\n");
  EXPECT_EQ(html_text(repeat("<table><tr><td>", kDeep) + "deep"), "deep\n");
  EXPECT_EQ(html_text(repeat("<ul><li>", kDeep) + "deep"), "- deep\n");
}

TEST(Html, EndTagsThatCloseNothingEndInAVerdict) {
  // Each makes the parser walk the 100,000 open elements.
  EXPECT_EQ(html_text(repeat("<div>", 100'000) + repeat("</span>", 100'000)), std::nullopt);
}

TEST(Source, DirectoriesAreReadInOrderOfPath) {
  const TemporaryDirectory root;
  write(root / "b/two.txt", "two\r\n");
  write(root / "a.txt", "one");
  write(root / "b.txt", "b.txt comes before b/ for bytes sort so");
  write(root / "c/skip.bin", "no");
  write(root / "c/d/three.md", "three");
  const Read read = read_everything("name: 's' path: '.' format: TEXT", root.path());
  std::vector<std::string> ids;
  for (const Document& document : read.documents) ids.push_back(document.id);
  EXPECT_EQ(ids, (std::vector<std::string>{"a.txt", "b.txt", "b/two.txt", "c/d/three.md"}));
  EXPECT_EQ(read.documents[2].text, "two\n");
  EXPECT_EQ(read.counts.files, 4);
  EXPECT_EQ(read.counts.documents, 4);
}

TEST(Source, PatternsChooseFiles) {
  const TemporaryDirectory root;
  for (const char* name : {"a.py", "test/b.py", "test/c.txt", "lib/d.py"}) write(root / name, name);
  const auto names = [&](const std::string& config) {
    std::string all;
    for (const Document& d :
         read_everything("name: 's' path: '.' format: CODE " + config, root.path()).documents) {
      all += d.id + " ";
    }
    return all;
  };
  EXPECT_EQ(names(""), "a.py lib/d.py test/b.py ");
  EXPECT_EQ(names("exclude: 'test/*'"), "a.py lib/d.py ");
  EXPECT_EQ(names("include: '*.txt'"), "test/c.txt ");
  EXPECT_EQ(names("include: '*' exclude: 'd.py'"), "a.py test/b.py test/c.txt ");
  EXPECT_NE(failure("name: 's' path: '.' format: HTML", root.path()).find("no file below"),
            std::string::npos);
}

TEST(Source, LinksOutAndSpecialFilesAreSkippedAndCounted) {
  const TemporaryDirectory root, elsewhere;
  write(elsewhere / "secret.txt", "secret");
  write(root / "in/real.txt", "real");
  fs::create_symlink(elsewhere / "secret.txt", root / "in/out.txt");
  fs::create_symlink("/dev/zero", root / "in/zero.txt");
  fs::create_symlink(root / "in/missing", root / "in/dangling.txt");
  fs::create_directory_symlink(root / "in", root / "in/loop");
  fs::create_symlink("real.txt", root / "in/same.txt");
  ASSERT_EQ(::mkfifo((root / "in/pipe.txt").c_str(), 0600), 0);
  const Read read = read_everything("name: 's' path: 'in' format: TEXT", root.path());
  ASSERT_EQ(read.documents.size(), 2u);  // real.txt, and same.txt, which stays inside
  EXPECT_EQ(read.documents[1].id, "same.txt");
  EXPECT_EQ(read.counts.skipped_links, 4);
  EXPECT_EQ(read.counts.skipped_special, 1);
  EXPECT_NE(failure("name: 's' path: '/dev/zero' format: TEXT", root.path()), "");
  EXPECT_NE(failure("name: 's' path: 'absent' format: TEXT", root.path()).find("absent"), std::string::npos);
}

TEST(Source, BinaryFilesAreDroppedAndInvalidUtf8IsRepairedOrDropped) {
  const TemporaryDirectory root;
  write(root / "a.txt", std::string("bin\0ary", 7));
  write(root / "b.txt", "caf\xE9");
  write(root / "c.txt", "fine");
  const Read repaired = read_everything("name: 's' path: '.' format: TEXT", root.path());
  EXPECT_EQ(repaired.dropped("binary"), 1);
  EXPECT_EQ(repaired.noted("repaired with U+FFFD"), 1);
  ASSERT_EQ(repaired.documents.size(), 2u);
  EXPECT_EQ(repaired.documents[0].text, "caf\xEF\xBF\xBD\n");
  const Read dropped = read_everything("name: 's' path: '.' format: TEXT invalid_utf8: DROP", root.path());
  EXPECT_EQ(dropped.dropped("damage"), 1);
  EXPECT_EQ(dropped.documents.size(), 1u);
}

TEST(Source, CompressedTextIsReadAndItsSizeIsBounded) {
  const TemporaryDirectory root;
  gzFile out = gzopen((root / "big.txt.gz").c_str(), "wb");
  const std::string zeros(1'000'000, 'a');
  for (int i = 0; i < 3; ++i) gzwrite(out, zeros.data(), static_cast<unsigned>(zeros.size()));
  gzclose(out);
  const Read read = read_everything("name: 's' path: '.' format: TEXT maximum_megabytes: 4", root.path());
  ASSERT_EQ(read.documents.size(), 1u);
  EXPECT_EQ(read.documents[0].text.size(), 3'000'001u);
  const std::string refused = failure("name: 's' path: '.' format: TEXT maximum_megabytes: 2", root.path());
  EXPECT_NE(refused.find("big.txt.gz"), std::string::npos) << refused;
}

TEST(Source, JsonlGivesADocumentALine) {
  const Read read = read_everything("name: 's' path: 'read' format: JSONL", kHere);
  std::vector<std::string> all;
  for (const Document& document : read.documents) all.push_back(document.id + " " + document.text);
  const std::vector<std::string> expected = {
      "three.jsonl:1 one",         "three.jsonl:3 two\xEF\xBF\xBD\n\xF0\x9F\x98\x80",
      "three.jsonl:4 three",       "two.jsonl.gz:1 member one",
      "two.jsonl.gz:2 member two", "two.jsonl.zst:1 zstd one",
      "two.jsonl.zst:2 zstd two"};
  EXPECT_EQ(all, expected);
  EXPECT_EQ(read.counts.files, 3);
}

TEST(Source, JsonlTextFieldIsConfigurable) {
  const TemporaryDirectory root;
  write(root / "a.jsonl", "{\"body\": \"b\", \"text\": 1}\n");
  const Read read =
      read_everything("name: 's' path: '.' format: JSONL jsonl { text_field: 'body' }", root.path());
  ASSERT_EQ(read.documents.size(), 1u);
  EXPECT_EQ(read.documents[0].text, "b");
}

TEST(Source, EveryMalformedFileIsRefusedInOneSentence) {
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(kHere / "refused")) {
    const std::string name = entry.path().filename().string();
    const std::string why = failure("name: 's' path: '" + name + "' format: JSONL", kHere / "refused");
    EXPECT_NE(why.find(name), std::string::npos) << name << ": " << why;
    EXPECT_EQ(why.find('\n'), std::string::npos) << why;
    EXPECT_LT(why.size(), 600u) << why;
    ++cases;
  }
  EXPECT_GE(cases, 20);
  EXPECT_NE(failure("name: 's' path: 'not_json.jsonl' format: JSONL", kHere / "refused").find("line 2 of"),
            std::string::npos);
}

TEST(Source, AnEndlessLineGivesOneError) {
  const TemporaryDirectory root;
  write(root / "long.jsonl", "{\"text\": \"a\"}\n");
  fs::resize_file(root / "long.jsonl", 1'000'000'000);  // a hole: zeros without a newline
  const std::string why = failure("name: 's' path: '.' format: JSONL maximum_megabytes: 8", root.path());
  EXPECT_NE(why.find("line 2 of"), std::string::npos) << why;
  EXPECT_NE(why.find("longer than 8000000"), std::string::npos) << why;
}

TEST(Source, DeepJsonOutsideTheTextIsReadWithoutAStack) {
  const TemporaryDirectory root;
  write(root / "deep.jsonl",
        "{\"meta\": " + repeat("[", 200'000) + repeat("]", 200'000) + ", \"text\": \"found\"}\n");
  const Read read = read_everything("name: 's' path: '.' format: JSONL", root.path());
  ASSERT_EQ(read.documents.size(), 1u);
  EXPECT_EQ(read.documents[0].text, "found");
  write(root / "deep.jsonl", repeat("{\"text\":", 200'000) + "\n");
  EXPECT_NE(failure("name: 's' path: '.' format: JSONL", root.path()).find("line 1 of"), std::string::npos);
}

TEST(Source, IdentityFollowsTheFiles) {
  const TemporaryDirectory root;
  write(root / "a.txt", "one");
  const auto identity = [&] {
    return builtin_sources().make(parse_source("name: 's' path: '.' format: TEXT"), root.path())->identity();
  };
  const std::string before = identity();
  EXPECT_EQ(identity(), before);
  write(root / "a.txt", "other");
  EXPECT_NE(identity(), before);
  write(root / "unread.bin", "x");
  const std::string after = identity();
  write(root / "b.txt", "two");
  EXPECT_NE(identity(), after);
}

TEST(Corpus, ItsPageNamesEveryPackageThatIsFetched) {
  const std::string page = contents("docs/corpus.md");
  std::istringstream script(contents("launch/fetch_corpus.sh"));
  int packages = 0;
  bool listing = false;
  for (std::string line; std::getline(script, line);) {
    if (line == "LIST") break;
    if (listing) {
      std::string group, package, licence;
      std::istringstream(line) >> group >> package >> licence;
      EXPECT_NE(page.find("`" + package + "`"), std::string::npos) << package;
      ++packages;
    }
    listing = listing || line.find("<<'LIST'") != std::string::npos;
  }
  EXPECT_EQ(packages, 10);
}

TEST(Source, EveryFormatHasItsLine) {
  const SourceRegistry registry = builtin_sources();
  const auto* formats = config::SourceConfig::Format_descriptor();
  for (int i = 0; i < formats->value_count(); ++i) {
    EXPECT_TRUE(registry.has(formats->value(i)->name())) << formats->value(i)->name();
  }
}

TEST(Source, WhatHasNoLineIsAnErrorThatSaysSo) {
  const auto why = [](const SourceRegistry& registry, const std::string& config) {
    try {
      (void)registry.make(parse_source("name: 's' path: '.' " + config), ".");
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  SourceRegistry one;
  one.add("counting", [](const config::SourceConfig&, const Path&) { return nullptr; });
  EXPECT_EQ(why(one, "format: HTML"),
            "source 's' has format HTML, which no source is registered as (registered: counting)");
  EXPECT_EQ(
      why(one, "custom { name: 'countin' }"),
      "source 's' has custom.name 'countin', which no source is registered as; did you mean \"counting\"? "
      "(registered: counting)");
  EXPECT_EQ(why(one, ""), "source 's' has neither format nor custom");
  EXPECT_EQ(why(builtin_sources(), "custom { name: 'TEXT' }"),
            "source 's' has custom.name 'TEXT', which is built in: write format: TEXT");
  EXPECT_EQ(why(builtin_sources(), "custom { name: 'text' }"),
            "source 's' has custom.name 'text', which no source is registered as (registered: CODE, HTML, "
            "JSONL, TEXT)");
}

TEST(Source, FiltersOfTheConfigFollowTheFormats) {
  const TemporaryDirectory root;
  write(root / "a.txt", "\n\nshort\n\n\n");
  write(root / "b.txt", "long enough to be kept\r\n");
  const Read read =
      read_everything("name: 's' path: '.' format: TEXT filter { length { minimum_bytes: 7 } }", root.path());
  ASSERT_EQ(read.documents.size(), 1u);  // "short\n" is too short, as it stands after the format's cleaning
  EXPECT_EQ(read.documents[0].text, "long enough to be kept\n");
  EXPECT_EQ(read.dropped("length"), 1);
  EXPECT_EQ(read.counts.documents, 1);
  EXPECT_EQ(read.counts.files, 2);
}

}  // namespace
}  // namespace toroid
