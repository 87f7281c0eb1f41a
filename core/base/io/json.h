// Bounded reading of JSON that may be hostile. Refused, in one sentence that names the file and the place:
// too long, too deep, too many values, a duplicate key, invalid UTF-8, an endless number, bytes after the
// end.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

struct JsonLimits {
  int64_t bytes = int64_t{16} << 20;
  int depth = 32;
  int64_t values = 1'000'000;               // bounds the memory of the parsed form
  int64_t string_bytes = int64_t{4} << 20;  // one key or string, or one run of blanks
};

// Checks `text` byte by byte without building anything: length, depth, number of values, length of strings
// and numbers. `origin` names the text in errors. Grammar and UTF-8 are left to the parser, which the caller
// runs next.
void check_json_limits(std::string_view text, const std::string& origin, const JsonLimits& limits);

class JsonView;

// Owner of a parsed document.
class JsonDocument {
 public:
  static JsonDocument read(const Path& path, const JsonLimits& limits = {});
  static JsonDocument parse(std::string_view text, const std::string& origin, const JsonLimits& limits = {});
  ~JsonDocument();
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;

  JsonView root() const;

 private:
  JsonDocument();
  std::unique_ptr<nlohmann::json> value_;
  std::unique_ptr<std::string> origin_;  // on the heap, so that views outlive a move of the document
};

// A value inside a document, with its place. Valid while the document lives. Every accessor that does not
// find what its name says throws a UserError such as: 'm.json': 'layers[3].shape' is a string, but an integer
// is needed.
class JsonView {
 public:
  bool is_null() const;
  bool is_bool() const;
  bool is_string() const;
  bool is_number() const;
  bool is_object() const;
  bool is_array() const;

  bool has(std::string_view key) const;                      // an object's key, whatever its value
  JsonView at(std::string_view key) const;                   // UserError where the key is missing
  std::optional<JsonView> find(std::string_view key) const;  // nothing where the key is missing or null
  std::vector<std::string> keys() const;                     // of an object, sorted
  size_t size() const;                                       // of an array or object
  JsonView at(size_t index) const;                           // of an array
  std::vector<JsonView> elements() const;                    // of an array

  std::string as_string() const;
  bool as_bool() const;
  int64_t as_integer() const;  // refuses 1.0, -0.5, 1e400 and what does not fit
  int64_t as_integer(int64_t lowest, int64_t highest) const;
  double as_number() const;  // finite
  std::vector<int64_t> as_integers(int64_t lowest, int64_t highest) const;

  // A UserError that names the file and this place: "'m.json': 'a.b' " + what.
  [[noreturn]] void refuse(const std::string& what) const;
  const std::string& place() const { return place_; }

 private:
  friend class JsonDocument;
  JsonView(const nlohmann::json* value, const std::string* origin, std::string place)
      : value_(value), origin_(origin), place_(std::move(place)) {}
  const nlohmann::json* value_;
  const std::string* origin_;
  std::string place_;
};

}  // namespace toroid
