#include "train/checkpoint/manifest_json.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/base/text.h"

namespace toroid {
namespace {

uint64_t unhex(const JsonView& value) {
  const std::string text = value.as_string();
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + 16) {
    value.refuse("is " + in_quotes(text) + ", but 16 hexadecimal digits are needed");
  }
  return number;
}

std::string name_of(const JsonView& value) {
  std::string name = value.as_string();
  if (!valid_checkpoint_name(name)) {
    value.refuse("is " + in_quotes(name) + ", but only letters, digits, '_', '-' and '.' make a name");
  }
  return name;
}

}  // namespace

bool valid_checkpoint_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= 200 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

nlohmann::json to_json(const ManifestFile& file) {
  nlohmann::json blocks = nlohmann::json::array();
  for (const uint64_t block : file.digest.blocks) blocks.push_back(hex(block));
  return {{"name", file.name},          {"part", file.part},        {"rank", file.rank},
          {"bytes", file.digest.bytes}, {"xxh3", file.digest.xxh3}, {"blocks", std::move(blocks)}};
}

nlohmann::json to_json(const CheckpointTensor& tensor) {
  return {{"name", tensor.name},
          {"part", tensor.part},
          {"dtype", element_type_name(tensor.type)},
          {"shape", tensor.shape},
          {"hash", hex(tensor.hash)}};
}

std::string hex_128_of(const JsonView& value) {
  const std::string text = value.as_string();
  if (text.size() != 32 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    value.refuse("is " + in_quotes(text) + ", but 32 hexadecimal digits are needed");
  }
  return text;
}

void check_keys(const JsonView& object, const std::vector<std::string>& expected,
                const std::vector<std::string>& optional) {
  const auto in = [](const std::vector<std::string>& names, const std::string& key) {
    return std::find(names.begin(), names.end(), key) != names.end();
  };
  for (const std::string& key : object.keys()) {
    if (!in(expected, key) && !in(optional, key)) {
      object.refuse("has the unknown key " + in_quotes(key));
    }
  }
  for (const std::string& key : expected) object.at(key);
}

ManifestFile file_of(const JsonView& value, int world_size) {
  check_keys(value, {"name", "part", "rank", "bytes", "xxh3", "blocks"});
  ManifestFile file;
  file.name = name_of(value.at("name"));
  if (!file.name.ends_with(".safetensors")) value.at("name").refuse("does not end in .safetensors");
  file.part = name_of(value.at("part"));
  file.rank = static_cast<int>(value.at("rank").as_integer(0, world_size - 1));
  file.digest.bytes = value.at("bytes").as_integer(8, kMost / 2);
  file.digest.xxh3 = hex_128_of(value.at("xxh3"));
  for (const JsonView& block : value.at("blocks").elements()) file.digest.blocks.push_back(unhex(block));
  const int64_t blocks = (file.digest.bytes - 1) / FileDigest::kBlockBytes + 1;
  if (static_cast<int64_t>(file.digest.blocks.size()) != blocks) {
    value.at("blocks").refuse("has " + std::to_string(file.digest.blocks.size()) + " hashes, but a file of " +
                              std::to_string(file.digest.bytes) + " bytes has " + std::to_string(blocks) +
                              " blocks");
  }
  return file;
}

CheckpointTensor tensor_of(const JsonView& value) {
  check_keys(value, {"name", "part", "dtype", "shape", "hash"});
  CheckpointTensor tensor;
  tensor.name = name_of(value.at("name"));
  tensor.part = name_of(value.at("part"));
  const std::string type = value.at("dtype").as_string();
  const auto known = element_type(type);
  if (!known) value.at("dtype").refuse("is " + in_quotes(type) + ", which this program does not know");
  tensor.type = *known;
  tensor.shape = value.at("shape").as_integers(0, kMost);
  tensor.elements = tensor_bytes(tensor.shape, tensor.type, "tensor " + in_quotes(tensor.name)) /
                    element_bytes(tensor.type);
  tensor.hash = unhex(value.at("hash"));
  return tensor;
}

}  // namespace toroid
