// Documentation that points somewhere points at something: links of the Markdown files, the files that they
// name, and no path of one machine anywhere in the repository.
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {
namespace {

namespace fs = std::filesystem;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

// The anchor that a Markdown renderer gives a heading: lower case, punctuation dropped, spaces as hyphens.
std::string anchor_of(std::string_view heading) {
  std::string anchor;
  for (const char c : heading) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalnum(u) || c == '_' || c == '-' || u >= 0x80) {
      anchor += static_cast<char>(std::tolower(u));
    } else if (c == ' ') {
      anchor += '-';
    }
  }
  return anchor;
}

struct Markdown {
  std::vector<std::string> prose;  // lines outside fenced blocks; empty where one was
  std::set<std::string> anchors;
};

Markdown read_markdown(std::string_view text) {
  Markdown result;
  std::istringstream lines{std::string(text)};
  bool fenced = false;
  for (std::string line; std::getline(lines, line);) {
    const bool fence = line.starts_with("```");
    if (fence) fenced = !fenced;
    if (!fenced && line.starts_with('#')) {
      const size_t start = line.find_first_not_of("# ");
      if (start != std::string::npos) result.anchors.insert(anchor_of(std::string_view(line).substr(start)));
    }
    result.prose.push_back(fenced || fence ? std::string() : line);
  }
  return result;
}

// Targets of [text](target) in a line.
std::vector<std::string> links_in(std::string_view line) {
  std::vector<std::string> found;
  for (size_t at = line.find("]("); at != std::string_view::npos; at = line.find("](", at + 2)) {
    const size_t end = line.find(')', at);
    if (end == std::string_view::npos) break;
    found.emplace_back(line.substr(at + 2, end - at - 2));
  }
  return found;
}

// Names in `backquotes` that read as a file of this repository: a known folder, a slash, no placeholder, a
// suffix.
std::vector<std::string> files_named_in(std::string_view line) {
  static const std::set<std::string_view> folders = {"core",  "parallel", "optim",   "data",
                                                     "train", "simulate", "configs", "launch",
                                                     "bench", "tests",    "docs",    "cmake"};
  std::vector<std::string> found;
  for (size_t open = line.find('`'); open != std::string_view::npos;) {
    const size_t close = line.find('`', open + 1);
    if (close == std::string_view::npos) break;
    const std::string_view name = line.substr(open + 1, close - open - 1);
    const size_t slash = name.find('/');
    const bool plain = name.find_first_of(" *<>{}$()[]=,:NX\"") == std::string_view::npos;
    if (plain && slash != std::string_view::npos && folders.contains(name.substr(0, slash)) &&
        name.find('.', name.rfind('/')) != std::string_view::npos) {
      found.emplace_back(name);
    }
    open = line.find('`', close + 1);
  }
  return found;
}

std::vector<std::string> check_markdown(const fs::path& root, const fs::path& path) {
  std::vector<std::string> found;
  const Markdown page = read_markdown(contents(path));
  for (size_t number = 0; number < page.prose.size(); ++number) {
    const std::string& line = page.prose[number];
    const std::string where =
        fs::relative(path, root).generic_string() + ":" + std::to_string(number + 1) + ": ";
    for (const std::string& link : links_in(line)) {
      if (link.find("://") != std::string::npos || link.starts_with("mailto:")) continue;
      const size_t hash = link.find('#');
      const std::string file = link.substr(0, hash);
      const fs::path target = file.empty() ? path : path.parent_path() / file;
      if (!fs::exists(target)) {
        found.push_back(where + "the link to " + link + " leads nowhere");
      } else if (hash != std::string::npos && target.extension() == ".md" &&
                 !read_markdown(contents(target)).anchors.contains(link.substr(hash + 1))) {
        found.push_back(where + "no heading for the link to " + link);
      }
    }
    for (const std::string& name : files_named_in(line)) {
      if (!fs::exists(root / name)) found.push_back(where + "names `" + name + "`, which is not there");
    }
  }
  return found;
}

// The first path in `text` below a directory that only the author's machine has, or nothing.
std::string machine_path_in(std::string_view text) {
  // A word before the slash makes it a part of a URL or of a relative path.
  static constexpr std::string_view places[] = {"home", "root", "work", "mnt", "Users"};
  for (size_t at = text.find('/'); at != std::string_view::npos; at = text.find('/', at + 1)) {
    const char before = at == 0 ? ' ' : text[at - 1];
    if (std::isalnum(static_cast<unsigned char>(before)) ||
        std::string_view("._-/}~").find(before) != std::string_view::npos) {
      continue;
    }
    for (const std::string_view place : places) {
      const std::string_view rest = text.substr(at + 1);
      if (rest.starts_with(place) && rest.size() > place.size() + 1 && rest[place.size()] == '/' &&
          std::isalnum(static_cast<unsigned char>(rest[place.size() + 1]))) {
        return std::string(text.substr(at, place.size() + 12));
      }
    }
  }
  return {};
}

// Files that a person wrote: what lies in build directories, caches and binary references is left out.
template <typename Visit>
void for_each_text_file(const fs::path& root, Visit visit) {
  static const std::set<std::string> skipped = {".git", "build", "runs", ".cache", "golden", "corpus"};
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::recursive_directory_iterator();
       ++entry) {
    if (entry->is_symlink()) continue;
    if (entry->is_directory()) {
      if (skipped.contains(entry->path().filename().string())) entry.disable_recursion_pending();
      continue;
    }
    const std::string extension = entry->path().extension().string();
    if (!entry->is_regular_file() || extension == ".safetensors" || entry->file_size() > (1u << 20)) continue;
    const std::string text = contents(entry->path());
    if (text.find('\0') == std::string::npos) visit(entry->path(), text);
  }
}

TEST(Docs, LinksAndNamedFilesAreThere) {
  const fs::path root = TOROID_SOURCE_DIR;
  std::vector<std::string> found;
  int pages = 0;
  for_each_text_file(root, [&](const fs::path& path, const std::string&) {
    if (path.extension() != ".md") return;
    ++pages;
    const auto more = check_markdown(root, path);
    found.insert(found.end(), more.begin(), more.end());
  });
  EXPECT_GE(pages, 3);
  EXPECT_TRUE(found.empty()) << join(found);
}

TEST(Docs, NoFileNamesAPathOfOneMachine) {
  const fs::path root = TOROID_SOURCE_DIR;
  std::vector<std::string> found;
  for_each_text_file(root, [&](const fs::path& path, const std::string& text) {
    const std::string machine_path = machine_path_in(text);
    if (!machine_path.empty())
      found.push_back(path.lexically_relative(root).string() + " names " + machine_path);
  });
  EXPECT_TRUE(found.empty()) << join(found);
}

TEST(Docs, ABrokenLinkIsFound) {
  EXPECT_EQ(links_in("see [a](b.md) and [c](d.md#e)"), (std::vector<std::string>{"b.md", "d.md#e"}));
  EXPECT_EQ(files_named_in("in `core/op/op.h`, `core/op`, `configs/*.proto` and `x/y.h`"),
            std::vector<std::string>{"core/op/op.h"});
  EXPECT_EQ(anchor_of("Where to add things: a table"), "where-to-add-things-a-table");
  const Markdown page = read_markdown("# One two\n```\n# not a heading\n```\ntext\n");
  EXPECT_EQ(page.anchors, std::set<std::string>{"one-two"});
  EXPECT_TRUE(page.prose[2].empty());
}

TEST(Docs, AMachinePathIsFound) {
  const std::string home = "/home";  // in two parts, so that this file does not name one itself
  EXPECT_FALSE(machine_path_in("read " + home + "/somebody/x").empty());
  EXPECT_FALSE(machine_path_in(home + "/somebody").empty());
  EXPECT_TRUE(machine_path_in("https://example.org" + home + "/page").empty());
  EXPECT_TRUE(machine_path_in("$HOME/.cache and ./launch/test.sh").empty());
}

}  // namespace
}  // namespace toroid
