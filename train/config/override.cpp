#include "train/config/override.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <charconv>
#include <cmath>
#include <set>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/config/reader.h"
#include "train/config/reflection.h"

namespace toroid::config {
namespace {

namespace pb = google::protobuf;

struct Segment {
  std::string name;
  std::string selector;  // between brackets
  bool has_selector = false;
};

// Where a value goes: `index` -1 for a field as a whole, its size for one more entry.
struct Target {
  pb::Message* owner;
  const pb::FieldDescriptor* field;
  int index;
  std::string path;
};

class Override {
 public:
  Override(const std::string& text, pb::Message& root) : text_(text), root_(root) {}

  // Returns the path of what was set.
  std::string apply() {
    const size_t equals = text_.find('=');
    if (equals == std::string::npos || equals == 0) fail("write it as path=value");
    std::string path = text_.substr(0, equals);
    const std::string value = text_.substr(equals + 1);
    const bool append = path.back() == '+';
    if (append) path.pop_back();
    Target target = find(split(path), append);
    set(target, value);
    return target.path;
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw UserError("--set " + printable(text_) + ": " + reason);
  }

  std::vector<Segment> split(const std::string& path) const {
    std::vector<Segment> segments;
    for (size_t begin = 0; begin <= path.size();) {
      size_t end = path.find('.', begin);
      if (end == std::string::npos) end = path.size();
      Segment segment{path.substr(begin, end - begin), {}, false};
      const size_t bracket = segment.name.find('[');
      if (bracket != std::string::npos) {
        if (segment.name.back() != ']') fail("a '[' is not closed");
        segment.selector = segment.name.substr(bracket + 1, segment.name.size() - bracket - 2);
        segment.has_selector = true;
        segment.name.resize(bracket);
      }
      if (segment.name.empty()) fail("the path has an empty name");
      segments.push_back(segment);
      begin = end + 1;
    }
    return segments;
  }

  Target find(const std::vector<Segment>& segments, bool append) const {
    pb::Message* owner = &root_;
    std::string path;
    for (size_t i = 0; i < segments.size(); ++i) {
      const Segment& segment = segments[i];
      const pb::FieldDescriptor* field = owner->GetDescriptor()->FindFieldByName(segment.name);
      if (field == nullptr) unknown(*owner->GetDescriptor(), path, segment.name);
      if (segment.has_selector && !field->is_repeated()) fail(join(path, segment.name) + " is not a list");
      path = join(path, segment.name);
      const int size = field->is_repeated() ? owner->GetReflection()->FieldSize(*owner, field) : 0;
      int index = segment.has_selector ? select(*owner, *field, segment.selector, path) : -1;
      const bool last = i + 1 == segments.size();
      if (last && append) {
        if (!field->is_repeated() || segment.has_selector)
          fail(path + " is not a list, so += cannot add to it");
        index = size;
      }
      if (index >= 0) path = at(path, index);
      if (last) return {owner, field, index, path};
      owner = descend(*owner, *field, index, path);
    }
    fail("the path is empty");
  }

  pb::Message* descend(pb::Message& owner, const pb::FieldDescriptor& field, int index,
                       const std::string& path) const {
    if (field.cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE)
      fail(path + " is a value and has no fields");
    const pb::Reflection* reflection = owner.GetReflection();
    if (!field.is_repeated()) return reflection->MutableMessage(&owner, &field);
    if (index < 0) fail(path + " is a list; say which entry, as in " + path + "[0]");
    if (index == reflection->FieldSize(owner, &field)) return reflection->AddMessage(&owner, &field);
    return reflection->MutableRepeatedMessage(&owner, &field, index);
  }

  int select(const pb::Message& owner, const pb::FieldDescriptor& field, const std::string& selector,
             const std::string& path) const {
    const int size = owner.GetReflection()->FieldSize(owner, &field);
    int index = -1;
    const auto [end, error] = std::from_chars(selector.data(), selector.data() + selector.size(), index);
    if (error == std::errc() && end == selector.data() + selector.size() && index >= 0) {
      if (index > size)
        fail(path + " has " + std::to_string(size) + " entries; the next is " + at(path, size));
      return index;
    }
    std::vector<std::string> names;
    for (int i = 0; field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE && i < size; ++i) {
      names.push_back(name_of(owner.GetReflection()->GetRepeatedMessage(owner, &field, i)));
      if (names.back() == selector) return i;
    }
    const std::string near = did_you_mean(selector, names);
    fail(path + " has no entry " + printable(selector) +
         (near.empty() ? "" : "; did you mean " + path + "[" + printable(near) + "]?"));
  }

  static std::string name_of(const pb::Message& message) {
    for (const char* key : {"name", "key"}) {
      const pb::FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key);
      if (field != nullptr && field->cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING &&
          !field->is_repeated()) {
        return message.GetReflection()->GetString(message, field);
      }
    }
    return {};
  }

  // Suggests a field of the same message or, failing that, one of the same name elsewhere.
  [[noreturn]] void unknown(const pb::Descriptor& type, const std::string& path,
                            const std::string& name) const {
    const std::string start =
        (path.empty() ? std::string("the config") : path) + " has no field \"" + printable(name) + "\"";
    std::vector<std::string> elsewhere;
    collect(*root_.GetDescriptor(), "", name, elsewhere);
    if (!elsewhere.empty()) fail(start + "; did you mean " + elsewhere.front() + "?");
    const std::string near = did_you_mean(name, field_names(type));
    if (!near.empty()) fail(start + "; did you mean " + join(path, near) + "?");
    fail(start + "; it has " + list(field_names(type)));
  }

  static void collect(const pb::Descriptor& type, const std::string& path, const std::string& name,
                      std::vector<std::string>& found) {
    for (int i = 0; i < type.field_count(); ++i) {
      const pb::FieldDescriptor* field = type.field(i);
      const std::string here = join(path, field->name());
      if (field->name() == name) found.push_back(here);
      if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
        collect(*field->message_type(), here, name, found);
      }
    }
  }

  void set(const Target& target, const std::string& value) const {
    const bool whole_list = target.field->is_repeated() && target.index < 0;
    if (target.field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE || whole_list) {
      set_text(target, value);
    } else {
      set_scalar(target, value);
    }
  }

  // A list or a message is read by the reader of files, into an owner of its own.
  void set_text(const Target& target, const std::string& value) const {
    const bool is_list = target.field->is_repeated() && target.index < 0;
    if (value.empty() || value.front() != (is_list ? '[' : '{')) {
      fail(target.path +
           (is_list ? " is a list; write [a, b] for all of it or " + target.path + "[0] for one entry"
                    : " is a message; name one of its fields (" +
                          list(field_names(*target.field->message_type())) + ") or write { ... }"));
    }
    const std::unique_ptr<pb::Message> holder(target.owner->New());
    read_text(target.field->name() + (is_list ? ": " : " ") + value, "--set " + target.path, *holder);
    const pb::Reflection* reflection = target.owner->GetReflection();
    std::vector<const pb::FieldDescriptor*> fields;
    reflection->ListFields(*holder, &fields);
    // `{ ... } other: 1` would set more than was asked for.
    if (fields.size() > 1 || (fields.size() == 1 && fields[0] != target.field)) fail("one value is expected");
    if (is_list || target.index < 0) {
      reflection->ClearField(target.owner, target.field);
      reflection->SwapFields(target.owner, holder.get(), {target.field});
      return;
    }
    pb::Message* entry = descend(*target.owner, *target.field, target.index, target.path);
    entry->CopyFrom(reflection->GetRepeatedMessage(*holder, target.field, 0));
  }

  template <class T>
  T parse(const std::string& path, const std::string& value, const char* kind) const {
    T number{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error == std::errc::result_out_of_range) fail(path + " cannot hold " + printable(value));
    if (error != std::errc() || end != value.data() + value.size()) {
      fail(path + " is " + kind + ", not \"" + printable(value) + "\"");
    }
    return number;
  }

  template <class T, class Set, class SetEntry, class Add>
  static void put(const Target& t, const T& value, Set set, SetEntry set_entry, Add add) {
    const pb::Reflection* reflection = t.owner->GetReflection();
    if (t.index < 0) {
      (reflection->*set)(t.owner, t.field, value);
    } else if (t.index < reflection->FieldSize(*t.owner, t.field)) {
      (reflection->*set_entry)(t.owner, t.field, t.index, value);
    } else {
      (reflection->*add)(t.owner, t.field, value);
    }
  }

  void set_scalar(const Target& t, const std::string& value) const {
    using R = pb::Reflection;
    switch (t.field->cpp_type()) {
      case pb::FieldDescriptor::CPPTYPE_INT32:
        return put(t, parse<int32_t>(t.path, value, "a whole number"), &R::SetInt32, &R::SetRepeatedInt32,
                   &R::AddInt32);
      case pb::FieldDescriptor::CPPTYPE_INT64:
        return put(t, parse<int64_t>(t.path, value, "a whole number"), &R::SetInt64, &R::SetRepeatedInt64,
                   &R::AddInt64);
      case pb::FieldDescriptor::CPPTYPE_UINT32:
        return put(t, parse<uint32_t>(t.path, value, "a whole number, not negative"), &R::SetUInt32,
                   &R::SetRepeatedUInt32, &R::AddUInt32);
      case pb::FieldDescriptor::CPPTYPE_UINT64:
        return put(t, parse<uint64_t>(t.path, value, "a whole number, not negative"), &R::SetUInt64,
                   &R::SetRepeatedUInt64, &R::AddUInt64);
      case pb::FieldDescriptor::CPPTYPE_DOUBLE: {
        const auto x = parse<double>(t.path, value, "a number");
        if (!std::isfinite(x)) fail(t.path + " is not a finite number");
        return put(t, x, &R::SetDouble, &R::SetRepeatedDouble, &R::AddDouble);
      }
      case pb::FieldDescriptor::CPPTYPE_BOOL:
        if (value != "true" && value != "false")
          fail(t.path + " is true or false, not \"" + printable(value) + "\"");
        return put(t, value == "true", &R::SetBool, &R::SetRepeatedBool, &R::AddBool);
      case pb::FieldDescriptor::CPPTYPE_ENUM: {
        const pb::EnumValueDescriptor* entry = t.field->enum_type()->FindValueByName(value);
        if (entry == nullptr) {
          const std::string near = did_you_mean(value, enum_names(*t.field));
          fail(t.path + " cannot be \"" + printable(value) + "\"; " +
               (near.empty() ? "it is one of " + list(enum_names(*t.field)) : "did you mean " + near + "?"));
        }
        return put(t, entry, &R::SetEnum, &R::SetRepeatedEnum, &R::AddEnum);
      }
      case pb::FieldDescriptor::CPPTYPE_STRING:
        return set_string(t, value);
      default:
        fail(t.path + " cannot be set here");
    }
  }

  void set_string(const Target& t, const std::string& value) const {
    const std::string fault = string_fault(value);
    if (!fault.empty()) fail(t.path + " " + fault);
    const pb::Reflection* reflection = t.owner->GetReflection();
    if (t.index < 0) {
      reflection->SetString(t.owner, t.field, value);
    } else if (t.index < reflection->FieldSize(*t.owner, t.field)) {
      reflection->SetRepeatedString(t.owner, t.field, t.index, value);
    } else {
      reflection->AddString(t.owner, t.field, value);
    }
  }

  const std::string& text_;
  pb::Message& root_;
};

bool is_within(const std::string& path, const std::string& outer) {
  if (path.compare(0, outer.size(), outer) != 0) return false;
  return path.size() == outer.size() || path[outer.size()] == '.' || path[outer.size()] == '[';
}

}  // namespace

void apply_override(const std::string& text, pb::Message& root, Origins& origins) {
  if (static_cast<int64_t>(text.size()) > kLargestFile) throw UserError("--set: the value is too long");
  const std::string path = Override(text, root).apply();
  // Another arm of a oneof may have gone, so origins are kept only for what is still there.
  Origins present;
  for_each_value(root, "", [&](const Value& value) {
    present[value.path] = is_within(value.path, path) ? "--set" : origins[value.path];
  });
  origins = std::move(present);
}

}  // namespace toroid::config
