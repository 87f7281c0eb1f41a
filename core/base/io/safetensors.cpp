#include "core/base/io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/text.h"

namespace toroid {
namespace {

constexpr int64_t kHeaderLimit = 100'000'000;  // the format's own
constexpr int64_t kTensorLimit =
    1'000'000;  // bounds the memory of a parsed header; large models have thousands
constexpr size_t kRankLimit = 32;
constexpr size_t kMetadataLimit = 10'000;
constexpr int64_t kLengthBytes = 8;

struct TypeRow {
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<TypeRow, 15> kTypes = {{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E5M2", 1},
                                             {"F8_E4M3", 1},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"I32", 4},
                                             {"U32", 4},
                                             {"F32", 4},
                                             {"F64", 8},
                                             {"I64", 8},
                                             {"U64", 8}}};

// Takes the header's events in order and builds TensorInfo records directly: a generic JSON tree of 100 MB of
// header would need many times that.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(SafetensorsHeader& out) : out_(out) {}
  const std::string& problem() const { return problem_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return unexpected("a number that is not a 64-bit integer");
  }
  bool binary(binary_t&) override { return false; }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::shape && state_ != State::offsets) return unexpected("a number");
    if (value > uint64_t(std::numeric_limits<int64_t>::max())) return unexpected("a number past 2^63");
    if (state_ == State::shape) {
      if (tensor_.shape.size() == kRankLimit) {
        return fail(here() + " has more than " + std::to_string(kRankLimit) + " dimensions");
      }
      tensor_.shape.push_back(static_cast<int64_t>(value));
    } else {
      if (offsets_ == 2) return fail(here() + " has more than two data_offsets");
      (offsets_ == 0 ? begin_ : end_) = static_cast<int64_t>(value);
      ++offsets_;
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::metadata_value) {
      if (out_.metadata.size() == kMetadataLimit) {
        return fail("has more than " + std::to_string(kMetadataLimit) + " entries in __metadata__");
      }
      if (!out_.metadata.emplace(key_, std::move(value)).second) {
        return fail("has the key " + in_quotes(key_) + " twice in __metadata__");
      }
      state_ = State::metadata;
      return true;
    }
    if (state_ != State::type) return unexpected("a string");
    const auto type = element_type(value);
    if (!type)
      return fail(here() + " has the dtype " + in_quotes(value) + ", which this program does not know");
    tensor_.type = *type;
    state_ = State::tensor;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::start) {
      state_ = State::top;
    } else if (state_ == State::tensor_value) {
      if (key_ == "__metadata__") {
        state_ = State::metadata;
        return true;
      }
      tensor_ = {};
      tensor_.name = key_;
      seen_ = 0;
      offsets_ = 0;
      state_ = State::tensor;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (state_ == State::top) {
      if (value == "__metadata__" && std::exchange(metadata_seen_, true))
        return fail("has __metadata__ twice");
      key_ = std::move(value);
      state_ = State::tensor_value;
      return true;
    }
    if (state_ == State::metadata) {
      key_ = std::move(value);
      state_ = State::metadata_value;
      return true;
    }
    const unsigned bit = value == "dtype" ? 1 : value == "shape" ? 2 : value == "data_offsets" ? 4 : 0;
    if (bit == 0) return fail(here() + " has the unknown key " + in_quotes(value));
    if ((seen_ & bit) != 0) return fail(here() + " has the key " + in_quotes(value) + " twice");
    seen_ |= bit;
    state_ = bit == 1 ? State::type : bit == 2 ? State::shape_value : State::offsets_value;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::shape_value) {
      state_ = State::shape;
    } else if (state_ == State::offsets_value) {
      state_ = State::offsets;
    } else {
      return unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == State::offsets && offsets_ != 2) return fail(here() + " does not have two data_offsets");
    state_ = State::tensor;
    return true;
  }

  bool end_object() override {
    if (state_ == State::tensor) {
      if (seen_ != 7) return fail(here() + " does not have all of dtype, shape and data_offsets");
      const int64_t bytes = tensor_bytes(tensor_.shape, tensor_.type, here());
      if (end_ < begin_) return fail(here() + " ends before it begins: " + range());
      if (end_ - begin_ != bytes) {
        return fail(here() + " needs " + std::to_string(bytes) + " bytes by shape and dtype, but " + range() +
                    " holds " + std::to_string(end_ - begin_));
      }
      if (static_cast<int64_t>(out_.tensors.size()) == kTensorLimit) {
        return fail("has more than " + std::to_string(kTensorLimit) + " tensors");
      }
      tensor_.offset = begin_;
      tensor_.bytes = bytes;
      out_.tensors.push_back(std::move(tensor_));
      state_ = State::top;
    } else if (state_ == State::metadata) {
      state_ = State::top;
    } else {
      state_ = State::end;
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string text = error.what();
    const size_t bracket = text.find("] ");
    if (bracket != std::string::npos) text.erase(0, bracket + 2);
    return fail("is not valid JSON at byte " + std::to_string(position) + ": " + printable(text, 300));
  }

 private:
  enum class State : uint8_t {
    start,
    top,
    metadata,
    metadata_value,
    tensor_value,
    tensor,
    type,
    shape_value,
    shape,
    offsets_value,
    offsets,
    end
  };

  std::string here() const { return "tensor " + in_quotes(tensor_.name); }
  std::string range() const { return "[" + std::to_string(begin_) + ", " + std::to_string(end_) + "]"; }
  bool fail(const std::string& what) {
    problem_ = what;
    return false;
  }
  bool unexpected(const std::string& what) {
    switch (state_) {
      case State::start:
        return fail("is " + what + ", but an object is needed");
      case State::metadata_value:
        return fail("has " + what + " in __metadata__, which may hold only strings");
      case State::tensor_value:
        return fail("has " + what + " under " + in_quotes(key_) + ", but an object is needed");
      default:
        return fail(here() + " has " + what + " where its " +
                    (state_ == State::type                                    ? "dtype"
                     : state_ == State::shape || state_ == State::shape_value ? "shape"
                                                                              : "data_offsets") +
                    " belongs");
    }
  }

  SafetensorsHeader& out_;
  State state_ = State::start;
  std::string key_, problem_;
  TensorInfo tensor_;
  int64_t begin_ = 0, end_ = 0;
  int offsets_ = 0;
  unsigned seen_ = 0;
  bool metadata_seen_ = false;
};

template <typename Names>
std::string suggestion(std::string_view name, const Names& names) {
  std::vector<std::string> known(names.begin(), names.end());
  if (known.size() > 1000) return "";  // comparing with very many names is slow
  const std::string meant = did_you_mean(name, known);
  return meant.empty() ? "" : "; did you mean " + in_quotes(meant) + "?";
}

}  // namespace

std::string_view element_type_name(ElementType type) {
  return kTypes[static_cast<size_t>(type)].name;
}

std::optional<ElementType> element_type(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<ElementType>(i);
  }
  return std::nullopt;
}

int64_t element_bytes(ElementType type) {
  return kTypes[static_cast<size_t>(type)].bytes;
}

int64_t tensor_bytes(std::span<const int64_t> shape, ElementType type, const std::string& what) {
  int64_t product = 1;
  for (const int64_t dim : shape) {
    if (dim < 0) throw UserError(what + " has the negative dimension " + std::to_string(dim));
    if (__builtin_mul_overflow(product, dim, &product))
      throw UserError(what + " has a shape whose product passes 2^63");
  }
  if (__builtin_mul_overflow(product, element_bytes(type), &product)) {
    throw UserError(what + " has a shape whose bytes pass 2^63");
  }
  return product;
}

std::string read_safetensors_header(const InputFile& file) {
  const std::string where = in_quotes(file.path().string());
  if (file.size() < kLengthBytes) {
    throw UserError(where + " is not a safetensors file: it has " + std::to_string(file.size()) +
                    " bytes, and its header length alone takes 8");
  }
  std::array<std::byte, kLengthBytes> raw;
  file.read_at(0, raw);
  uint64_t length = 0;
  for (size_t i = 0; i < raw.size(); ++i) length |= std::to_integer<uint64_t>(raw[i]) << (8 * i);
  if (length > uint64_t{kHeaderLimit}) {
    throw UserError(where + " is not a safetensors file: its header would have " + std::to_string(length) +
                    " bytes, and at most " + std::to_string(kHeaderLimit) + " are allowed");
  }
  if (static_cast<int64_t>(length) > file.size() - kLengthBytes) {
    throw UserError(where + " is cut off: its header should have " + std::to_string(length) +
                    " bytes, but only " + std::to_string(file.size() - kLengthBytes) + " follow");
  }
  std::string header(static_cast<size_t>(length), '\0');
  file.read_at(kLengthBytes, std::as_writable_bytes(std::span(header.data(), header.size())));
  return header;
}

SafetensorsHeader parse_safetensors_header(std::string_view text, int64_t file_bytes,
                                           const std::string& origin) {
  const std::string where = in_quotes(origin);
  if (text.empty() || text[0] != '{') {
    throw UserError(where + " is not a safetensors file: its header does not start with '{'");
  }
  check_json_limits(text, origin, {.bytes = kHeaderLimit, .depth = 4, .values = 40 * kTensorLimit});
  SafetensorsHeader header;
  HeaderReader reader(header);
  try {
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) {
      throw UserError(where + ": the header " + reader.problem());
    }
  } catch (const UserError& error) {
    // tensor_bytes() does not know the file.
    if (!reader.problem().empty()) throw;
    throw UserError(where + ": " + error.what());
  }
  auto& tensors = header.tensors;
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  const int64_t data_start = kLengthBytes + static_cast<int64_t>(text.size());
  int64_t next = 0;
  for (TensorInfo& tensor : tensors) {
    if (tensor.offset != next) {
      throw UserError(where + ": tensor " + in_quotes(tensor.name) + " begins at byte " +
                      std::to_string(tensor.offset) + " of the data, but the one before it ends at " +
                      std::to_string(next) + "; tensors must neither overlap nor leave a gap");
    }
    if (__builtin_add_overflow(next, tensor.bytes, &next)) {
      throw UserError(where + ": tensor " + in_quotes(tensor.name) + " ends past 2^63 bytes");
    }
    tensor.offset +=
        data_start;  // checked below against the file's length; next <= 2^63 - 1 - data_start then
    if (next > file_bytes - data_start) {
      throw UserError(where + " is cut off: tensor " + in_quotes(tensor.name) + " ends at byte " +
                      std::to_string(next) + " of the data, but the file has only " +
                      std::to_string(file_bytes - data_start));
    }
  }
  if (next != file_bytes - data_start) {
    throw UserError(where + " has " + std::to_string(file_bytes - data_start - next) +
                    " bytes after its last tensor, which belong to nothing");
  }
  return header;
}

SafetensorsFile::SafetensorsFile(const Path& path, Symlinks symlinks) : file_(path, symlinks) {
  SafetensorsHeader header =
      parse_safetensors_header(read_safetensors_header(file_), file_.size(), path.string());
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  by_name_.resize(tensors_.size());
  for (size_t i = 0; i < by_name_.size(); ++i) by_name_[i] = static_cast<uint32_t>(i);
  std::sort(by_name_.begin(), by_name_.end(),
            [this](uint32_t a, uint32_t b) { return tensors_[a].name < tensors_[b].name; });
  for (size_t i = 1; i < by_name_.size(); ++i) {
    if (tensors_[by_name_[i - 1]].name == tensors_[by_name_[i]].name) {
      throw UserError(in_quotes(path.string()) + " has the tensor " + in_quotes(tensors_[by_name_[i]].name) +
                      " twice");
    }
  }
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto place =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [this](uint32_t i, std::string_view n) { return tensors_[i].name < n; });
  return place == by_name_.end() || tensors_[*place].name != name ? nullptr : &tensors_[*place];
}

const TensorInfo& SafetensorsFile::at(std::string_view name) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr) {
    std::vector<std::string> names;
    for (const TensorInfo& known : tensors_) names.push_back(known.name);
    throw UserError(in_quotes(path().string()) + " has no tensor " + in_quotes(name) +
                    suggestion(name, names));
  }
  return *tensor;
}

void SafetensorsFile::read(const TensorInfo& tensor, std::span<std::byte> out, int64_t first) const {
  require(first >= 0 && first <= tensor.bytes && static_cast<int64_t>(out.size()) <= tensor.bytes - first,
          "a read lies inside its tensor");
  file_.read_at(tensor.offset + first, out);
}

void SafetensorsFile::read(std::string_view name, std::span<std::byte> out) const {
  const TensorInfo& tensor = at(name);
  if (static_cast<int64_t>(out.size()) != tensor.bytes) {
    throw UserError(in_quotes(path().string()) + ": tensor " + in_quotes(name) + " has " +
                    std::to_string(tensor.bytes) + " bytes, but " + std::to_string(out.size()) +
                    " are needed");
  }
  read(tensor, out);
}

SafetensorsModel::SafetensorsModel(const Path& directory) : directory_(directory) {
  const Path single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
  const auto add = [this](const Path& path) -> const SafetensorsFile& {
    files_.push_back(std::make_unique<SafetensorsFile>(path, Symlinks::follow));
    for (const TensorInfo& tensor : files_.back()->tensors()) {
      const auto [place, fresh] = entries_.emplace(tensor.name, Entry{files_.back().get(), &tensor});
      if (!fresh) {
        throw UserError("tensor " + in_quotes(tensor.name) + " is in two files: " +
                        in_quotes(place->second.file->path().string()) + " and " + in_quotes(path.string()));
      }
    }
    return *files_.back();
  };
  std::error_code ignored;
  if (!is_present_directory(directory)) {
    throw UserError(in_quotes(directory.string()) +
                    " is not a directory; give a directory with model.safetensors");
  }
  if (std::filesystem::symlink_status(single, ignored).type() != std::filesystem::file_type::not_found) {
    add(single);
    return;
  }
  if (std::filesystem::symlink_status(index, ignored).type() == std::filesystem::file_type::not_found) {
    std::string hint;
    for (const Path& entry : list_directory(directory)) {
      const std::string extension = entry.extension().string();
      if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt") {
        hint = "; " + in_quotes(entry.filename().string()) +
               " holds pickled Python objects, which can run code and are never read: convert it with "
               "save_pretrained(..., safe_serialization=True) where you trust it";
        break;
      }
    }
    throw UserError(in_quotes(directory.string()) +
                    " has neither model.safetensors nor model.safetensors.index.json" + hint);
  }
  const JsonDocument document = JsonDocument::read(index, {.depth = 8});
  const JsonView map = document.root().at("weight_map");
  std::map<std::string, std::set<std::string>> by_shard;
  for (const std::string& name : map.keys()) {
    const JsonView value = map.at(name);
    const std::string shard = value.as_string();
    if (shard.empty() || shard == "." || shard == ".." || shard.find_first_of("/\\") != std::string::npos) {
      value.refuse("is " + in_quotes(shard) +
                   ", but only the bare name of a file beside the index is allowed");
    }
    if (!shard.ends_with(".safetensors")) {
      value.refuse("is " + in_quotes(shard) + ", but shards must be .safetensors files");
    }
    by_shard[shard].insert(name);
  }
  if (by_shard.empty()) map.refuse("names no tensor");
  for (const auto& [shard, names] : by_shard) {
    const SafetensorsFile& file = add(directory / shard);
    for (const std::string& name : names) {
      if (file.find(name) == nullptr) {
        throw UserError(in_quotes(index.string()) + " places tensor " + in_quotes(name) + " in " +
                        in_quotes(shard) + ", which does not have it");
      }
    }
    for (const TensorInfo& tensor : file.tensors()) {
      if (!names.contains(tensor.name)) {
        throw UserError(in_quotes((directory / shard).string()) + " has the tensor " +
                        in_quotes(tensor.name) + ", which the index does not place there");
      }
    }
  }
}

const SafetensorsModel::Entry& SafetensorsModel::at(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, entry] : entries_) names.push_back(known);
    throw UserError(in_quotes(directory_.string()) + " has no tensor " + in_quotes(name) +
                    suggestion(name, names));
  }
  return found->second;
}

void write_safetensors(const ByteSink& sink, std::vector<TensorSource> tensors,
                       const std::map<std::string, std::string>& metadata) {
  sort_for_safetensors(tensors, [](const TensorSource& tensor) {
    return std::pair(tensor.type, std::string_view(tensor.name));
  });
  const auto json = [](const std::string& text) { return nlohmann::json(text).dump(); };
  std::string header;
  const auto separate = [&header] { header += header.empty() ? "{" : ","; };
  if (!metadata.empty()) {
    separate();
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (header.back() != '{') header += ',';
      header += json(key) + ":" + json(value);
    }
    header += "}";
  }
  int64_t next = 0;
  std::set<std::string_view> names;
  for (const TensorSource& tensor : tensors) {
    require(names.insert(tensor.name).second && tensor.name != "__metadata__",
            "names of tensors to write differ");
    const int64_t bytes = tensor_bytes(tensor.shape, tensor.type, "tensor " + in_quotes(tensor.name));
    require(tensor.fill || static_cast<int64_t>(tensor.bytes.size()) == bytes,
            "a tensor's bytes fit its shape");
    separate();
    header +=
        json(tensor.name) + ":{\"dtype\":\"" + std::string(element_type_name(tensor.type)) + "\",\"shape\":[";
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      header += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
    }
    header += "],\"data_offsets\":[" + std::to_string(next) + "," + std::to_string(next + bytes) + "]}";
    next += bytes;
  }
  header += header.empty() ? "{}" : "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  if (static_cast<int64_t>(header.size()) > kHeaderLimit) {
    throw UserError("the safetensors header would have " + std::to_string(header.size()) +
                    " bytes, and at most " + std::to_string(kHeaderLimit) +
                    " are allowed; write more shards");
  }
  std::array<std::byte, kLengthBytes> length;
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(header.size() >> (8 * i));
  sink(length);
  sink(std::as_bytes(std::span(header.data(), header.size())));
  constexpr int64_t kPiece = int64_t{1} << 20;
  std::vector<std::byte> piece;
  for (const TensorSource& tensor : tensors) {
    if (!tensor.fill) {
      sink(tensor.bytes);
      continue;
    }
    const int64_t bytes = tensor_bytes(tensor.shape, tensor.type, tensor.name);
    piece.resize(static_cast<size_t>(std::min(bytes, kPiece)));
    for (int64_t first = 0; first < bytes; first += kPiece) {
      const std::span part = std::span(piece).first(static_cast<size_t>(std::min(kPiece, bytes - first)));
      tensor.fill(first, part);
      sink(part);
    }
  }
}

int64_t write_safetensors(const Path& path, std::vector<TensorSource> tensors,
                          const std::map<std::string, std::string>& metadata) {
  OutputFile file(path);
  write_safetensors([&file](std::span<const std::byte> bytes) { file.write(bytes); }, std::move(tensors),
                    metadata);
  file.commit();
  return file.size();
}

}  // namespace toroid
