#include "train/config/reader.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/utf8.h"
#include "train/config/reflection.h"
#include "train/config/resolve.h"

namespace toroid::config {
namespace {

namespace pb = google::protobuf;
using Tree = pb::TextFormat::ParseInfoTree;

constexpr int kMostValues = 20'000;

// "name:line:column: " of a position counted from 0.
std::string position(const std::string& name, int line, int column) {
  return printable(name) + ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1) + ": ";
}

std::string suggestion(const std::string& name, const std::vector<std::string>& known) {
  const std::string near = did_you_mean(name, known);
  if (!near.empty()) return "; did you mean \"" + near + "\"?";
  return "; it has " + list(known);
}

// The n-th "quoted" word of a message of protobuf's.
std::string quoted(const std::string& message, int n) {
  size_t begin = 0;
  for (int i = 0;; ++i) {
    begin = message.find('"', begin);
    if (begin == std::string::npos) return {};
    const size_t end = message.find('"', begin + 1);
    if (end == std::string::npos) return {};
    if (i == n) return message.substr(begin + 1, end - begin - 1);
    begin = end + 1;
  }
}

const pb::FieldDescriptor* find_enum_field(const pb::Descriptor& type, const std::string& name) {
  for (int i = 0; i < type.field_count(); ++i) {
    const pb::FieldDescriptor* field = type.field(i);
    if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_ENUM && field->name() == name) return field;
    if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      if (const auto* found = find_enum_field(*field->message_type(), name)) return found;
    }
  }
  return nullptr;
}

// Protobuf's message as one of ours: paths without the package, suggestions for what is nearly right.
std::string reword(const std::string& message, const pb::Descriptor& root) {
  if (message.find("has no field named") != std::string::npos) {
    const std::string field = quoted(message, 1);
    const pb::Descriptor* type = root.file()->pool()->FindMessageTypeByName(quoted(message, 0));
    if (type != nullptr) {
      return type->name() + " has no field \"" + printable(field) + "\"" +
             suggestion(field, field_names(*type));
    }
  }
  if (message.find("is specified multiple times") != std::string::npos) {
    return "\"" + printable(quoted(message, 0)) + "\" is given twice";
  }
  if (message.find("another member of oneof") != std::string::npos) {
    return "\"" + printable(quoted(message, 0)) + "\" is given beside \"" + printable(quoted(message, 1)) +
           "\"; choose one of them";
  }
  if (message.find("Unknown enumeration value") != std::string::npos) {
    const std::string value = quoted(message, 0), name = quoted(message, 1);
    if (const pb::FieldDescriptor* field = find_enum_field(root, name)) {
      return name + " cannot be \"" + printable(value) + "\"" + suggestion(value, enum_names(*field));
    }
  }
  std::string text = printable(message);
  const std::string package = "toroid.config.";
  for (size_t i = text.find(package); i != std::string::npos; i = text.find(package))
    text.erase(i, package.size());
  return text;
}

// Keeps the first error: the parser stops there, and what follows is its echo.
class FirstError : public pb::io::ErrorCollector {
 public:
  void AddError(int line, pb::io::ColumnNumber column, const std::string& message) override {
    if (!message_) message_ = {line, column, message};
  }
  struct Entry {
    int line, column;
    std::string message;
  };
  const std::optional<Entry>& get() const { return message_; }

 private:
  std::optional<Entry> message_;
};

// The parser recurses once for each bracket, so the depth is bounded before it sees the text.
void check_text(std::string_view text, const std::string& name) {
  int line = 0, column = 0, depth = 0;
  char quote = 0;
  bool comment = false;
  for (size_t i = 0; i < text.size(); ++i, ++column) {
    const char c = text[i];
    if (c == '\0') throw UserError(position(name, line, column) + "a NUL byte; a config is text");
    if (c == '\n') {
      ++line;
      column = -1;
      comment = false;
      quote = 0;  // a string ends with its line; the parser says so
    } else if (comment) {
      continue;
    } else if (quote != 0) {
      if (c == '\\' && i + 1 < text.size() && text[i + 1] != '\n') {
        ++i;
        ++column;
      } else if (c == quote) {
        quote = 0;
      }
    } else if (c == '#') {
      comment = true;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '{' || c == '<' || c == '[') {
      if (++depth > kDeepest) {
        throw UserError(position(name, line, column) + "brackets are nested deeper than " +
                        std::to_string(kDeepest));
      }
    } else if (c == '}' || c == '>' || c == ']') {
      --depth;
    }
  }
}

void check_value(const Value& value, const std::string& where) {
  const pb::Reflection* reflection = value.owner.GetReflection();
  if (value.field.cpp_type() == pb::FieldDescriptor::CPPTYPE_DOUBLE) {
    const double x = value.index < 0 ? reflection->GetDouble(value.owner, &value.field)
                                     : reflection->GetRepeatedDouble(value.owner, &value.field, value.index);
    if (!std::isfinite(x)) throw UserError(where + value.path + " is not a finite number");
  }
  if (value.field.cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING) {
    const std::string text = value.index < 0
                                 ? reflection->GetString(value.owner, &value.field)
                                 : reflection->GetRepeatedString(value.owner, &value.field, value.index);
    const std::string fault = string_fault(text);
    if (!fault.empty()) throw UserError(where + value.path + " " + fault);
  }
}

// For each line whose comment says what its value was derived from, that path.
std::map<int, std::string> derivations(std::string_view text, const pb::Descriptor& type) {
  std::map<int, std::string> found;
  int line = 0;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view comment = text.substr(begin, end - begin);
    comment.remove_prefix(std::min(comment.rfind('#'), comment.size()));
    begin = end + 1;
    if (comment.empty()) continue;
    comment.remove_prefix(std::min(comment.find_first_not_of("# "), comment.size()));
    comment = comment.substr(0, comment.find_last_not_of(" \t\r") + 1);
    const auto source = source_of(std::string(comment));
    if (source && has_field(type, *source)) found[line] = *source;
  }
  return found;
}

// for_each_value with the position of each value.
class Positions {
 public:
  Positions(const std::string& name, std::map<int, std::string> derived, Origins& origins)
      : name_(name), shown_name_(printable(name)), derived_(std::move(derived)), origins_(origins) {}

  void walk(const pb::Message& message, const Tree* tree, const std::string& path) {
    const pb::Reflection* reflection = message.GetReflection();
    std::vector<const pb::FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const pb::FieldDescriptor* field : fields) {
      const std::string here = join(path, field->name());
      if (!field->is_repeated()) {
        see(message, *field, -1, tree, here);
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(message, field); ++i)
        see(message, *field, i, tree, at(here, i));
    }
  }

 private:
  void see(const pb::Message& message, const pb::FieldDescriptor& field, int index, const Tree* tree,
           const std::string& path) {
    const pb::Reflection* reflection = message.GetReflection();
    if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      const Tree* nested = tree == nullptr ? nullptr : tree->GetTreeForNested(&field, index);
      walk(index < 0 ? reflection->GetMessage(message, &field)
                     : reflection->GetRepeatedMessage(message, &field, index),
           nested, path);
      return;
    }
    if (tree != nullptr) {
      // The values of a [list] share the position of its first one.
      const auto location = tree->GetLocation(&field, index);
      if (location.line >= 0) last_ = location;
    }
    if (++values_ > kMostValues) {
      throw UserError(printable(name_) + ": more than " + std::to_string(kMostValues) + " values");
    }
    check_value({message, field, index, path}, position(name_, last_.line, last_.column));
    const auto derived = derived_.find(last_.line);
    origins_[path] = derived == derived_.end() ? shown_name_ + ":" + std::to_string(last_.line + 1)
                                               : derived_from(derived->second);
  }

  std::string name_, shown_name_;
  std::map<int, std::string> derived_;  // by line
  Origins& origins_;
  pb::TextFormat::ParseLocation last_{0, 0};
  int values_ = 0;
};

}  // namespace

Origins read_text(std::string_view text, const std::string& name, pb::Message& out) {
  if (static_cast<int64_t>(text.size()) > kLargestFile) {
    throw UserError(printable(name) + " has " + human_bytes(static_cast<int64_t>(text.size())) +
                    "; a config has at most " + human_bytes(kLargestFile));
  }
  if (const std::string_view encoding = wide_encoding(text); !encoding.empty()) {
    throw UserError(printable(name) + " " + is_wide_text(encoding));
  }
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);  // a byte-order mark
  if (!valid_utf8(text)) throw UserError(printable(name) + " is not UTF-8 text");
  check_text(text, name);

  Tree tree;
  FirstError error;
  pb::TextFormat::Parser parser;
  parser.SetRecursionLimit(kDeepest);
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&tree);
  pb::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  if (!parser.Parse(&stream, &out) || error.get()) {
    const auto entry = error.get().value_or(FirstError::Entry{0, 0, "is not a config"});
    throw UserError(position(name, std::max(entry.line, 0), std::max(entry.column, 0)) +
                    reword(entry.message, *out.GetDescriptor()));
  }
  Origins origins;
  Positions(name, derivations(text, *out.GetDescriptor()), origins).walk(out, &tree, "");
  return origins;
}

}  // namespace toroid::config
