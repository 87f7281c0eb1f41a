// What a prepared directory was made from: every field of the config counts, unless a list says why not.
#include "data/prepare/config_hash.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "data/data.pb.h"

namespace toroid {
namespace {

namespace pb = google::protobuf;

std::set<std::string> undeciding() {
  std::set<std::string> paths;
  for (const UndecidingField& field : undeciding_fields()) paths.insert(field.path);
  return paths;
}

config::DataConfig parse(const std::string& text) {
  config::DataConfig config;
  EXPECT_TRUE(pb::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

// Sets the scalar field to another value than it has, or adds an entry to a list of them.
void change(pb::Message& message, const pb::FieldDescriptor& field) {
  const pb::Reflection& r = *message.GetReflection();
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return list ? r.AddInt32(&message, &field, 7)
                  : r.SetInt32(&message, &field, r.GetInt32(message, &field) + 7);
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return list ? r.AddInt64(&message, &field, 7)
                  : r.SetInt64(&message, &field, r.GetInt64(message, &field) + 7);
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      return list ? r.AddDouble(&message, &field, 7)
                  : r.SetDouble(&message, &field, r.GetDouble(message, &field) + 1e-9);
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return list ? r.AddBool(&message, &field, true)
                  : r.SetBool(&message, &field, !r.GetBool(message, &field));
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return list ? r.AddString(&message, &field, "other")
                  : r.SetString(&message, &field, r.GetString(message, &field) + "other");
    case pb::FieldDescriptor::CPPTYPE_ENUM: {
      ASSERT_FALSE(list) << field.full_name() << ": teach this test about lists of enums";
      const int now = r.GetEnumValue(message, &field);
      return r.SetEnumValue(&message, &field, now == 0 ? 1 : 0);
    }
    default:
      FAIL() << field.full_name() << ": teach this test about its type";
  }
}

// Changes each field below `message`, which is part of `whole`, in turn: `see` gets its path, and the hash is
// that of the whole with this one change.
void for_each_change(pb::Message& whole, pb::Message& message, const std::string& path,
                     const std::function<void(const std::string& path, const std::string& hash)>& see) {
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.GetDescriptor()->field(i);
    const std::string here = path.empty() ? field.name() : path + "." + field.name();
    const pb::Reflection& r = *message.GetReflection();
    const std::unique_ptr<pb::Message> before(message.New());
    before->CopyFrom(message);
    if (field.cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      change(message, field);
      see(here, config_hash(whole));
    } else {
      pb::Message& part =
          field.is_repeated() ? *r.AddMessage(&message, &field) : *r.MutableMessage(&message, &field);
      if (field.is_repeated() || field.containing_oneof() != nullptr) see(here, config_hash(whole));
      if (undeciding().count(here) == 0) for_each_change(whole, part, here, see);
    }
    message.CopyFrom(*before);
  }
}

TEST(ConfigHash, EveryFieldCountsUnlessTheListSaysWhyNot) {
  config::DataConfig config;
  std::set<std::string> seen, same;
  std::set<std::string> hashes = {config_hash(config)};
  for_each_change(config, config, "", [&](const std::string& path, const std::string& hash) {
    seen.insert(path);
    if (!hashes.insert(hash).second) same.insert(path);
  });
  EXPECT_EQ(same, undeciding());
  for (const char* path : {"source", "source.path", "source.html.drop", "source.filter.length.minimum_bytes",
                           "source.filter.gopher_quality.stop_word", "source.filter.custom.parameter.value",
                           "tokenizer.train.vocab"}) {
    EXPECT_EQ(seen.count(path), 1u) << path;
  }
  EXPECT_GT(seen.size(), 60u);
}

TEST(ConfigHash, TheListNamesFieldsThatThereAreAndSaysWhy) {
  for (const UndecidingField& field : undeciding_fields()) {
    const pb::Descriptor* type = config::DataConfig::descriptor();
    std::string rest = field.path;
    while (type != nullptr && !rest.empty()) {
      const size_t dot = rest.find('.');
      const pb::FieldDescriptor* part = type->FindFieldByName(rest.substr(0, dot));
      ASSERT_NE(part, nullptr) << field.path;
      type = part->message_type();
      rest = dot == std::string::npos ? "" : rest.substr(dot + 1);
    }
    EXPECT_GT(std::string(field.why).size(), 15u) << field.path;
  }
}

TEST(ConfigHash, AFieldThatIsNotSetIsItsDefault) {
  const std::string text = "source { name: 'web' format: TEXT } ";
  const std::string hash = config_hash(parse(text));
  EXPECT_EQ(config_hash(parse(text + "validation_fraction: 0.01 minimum_document_bytes: 1")), hash);
  EXPECT_EQ(
      config_hash(parse("source { name: 'web' format: TEXT invalid_utf8: REPAIR html { } jsonl { text_field: "
                        "'text' } }")),
      hash);
  // But which arm is set means something, whatever it holds.
  const auto filter = [&](const std::string& filters) {
    return config_hash(parse("source { name: 'web' format: TEXT " + filters + " }"));
  };
  EXPECT_NE(filter("filter { }"), hash);
  EXPECT_NE(filter("filter { line_ends { } }"), filter("filter { blank_space { } }"));
  EXPECT_EQ(filter("filter { gopher_quality { } }"),
            filter("filter { gopher_quality { minimum_words: 50 } }"));
  EXPECT_NE(filter("filter { line_ends { } } filter { blank_space { } }"),
            filter("filter { blank_space { } } filter { line_ends { } }"));
}

TEST(ConfigHash, WhatMayChangeFreelyDoesNotCount) {
  config::DataConfig config = parse("source { name: 'web' format: TEXT }");
  const std::string hash = config_hash(config);
  config.set_directory("elsewhere");
  config.set_corpus("elsewhere");
  config.set_threads(7);
  config.add_skip()->set_first(3);
  config.mutable_source(0)->set_weight(9);
  config.mutable_source(0)->set_may_be_missing(true);
  EXPECT_EQ(config_hash(config), hash);
  config.mutable_source(0)->set_path("elsewhere");
  EXPECT_NE(config_hash(config), hash);
}

// The config as a later version might have it: one more field in each message.
class NewerConfig {
 public:
  NewerConfig() {
    for (const char* name : {"data/filter/filter.proto", "data/data.proto"}) {
      pb::FileDescriptorProto file;
      pb::DescriptorPool::generated_pool()->FindFileByName(name)->CopyTo(&file);
      for (pb::DescriptorProto& message : *file.mutable_message_type()) {
        pb::FieldDescriptorProto& field = *message.add_field();
        field.set_name("invented");
        field.set_number(1000);
        field.set_label(pb::FieldDescriptorProto::LABEL_OPTIONAL);
        field.set_type(pb::FieldDescriptorProto::TYPE_STRING);
      }
      EXPECT_NE(pool_.BuildFile(file), nullptr) << name;
    }
  }

  std::string hash(const std::string& text) {
    const std::unique_ptr<pb::Message> message(
        factory_.GetPrototype(pool_.FindMessageTypeByName("toroid.config.DataConfig"))->New());
    EXPECT_TRUE(pb::TextFormat::ParseFromString(text, message.get())) << text;
    return config_hash(*message);
  }

 private:
  pb::DescriptorPool pool_;
  pb::DynamicMessageFactory factory_;
};

TEST(ConfigHash, AFieldThatNobodyThoughtOfCounts) {
  NewerConfig newer;
  const std::string source = "name: 'web' format: HTML ";
  const auto with = [&](const std::string& more) { return newer.hash("source { " + source + more + " }"); };
  std::set<std::string> hashes = {with("")};
  for (const char* more :
       {"invented: 'x'", "html { invented: 'x' }", "jsonl { invented: 'x' }", "filter { }",
        "filter { invented: 'x' }", "filter { length { } }", "filter { length { invented: 'x' } }",
        "filter { custom { invented: 'x' } }", "filter { custom { parameter { invented: 'x' } } }"}) {
    EXPECT_TRUE(hashes.insert(with(more)).second) << more;
  }
  EXPECT_TRUE(hashes.insert(newer.hash("invented: 'x' source { " + source + "}")).second);
  EXPECT_TRUE(
      hashes.insert(newer.hash("tokenizer { train { invented: 'x' } } source { " + source + "}")).second);
}

}  // namespace
}  // namespace toroid
