#include <map>
#include <sstream>
#include <vector>

#include "core/base/text.h"
#include "data/prepare/prepare.h"

namespace toroid {
namespace {

// "links 3, special files 2": the counts that are not 0.
class CountList {
 public:
  CountList& add(const std::string& what, int64_t count) {
    if (count > 0) text_ += (text_.empty() ? "" : ", ") + printable(what, 500) + " " + with_commas(count);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string skipped(const SourceCounts& c) {
  return CountList()
      .add("symbolic links", c.skipped_links)
      .add("special files", c.skipped_special)
      .add("lines that are not JSON", c.dropped_not_json)
      .add("lines without a text", c.dropped_no_text)
      .add("lines above the limit", c.dropped_long)
      .text();
}

// "binary: NUL near the start 2, UTF-16 or UTF-32 1" for each filter that counted something.
std::vector<std::string> by_filter(const std::map<FilterReason, int64_t>& counts) {
  std::map<std::string, CountList> lists;
  for (const auto& [why, count] : counts) lists[why.filter].add(why.reason, count);
  std::vector<std::string> out;
  out.reserve(lists.size());
  for (const auto& [filter, list] : lists) out.push_back(printable(filter) + ": " + list.text());
  return out;
}

}  // namespace

std::string left_out(const PreparedSource& source) {
  std::string text = skipped(source.counts);
  for (const std::string& filter : by_filter(source.filters.dropped)) {
    text += (text.empty() ? "" : "; ") + filter;
  }
  return text;
}

std::string prepared_table(const PreparedManifest& manifest) {
  std::ostringstream out;
  const auto row = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      const size_t width = i == 0 ? 28 : 14;
      const std::string pad(cells[i].size() < width ? width - cells[i].size() : 1, ' ');
      out << (i == 0 ? cells[i] + pad : pad + cells[i]);
    }
    out << '\n';
  };
  row({"source", "files", "documents", "duplicates", "text bytes", "tokens", "validation", "bytes/token"});
  PreparedSource all;
  const auto line = [&](const std::string& name, const PreparedSource& s) {
    const int64_t bytes = s.train.text_bytes + s.validation.text_bytes;
    const int64_t tokens = s.train.tokens + s.validation.tokens;
    std::ostringstream ratio;
    ratio.precision(3);
    ratio << (tokens > 0 ? static_cast<double>(bytes) / static_cast<double>(tokens) : 0.0);
    row({name, with_commas(s.counts.files), with_commas(s.train.documents + s.validation.documents),
         with_commas(s.duplicates), with_commas(bytes), with_commas(tokens), with_commas(s.validation.tokens),
         ratio.str()});
  };
  for (const PreparedSource& s : manifest.sources) {
    line(s.name, s);
    all.counts += s.counts;
    all.filters += s.filters;
    all.duplicates += s.duplicates;
    for (const auto& [sum, part] : {std::pair{&all.train, &s.train}, {&all.validation, &s.validation}}) {
      sum->documents += part->documents;
      sum->text_bytes += part->text_bytes;
      sum->tokens += part->tokens;
    }
  }
  line("all", all);
  if (const std::string list = skipped(all.counts); !list.empty()) out << "left out: " << list << '\n';
  if (!all.counts.first_skipped.empty()) {
    out << "the first line left out: " << printable(all.counts.first_skipped, 1000) << '\n';
  }
  for (const std::string& filter : by_filter(all.filters.dropped)) out << "dropped by " << filter << '\n';
  for (const std::string& filter : by_filter(all.filters.noted)) out << "noted by " << filter << '\n';
  return out.str();
}

}  // namespace toroid
