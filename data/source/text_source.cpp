#include "data/source/text_source.h"

#include <utility>

#include "data/data.pb.h"
#include "data/filter/blank_space.h"
#include "data/source/cleaning.h"
#include "data/source/file_source.h"

namespace toroid {

std::unique_ptr<Source> make_text_source(const config::SourceConfig& config, const Path& path) {
  FilterChain cleaning;
  add_binary(config, cleaning);
  add_text_cleaning(config, cleaning);
  cleaning.add({"blank_space", make_blank_space_filter({}, "")});
  return make_file_source(config, path, {"*.txt", "*.text", "*.md", "*.rst"}, whole_file(config),
                          std::move(cleaning));
}

}  // namespace toroid
