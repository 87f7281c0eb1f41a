// The dependency table of the folders, and the checks that includes, proto imports and linked targets follow
// it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace toroid {

// Files below `folder` may use what lies below `uses`. The longest `folder` that fits decides.
struct Layer {
  std::string_view folder;
  std::vector<std::string_view> uses;
};

// A library whose headers (by prefix) only the files below `folder`, and programs and tests, may include.
struct ConfinedHeader {
  std::string_view prefix;
  std::string_view folder;
};

const std::vector<Layer>& layers();
const std::vector<ConfinedHeader>& confined_headers();

// Whether a file or target that lies in `from` may use one that lies in `to`, both relative to the
// repository.
bool allowed(std::string_view from, std::string_view to);

// One sentence for each include or import in `text`, the contents of the file `path`, that breaks the table.
// `root` is the repository, where included files are looked up.
std::vector<std::string> check_includes(const std::filesystem::path& root, const std::string& path,
                                        std::string_view text);

// check_includes over every source, header and proto file of the folders in the table.
std::vector<std::string> check_tree(const std::filesystem::path& root);

// One sentence for each forbidden line of a link graph: "target folder linked_target linked_folder".
std::vector<std::string> check_links(std::string_view graph);

}  // namespace toroid
