#include "parallel/zero/state_checksums.h"

#include <algorithm>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "core/base/processor_time.h"
#include "core/base/text.h"
#include "core/op/checksum.h"

namespace toroid {
namespace {

class Timed {
 public:
  explicit Timed(Seconds& total) : total_(total), begin_(thread_processor_time()) {}
  ~Timed() { total_ += thread_processor_time() - begin_; }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Seconds& total_;
  Seconds begin_;
};

}  // namespace

std::string StateFault::text() const {
  std::string out = part + " of " + printable(tensor) + ", elements " + with_commas(first) + " to " +
                    with_commas(last - 1) + " of what the rank holds of it";
  if (element) {
    out += ": element " + with_commas(first + element->word) +
           (element->bit ? ", bit " + std::to_string(*element->bit) : std::string(" changed"));
  }
  if (blocks > 1) out += "; " + with_commas(blocks - 1) + " other blocks differ too";
  return out;
}

StateChecksums::StateChecksums(Device& device, std::vector<Group> groups, int64_t every, int64_t at_once)
    : device_(device), groups_(std::move(groups)), every_(every) {
  require(every_ > 0, "checksums are compared in every so many updates");
  const int64_t most =
      at_once == 0 ? INT64_MAX : std::max<int64_t>(1, at_once / op::kChecksumBlock) * op::kChecksumBlock;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t n = groups_[g].arrays[0].elements();
    std::vector<Piece>& pieces = pieces_.emplace_back();
    for (int64_t first = 0; first < n; first += pieces.back().count) {
      pieces.push_back({g, first, std::min(most, n - first), rows_});
      rows_ += static_cast<int64_t>(groups_[g].arrays.size()) * op::checksum_blocks(pieces.back().count);
    }
  }
  const auto table = [&] { return device_.array(DType::i64, {rows_, 2}, "checksums"); };
  const auto found = [&] { return device_.array(DType::i64, {op::kDifferingSize}, "checksums"); };
  seen_ = table();
  for (Array& noted : noted_) noted = table();
  for (Array& differing : differing_) differing = found();
  look_ = found();
}

std::vector<Tensor> StateChecksums::arrays_of(const Piece& piece) const {
  std::vector<Tensor> out;
  for (const Tensor& array : groups_[piece.group].arrays) {
    out.push_back(array.slice_rows(piece.first, piece.count));
  }
  return out;
}

Tensor StateChecksums::rows_of(const Tensor& table, const Piece& piece) const {
  const auto arrays = static_cast<int64_t>(groups_[piece.group].arrays.size());
  return table.slice_rows(piece.row, arrays * op::checksum_blocks(piece.count));
}

void StateChecksums::take(const Piece& piece, const Tensor& table) {
  const Timed timed(spent_);
  device_.launch(op::checksum(arrays_of(piece), rows_of(table, piece)));
}

// Of the groups that are written around() too, or of the others alone.
void StateChecksums::take_all(const Tensor& table, bool written_around) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].around && !written_around) continue;
    for (const Piece& piece : pieces_[g]) take(piece, table);
  }
}

void StateChecksums::begin_update() {
  ++updates_;
  compares_ = fresh_ && updates_ % every_ == 0;
  notes_ = (updates_ + 1) % every_ == 0;
  latest_ = 1 - latest_;
  compared_[latest_] = compares_;
  if (compares_) take_all(seen_.tensor, false);
}

void StateChecksums::around(size_t group, const Write& write) {
  if ((!compares_ && !notes_) || !groups_[group].around) {
    return write(0, groups_[group].arrays[0].elements());
  }
  for (const Piece& piece : pieces_[group]) {
    if (compares_) take(piece, seen_.tensor);
    write(piece.first, piece.count);
    if (notes_) take(piece, noted_[1 - left_].tensor);
  }
}

void StateChecksums::end_update(bool all) {
  if (notes_) take_all(noted_[1 - left_].tensor, all);
  if (compares_) {
    const Timed timed(spent_);
    device_.launch(op::compare_checksums(noted_[left_].tensor, seen_.tensor, differing_[latest_].tensor));
  }
  left_ = 1 - left_;
  fresh_ = notes_;
}

void StateChecksums::note_all() {
  take_all(noted_[left_].tensor);
  fresh_ = true;
}

std::optional<StateFault> StateChecksums::found(int updates_ago) {
  require(updates_ago == 0 || updates_ago == 1, "what was found is kept for two updates");
  const int at = updates_ago == 0 ? latest_ : 1 - latest_;
  if (!compared_[at]) return std::nullopt;
  return read(differing_[at].tensor);
}

std::optional<StateFault> StateChecksums::look() {
  if (!fresh_) return std::nullopt;
  take_all(seen_.tensor);
  device_.launch(op::compare_checksums(noted_[left_].tensor, seen_.tensor, look_.tensor));
  return read(look_.tensor);
}

std::optional<StateFault> StateChecksums::read(const Tensor& differing) {
  std::vector<uint64_t> values(op::kDifferingSize);
  device_.read(differing, std::as_writable_bytes(std::span(values)));
  if (values[op::Differing::count] == 0) return std::nullopt;
  const auto row = static_cast<int64_t>(values[op::Differing::first]);
  const Piece& piece = piece_at(row);
  const Group& group = groups_[piece.group];
  const int64_t blocks = op::checksum_blocks(piece.count), block = (row - piece.row) % blocks;
  const auto array = static_cast<size_t>((row - piece.row) / blocks);
  StateFault out;
  out.tensor = group.tensor;
  out.part = group.parts[array];
  out.first = piece.first + block * op::kChecksumBlock;
  out.last = std::min(piece.first + piece.count, out.first + op::kChecksumBlock);
  const int64_t in_a_word = bytes_of(group.arrays[array].type) == 2 ? 2 : 1;
  out.element = changed_word({}, {values[op::Differing::sum], values[op::Differing::weighted]},
                             (out.last - out.first + in_a_word - 1) / in_a_word);
  if (out.element && in_a_word == 2) {
    // Which half of the word it is, a flipped bit says.
    if (out.element->bit) {
      out.element->word = 2 * out.element->word + *out.element->bit / 16;
      out.element->bit = *out.element->bit % 16;
    } else {
      out.element.reset();
    }
  }
  out.blocks = static_cast<int64_t>(values[op::Differing::count]);
  return out;
}

const StateChecksums::Piece& StateChecksums::piece_at(int64_t row) const {
  const Piece* found = nullptr;
  for (const std::vector<Piece>& pieces : pieces_) {
    for (const Piece& piece : pieces) {
      if (piece.row <= row) found = &piece;
    }
  }
  require(found != nullptr, "a row of the tables is of a piece");
  return *found;
}

// How a group is cut into pieces is each rank's own affair: its blocks are taken in the order of its arrays.
Checksum StateChecksums::digest() {
  const Array& table = fresh_ ? noted_[left_] : seen_;
  if (!fresh_) take_all(seen_.tensor);
  std::vector<uint64_t> sums(static_cast<size_t>(2 * rows_)), ordered;
  device_.read(table.tensor, std::as_writable_bytes(std::span(sums)));
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!groups_[g].shared) continue;
    for (size_t array = 0; array < groups_[g].arrays.size(); ++array) {
      for (const Piece& piece : pieces_[g]) {
        const int64_t blocks = op::checksum_blocks(piece.count);
        const int64_t row = piece.row + static_cast<int64_t>(array) * blocks;
        ordered.insert(ordered.end(), sums.begin() + 2 * row, sums.begin() + 2 * (row + blocks));
      }
    }
  }
  return checksum(std::as_bytes(std::span(ordered)));
}

}  // namespace toroid
