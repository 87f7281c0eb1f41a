#include "core/base/io/json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid {
namespace {

using Json = nlohmann::json;

// Builds the document from the parser's events, which arrive without recursion. It exists because the
// library's own builder lets a later duplicate of a key win in silence.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Json& root) : root_(root) {}
  const std::string& problem() const { return problem_; }

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return add(value) != nullptr; }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    const auto [place, fresh] = open_.back()->get_ref<Json::object_t&>().emplace(value, nullptr);
    if (!fresh) {
      problem_ = "has the key " + in_quotes(value) + " twice in one object";
      return false;
    }
    slot_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without what a user cannot use.
    std::string text = error.what();
    const size_t bracket = text.find("] ");
    if (bracket != std::string::npos) text.erase(0, bracket + 2);
    problem_ = "is not valid JSON at byte " + std::to_string(position) + ": " + printable(text, 300);
    return false;
  }

 private:
  template <typename Value>
  Json* add(Value&& value) {
    if (open_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    if (slot_ != nullptr) {
      *slot_ = std::forward<Value>(value);
      return std::exchange(slot_, nullptr);
    }
    auto& array = open_.back()->get_ref<Json::array_t&>();
    array.emplace_back(std::forward<Value>(value));
    return &array.back();
  }
  bool open(Json&& empty) {
    open_.push_back(add(std::move(empty)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  std::vector<Json*> open_;  // an array grows only while its last element is closed, so these stay valid
  Json* slot_ = nullptr;     // of the key just read
  std::string problem_;
};

const char* kind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::number_float:
      return "a number with a fraction or exponent";
    default:
      return "an integer";
  }
}

}  // namespace

void check_json_limits(std::string_view text, const std::string& origin, const JsonLimits& limits) {
  const auto refuse = [&](const std::string& what, size_t at) {
    throw UserError(in_quotes(origin) + " " + what + " at byte " + std::to_string(at) +
                    ", which is more than this reader of JSON takes");
  };
  if (const std::string_view encoding = wide_encoding(text); !encoding.empty()) {
    throw UserError(in_quotes(origin) + " " + is_wide_text(encoding));
  }
  if (static_cast<int64_t>(text.size()) > limits.bytes) {
    throw UserError(in_quotes(origin) + " holds " + std::to_string(text.size()) +
                    " bytes of JSON, but at most " + std::to_string(limits.bytes) + " are allowed here");
  }
  constexpr int64_t kNumberBytes = 400;  // longer than any number that a double or an int64 can hold usefully
  int depth = 0;
  int64_t values = 1, token = 0, blanks = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\0') {  // the parser would take it for the end
      throw UserError(in_quotes(origin) + " has a zero byte at byte " + std::to_string(i) +
                      ", which JSON never has; write the file anew");
    }
    if (in_string) {
      if (++token > limits.string_bytes) {
        refuse("has a string of more than " + std::to_string(limits.string_bytes) + " bytes", i);
      }
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
        token = 0;
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        token = 0;
        break;
      case '[':
      case '{':
        if (++depth > limits.depth)
          refuse("nests deeper than " + std::to_string(limits.depth) + " levels", i);
        ++values;
        token = 0;
        break;
      case ']':
      case '}':
        --depth;
        token = 0;
        break;
      case ',':
        ++values;
        token = 0;
        break;
      case ' ':
      case '\n':
      case '\r':
      case '\t':
        // The parser keeps blanks until the next token.
        if (++blanks > limits.string_bytes) {
          refuse("has more than " + std::to_string(limits.string_bytes) + " blanks in a row", i);
        }
        token = 0;
        continue;
      case ':':
        token = 0;
        break;
      default:
        if (++token > kNumberBytes) refuse("has a number or word of more than 400 characters", i);
    }
    blanks = 0;
    if (values > limits.values) refuse("holds more than " + std::to_string(limits.values) + " values", i);
  }
}

JsonDocument::JsonDocument() : value_(std::make_unique<Json>()) {}
JsonDocument::~JsonDocument() = default;
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;

JsonDocument JsonDocument::read(const Path& path, const JsonLimits& limits) {
  return parse(read_file(path, limits.bytes), path.string(), limits);
}

JsonDocument JsonDocument::parse(std::string_view text, const std::string& origin, const JsonLimits& limits) {
  check_json_limits(text, origin, limits);
  JsonDocument document;
  document.origin_ = std::make_unique<std::string>(origin);
  Builder builder(*document.value_);
  if (!Json::sax_parse(text.begin(), text.end(), &builder))
    throw UserError(in_quotes(origin) + " " + builder.problem());
  return document;
}

JsonView JsonDocument::root() const {
  return {value_.get(), origin_.get(), ""};
}

void JsonView::refuse(const std::string& what) const {
  throw UserError(in_quotes(*origin_) + ": " + (place_.empty() ? "the top level" : in_quotes(place_)) + " " +
                  what);
}

bool JsonView::is_null() const {
  return value_->is_null();
}
bool JsonView::is_bool() const {
  return value_->is_boolean();
}
bool JsonView::is_string() const {
  return value_->is_string();
}
bool JsonView::is_number() const {
  return value_->is_number();
}
bool JsonView::is_object() const {
  return value_->is_object();
}
bool JsonView::is_array() const {
  return value_->is_array();
}

bool JsonView::has(std::string_view key) const {
  return value_->is_object() && value_->get_ref<const Json::object_t&>().count(std::string(key)) > 0;
}

JsonView JsonView::at(std::string_view key) const {
  if (!value_->is_object()) refuse(std::string("is ") + kind(*value_) + ", but an object is needed");
  const auto& object = value_->get_ref<const Json::object_t&>();
  const auto found = object.find(std::string(key));
  if (found == object.end()) {
    // Comparing a name with very many is slow, and then no help either.
    const std::string meant = object.size() <= 1000 ? did_you_mean(key, keys()) : "";
    refuse("has no key " + in_quotes(key) + (meant.empty() ? "" : " (it has " + in_quotes(meant) + ")"));
  }
  return {&found->second, origin_, place_.empty() ? std::string(key) : place_ + "." + std::string(key)};
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  if (!value_->is_object()) refuse(std::string("is ") + kind(*value_) + ", but an object is needed");
  if (!has(key)) return std::nullopt;
  JsonView found = at(key);
  if (found.is_null()) return std::nullopt;
  return found;
}

std::vector<std::string> JsonView::keys() const {
  if (!value_->is_object()) refuse(std::string("is ") + kind(*value_) + ", but an object is needed");
  std::vector<std::string> names;
  for (const auto& [name, value] : value_->get_ref<const Json::object_t&>()) names.push_back(name);
  return names;
}

size_t JsonView::size() const {
  if (!is_array() && !is_object()) refuse(std::string("is ") + kind(*value_) + ", but an array is needed");
  return value_->size();
}

JsonView JsonView::at(size_t index) const {
  if (index >= size() || !is_array()) refuse("has no element " + std::to_string(index));
  return {&(*value_)[index], origin_, place_ + "[" + std::to_string(index) + "]"};
}

std::vector<JsonView> JsonView::elements() const {
  if (!is_array()) refuse(std::string("is ") + kind(*value_) + ", but an array is needed");
  std::vector<JsonView> all;
  all.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) all.push_back(at(i));
  return all;
}

std::string JsonView::as_string() const {
  if (!is_string()) refuse(std::string("is ") + kind(*value_) + ", but a string is needed");
  return value_->get_ref<const std::string&>();
}

bool JsonView::as_bool() const {
  if (!is_bool()) refuse(std::string("is ") + kind(*value_) + ", but true or false is needed");
  return value_->get<bool>();
}

int64_t JsonView::as_integer() const {
  return as_integer(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
}

int64_t JsonView::as_integer(int64_t lowest, int64_t highest) const {
  if (!value_->is_number_integer()) refuse(std::string("is ") + kind(*value_) + ", but an integer is needed");
  const bool too_large =
      value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max());
  const int64_t value = too_large ? 0 : value_->get<int64_t>();
  if (too_large || value < lowest || value > highest) {
    refuse("is " + value_->dump() + ", but must lie between " + std::to_string(lowest) + " and " +
           std::to_string(highest));
  }
  return value;
}

double JsonView::as_number() const {
  if (!is_number()) refuse(std::string("is ") + kind(*value_) + ", but a number is needed");
  const double value = value_->get<double>();
  if (!std::isfinite(value)) refuse("is not a finite number");
  return value;
}

std::vector<int64_t> JsonView::as_integers(int64_t lowest, int64_t highest) const {
  if (!is_array()) refuse(std::string("is ") + kind(*value_) + ", but an array is needed");
  std::vector<int64_t> values;
  values.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) values.push_back(at(i).as_integer(lowest, highest));
  return values;
}

}  // namespace toroid
