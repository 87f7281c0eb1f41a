// safetensors files: 8 bytes of header length, a JSON header, then the tensors without gap or overlap,
// row-major and little-endian. The reader trusts nothing: every size is checked before memory is asked for.
// The writer's bytes are those of Hugging Face's (tensors by type, widest first, then by name; header padded
// with spaces to 8 bytes).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

// In the order of the format's own ranking, by which writers sort.
enum class ElementType : uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  f64,
  i64,
  u64
};

std::string_view element_type_name(ElementType type);  // "F32"
std::optional<ElementType> element_type(std::string_view name);
int64_t element_bytes(ElementType type);

struct TensorInfo {
  std::string name;
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the first byte, from the start of the file
  int64_t bytes = 0;
  int64_t elements() const { return bytes / element_bytes(type); }
};

// One file, opened and its header checked in full; tensors are read on demand.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const Path& path, Symlinks symlinks = Symlinks::refuse);

  const Path& path() const { return file_.path(); }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // by offset
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const TensorInfo* find(std::string_view name) const;  // null where there is none
  const TensorInfo& at(std::string_view name) const;    // UserError with a suggestion where there is none

  // Reads out.size() bytes of the tensor from its byte `first` on.
  void read(const TensorInfo& tensor, std::span<std::byte> out, int64_t first = 0) const;
  void read(std::string_view name, std::span<std::byte> out) const;  // the whole tensor; sizes must agree

 private:
  InputFile file_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint32_t> by_name_;  // indices into tensors_, sorted by name
  std::map<std::string, std::string> metadata_;
};

// What the header of a file says, checked against the file's size; `origin` names the file in errors.
// `tensors` come by offset, and their offsets count from the start of the file.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};
SafetensorsHeader parse_safetensors_header(std::string_view header, int64_t file_bytes,
                                           const std::string& origin);

// The header of a file as it stands there, its length checked against the file's.
std::string read_safetensors_header(const InputFile& file);

// A model in a directory: model.safetensors, or the shards that model.safetensors.index.json names. The names
// in the index must be bare names of files in the directory. What these are is for whoever made the directory
// to say: in Hugging Face's cache each is a symbolic link to a file elsewhere.
class SafetensorsModel {
 public:
  explicit SafetensorsModel(const Path& directory);

  struct Entry {
    const SafetensorsFile* file;
    const TensorInfo* tensor;
  };
  const std::map<std::string, Entry, std::less<>>& tensors() const { return entries_; }
  const Entry& at(std::string_view name) const;  // UserError with a suggestion where there is none
  const Path& directory() const { return directory_; }

 private:
  Path directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Entry, std::less<>> entries_;
};

// A tensor to write: either `bytes`, or `fill`, which is asked for consecutive pieces (first byte,
// destination) so that a converted tensor never exists as a whole.
struct TensorSource {
  std::string name;
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  std::function<void(int64_t first, std::span<std::byte> out)> fill;
};

// Sorts as the format wants: the widest type first, then by name. `key`: std::pair(type, name) of one.
template <class Items, class Key>
void sort_for_safetensors(Items& items, Key key) {
  std::sort(items.begin(), items.end(), [&](const auto& a, const auto& b) {
    const auto first = key(a), second = key(b);
    return first.first != second.first ? first.first > second.first : first.second < second.second;
  });
}

using ByteSink = std::function<void(std::span<const std::byte>)>;

// Sorts `tensors` as the format wants and sends header and data to `sink`. Metadata is written as given.
void write_safetensors(const ByteSink& sink, std::vector<TensorSource> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// The same into a file that is whole or absent. Returns its length in bytes.
int64_t write_safetensors(const Path& path, std::vector<TensorSource> tensors,
                          const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// bytes of a tensor; UserError naming `what` where a dimension is negative or the product passes 2^63.
int64_t tensor_bytes(std::span<const int64_t> shape, ElementType type, const std::string& what);

}  // namespace toroid
