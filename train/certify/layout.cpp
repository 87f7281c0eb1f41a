#include "train/certify/layout.h"

#include <charconv>
#include <sstream>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::train {
namespace {

constexpr int kMost = 1024;  // of each number
constexpr int kMostRanks = 4096;

class Item {
 public:
  explicit Item(std::string_view text) {
    std::istringstream words{std::string(text)};
    for (std::string word; words >> word;) {
      text_ += (text_.empty() ? "" : " ") + word;
      words_.push_back(word);
    }
  }
  bool empty() const { return words_.empty(); }
  bool done() const { return at_ == words_.size(); }
  bool take(std::string_view word) {
    if (done() || words_[at_] != word) return false;
    ++at_;
    return true;
  }
  std::string next(const char* what) {
    if (done()) refuse(std::string("ends where ") + what + " should be");
    return words_[at_++];
  }
  // What is left, its words apart but at commas.
  std::string rest() {
    std::string out;
    for (; !done(); ++at_) {
      const bool joined = out.empty() || out.back() == ',' || words_[at_].front() == ',';
      out += (joined ? "" : " ") + words_[at_];
    }
    return out;
  }
  int number(std::string_view digits, int least, int most) const {
    int value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value < least || value > most) {
      refuse("has " + in_quotes(digits) + " where a number from " + std::to_string(least) + " to " +
             std::to_string(most) + " should be");
    }
    return value;
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw UserError("the layout " + in_quotes(text_) + " " + what +
                    "; layouts look like: 1x1; 2x2; pods 2 of 2x2; model 2 of 4x2; 4x1 zero 2; zero 0,1,2,3");
  }

 private:
  std::string text_;
  std::vector<std::string> words_;
  size_t at_ = 0;
};

Layout layout_of(Item& item) {
  Layout layout;
  const auto count_of = [&](const char* what) {
    const int count = item.number(item.next("a number"), 1, kMost);
    if (!item.take("of")) item.refuse(std::string("has no `of` after its number of ") + what);
    return count;
  };
  if (item.take("pods")) layout.pods = count_of("pods");
  if (item.take("model")) layout.model = count_of("model ranks");
  const std::string shape = item.next("ROWSxCOLUMNS");
  const size_t x = shape.find('x');
  if (x == std::string::npos) item.refuse("has " + in_quotes(shape) + " where ROWSxCOLUMNS should be");
  layout.rows = item.number(std::string_view(shape).substr(0, x), 1, kMost);
  layout.columns = item.number(std::string_view(shape).substr(x + 1), 1, kMost);
  if (item.take("zero")) layout.stage = item.number(item.next("a stage"), 0, 3);
  if (!item.done()) item.refuse("goes on with " + in_quotes(item.next("")));
  if (layout.rows * layout.columns % layout.model != 0) {
    item.refuse("has " + std::to_string(layout.rows * layout.columns) + " chips a pod, which " +
                std::to_string(layout.model) + " model ranks do not divide");
  }
  if (int64_t{layout.pods} * layout.rows * layout.columns > kMostRanks) {
    item.refuse("has more than " + std::to_string(kMostRanks) + " ranks");
  }
  return layout;
}

}  // namespace

std::string Layout::text() const {
  std::string out;
  if (pods > 1) out += "pods " + std::to_string(pods) + " of ";
  if (model > 1) out += "model " + std::to_string(model) + " of ";
  out += std::to_string(rows) + "x" + std::to_string(columns);
  if (stage) out += " zero " + std::to_string(*stage);
  return out;
}

void Layout::apply(config::RunConfig& run) const {
  config::MeshConfig& mesh = *run.mutable_mesh();
  mesh.clear_placement();
  mesh.clear_collective();
  mesh.clear_torus();
  mesh.set_pods(pods);
  mesh.add_torus(rows);
  mesh.add_torus(columns);
  mesh.set_model(model);
  mesh.set_data(rows * columns / model);
  if (stage) run.mutable_zero()->set_stage(*stage);
}

std::vector<Layout> parse_layouts(std::string_view list) {
  std::vector<Layout> out;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(';', begin), list.size());
    const std::string_view text = list.substr(begin, end - begin);
    begin = end + 1;
    Item item(text);
    if (item.empty()) continue;
    if (!item.take("zero")) {
      out.push_back(layout_of(item));
      continue;
    }
    Layout base = out.empty() ? Layout{1, 1, 2, 2, {}} : out.back();
    const std::string stages = item.rest();
    for (size_t first = 0; first <= stages.size();) {
      const size_t comma = std::min(stages.find(',', first), stages.size());
      base.stage = item.number(std::string_view(stages).substr(first, comma - first), 0, 3);
      out.push_back(base);
      first = comma + 1;
    }
  }
  if (out.empty()) throw UserError("there is no layout in " + in_quotes(list) + "; give one, such as 2x2");
  return out;
}

}  // namespace toroid::train
