#include "data/source/code_source.h"

#include <utility>

#include "data/data.pb.h"
#include "data/source/cleaning.h"
#include "data/source/file_source.h"

namespace toroid {

std::unique_ptr<Source> make_code_source(const config::SourceConfig& config, const Path& path) {
  FilterChain cleaning;
  add_binary(config, cleaning);
  add_text_cleaning(config, cleaning);
  return make_file_source(config, path, {"*.c",  "*.h",    "*.cc", "*.cpp", "*.cxx",  "*.hpp", "*.cu", "*.go",
                                         "*.hs", "*.java", "*.jl", "*.js",  "*.lean", "*.ml",  "*.pl", "*.py",
                                         "*.rb", "*.rs",   "*.sh", "*.scm", "*.sql",  "*.ts"},
                          whole_file(config), std::move(cleaning));
}

}  // namespace toroid
