#include <google/protobuf/descriptor.h>

#include <algorithm>

#include "core/base/text.h"
#include "train/config/load.h"
#include "train/config/reflection.h"

namespace toroid::config {
namespace {

namespace pb = google::protobuf;

constexpr size_t kCommentColumn = 44;

class Printer {
 public:
  explicit Printer(const Origins& origins) : origins_(origins) {}

  void print(const pb::Message& message, const std::string& path, int depth) {
    const pb::Reflection* reflection = message.GetReflection();
    std::vector<const pb::FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const pb::FieldDescriptor* field : fields) {
      const std::string here = join(path, field->name());
      if (!field->is_repeated()) {
        print(message, *field, -1, here, depth);
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(message, field); ++i)
        print(message, *field, i, at(here, i), depth);
    }
  }

  std::string take() { return std::move(text_); }

 private:
  void print(const pb::Message& message, const pb::FieldDescriptor& field, int index, const std::string& path,
             int depth) {
    const std::string indent(static_cast<size_t>(2 * depth), ' ');
    if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      const pb::Reflection* reflection = message.GetReflection();
      text_ += indent + field.name() + " {\n";
      print(index < 0 ? reflection->GetMessage(message, &field)
                      : reflection->GetRepeatedMessage(message, &field, index),
            path, depth + 1);
      text_ += indent + "}\n";
      return;
    }
    std::string line = indent + field.name() + ": " + literal({message, field, index, path});
    line.append(kCommentColumn - std::min(line.size(), kCommentColumn - 1), ' ');
    const auto origin = origins_.find(path);
    // printable() keeps a file's name from ending the comment.
    text_ +=
        line + " # " + (origin == origins_.end() ? "set by the program" : printable(origin->second)) + "\n";
  }

  const Origins& origins_;
  std::string text_;
};

}  // namespace

std::string to_text(const Resolved& resolved) {
  Printer printer(resolved.origins);
  printer.print(resolved.run, "", 0);
  return printer.take();
}

}  // namespace toroid::config
