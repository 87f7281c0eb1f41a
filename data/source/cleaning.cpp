#include "data/source/cleaning.h"

#include "data/data.pb.h"
#include "data/filter/binary.h"
#include "data/filter/damage.h"
#include "data/filter/line_ends.h"
#include "data/filter/terminal_escapes.h"

namespace toroid {

void add_binary(const config::SourceConfig& config, FilterChain& chain) {
  config::FilterConfig filter;
  filter.mutable_binary()->set_drop_wide_text(config.invalid_utf8() == config::DamageFilter::DROP);
  chain.add({"binary", make_binary_filter(filter, "")});
}

void add_text_cleaning(const config::SourceConfig& config, FilterChain& chain) {
  config::FilterConfig filter;
  filter.mutable_damage()->set_policy(config.invalid_utf8());
  chain.add({"damage", make_damage_filter(filter, "")});
  chain.add({"line_ends", make_line_ends_filter({}, "")});
  if (config.strip_terminal_escapes()) {
    chain.add({"terminal_escapes", make_terminal_escapes_filter({}, "")});
  }
}

}  // namespace toroid
