#include "train/engine/snapshot.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string>

#include "core/base/error.h"
#include "core/base/log.h"
#include "train/checkpoint/elements.h"

namespace toroid::train {
namespace {

constexpr std::array<const char*, op::kStateSize> kStateNames{
    "updates",     "skipped_total", "skipped_in_a_row", "loss_mean",
    "loss_square", "norm_mean",     "norm_square",      "seen"};

std::vector<int64_t> dims(const Shape& shape) {
  std::vector<int64_t> out;
  for (int i = 0; i < shape.rank(); ++i) out.push_back(shape[i]);
  return out;
}

constexpr int64_t kPiece = int64_t{4} << 20;  // bytes of a tensor that are on the host at a time

// `bytes` of a dense tensor from byte `first` on.
Tensor piece_of(const Tensor& tensor, int64_t first, size_t bytes) {
  const int64_t size = bytes_of(tensor.type);
  return tensor.reshape({tensor.elements()}).slice_rows(first / size, static_cast<int64_t>(bytes) / size);
}

ElementType element_type_of(DType type) {
  return type == DType::bf16 ? ElementType::bf16 : ElementType::f32;
}

// States may have been kept in another of the two types: widened they are what they were, narrowed they are
// rounded to nearest, once.
void restore_tensor(Device& device, const NamedTensor& to, CheckpointReader& checkpoint,
                    const std::string& part) {
  const CheckpointTensor& from = checkpoint.at(to.name, part);
  const bool state = part != "master" && is_number(from.type);
  if (from.shape != dims(to.shape) || (from.type != ElementType::f32 && !state)) {
    throw UserError("tensor " + to.name + " (" + part + ") of " + checkpoint.directory().string() +
                    " does not have the shape f32" + to.shape.text() +
                    " that the config asks for; use the config that the checkpoint was made with");
  }
  const bool same = from.type == element_type_of(to.tensor.type);
  const int64_t size = bytes_of(to.tensor.type), elements = to.tensor.elements(), most = kPiece / size;
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(elements, most) * size));
  std::vector<float> values(same ? 0 : static_cast<size_t>(std::min(elements, most)));
  for (int64_t first = 0; first < elements; first += most) {
    const auto count = static_cast<size_t>(std::min(most, elements - first));
    const std::span piece = std::span(buffer).first(count * static_cast<size_t>(size));
    if (same) {
      checkpoint.read(to.name, part, to.first + first, piece);
    } else {
      read_elements(checkpoint, from, to.first + first, std::span(values).first(count));
      write_elements(std::span(values).first(count), element_type_of(to.tensor.type), piece);
    }
    device.write(piece_of(to.tensor, first * size, piece.size()), piece);
  }
}

// Said once a part, by whoever holds some of it.
void say_change_of_type(const CheckpointReader& checkpoint, const std::vector<NamedTensor>& parts) {
  std::set<std::string> said;
  for (const NamedTensor& part : parts) {
    const CheckpointTensor* const from = checkpoint.find(part.name, part.saved_part());
    if (from == nullptr || from->type == element_type_of(part.tensor.type)) continue;
    if (!said.insert(part.part).second) continue;
    log::info("{} is {} in the checkpoint and is kept as {} from here on{}", part.part,
              element_type_name(from->type), element_type_name(element_type_of(part.tensor.type)),
              part.tensor.type == DType::bf16 ? ", rounded to nearest" : "");
  }
}

}  // namespace

std::vector<TensorSlice> take_snapshot(Device& device, StepProgram& program, CheckpointState& state) {
  std::vector<float> scalars(op::kStateSize);
  device.read(program.state(), std::as_writable_bytes(std::span(scalars)));
  for (size_t i = 0; i < kStateNames.size(); ++i)
    state.scalars[kStateNames[i]] = static_cast<double>(scalars[i]);
  state.counters["pods"] = program.pods();
  state.counters["steps_apart"] = program.zero().pods().steps_apart();
  std::vector<TensorSlice> slices;
  for (const NamedTensor& part : program.zero().parts()) {
    if (!part.counted) continue;  // another rank saves it
    TensorSlice slice;
    slice.name = part.name;
    slice.part = part.saved_part();
    slice.global_shape = dims(part.shape);
    slice.offset = part.first;
    slice.elements = part.tensor.elements();
    slice.type = element_type_of(part.tensor.type);
    slice.fill = [&device, tensor = part.tensor](int64_t first, std::span<std::byte> out) {
      device.read(piece_of(tensor, first, out.size()), out);
    };
    slices.push_back(std::move(slice));
  }
  return slices;
}

void restore_snapshot(Device& device, StepProgram& program, CheckpointReader& checkpoint) {
  const auto& saved = checkpoint.state().scalars;
  std::vector<float> scalars;
  for (const char* name : kStateNames) {
    const auto found = saved.find(name);
    if (found == saved.end()) {
      throw UserError("checkpoint " + checkpoint.directory().string() + " has no scalar '" + name +
                      "' and cannot be resumed; start from its weights with train.init_from");
    }
    scalars.push_back(static_cast<float>(found->second));
  }
  program.zero().clear();
  say_change_of_type(checkpoint, program.zero().parts());
  Tensor master;  // of the piece whose parts follow one another
  for (const NamedTensor& part : program.zero().parts()) {
    if (part.part == "master") master = part.tensor;
    if (checkpoint.find(part.name, part.saved_part()) != nullptr) {
      restore_tensor(device, part, checkpoint, part.saved_part());
    } else if (part.needed) {
      restore_tensor(device, part, checkpoint, part.part);
    } else if (part.part == "outer_master") {
      device.copy(part.tensor, master);
    }
  }
  const auto apart = checkpoint.state().counters.find("steps_apart");
  program.zero().pods().set_steps_apart(apart == checkpoint.state().counters.end() ? 0 : apart->second);
  device.write(program.state(), std::as_bytes(std::span(scalars)));
  program.weights_changed();
}

void restore_weights(Device& device, Zero& zero, CheckpointReader& checkpoint, const std::string& part) {
  // A piece's parts follow one another, its master first. The average begins as a copy of it: read a second
  // time, the pieces of one rank would look to the reader like the whole tensor.
  Tensor master;
  for (const NamedTensor& to : zero.parts()) {
    if (to.part == "master") {
      restore_tensor(device, to, checkpoint, part);
      master = to.tensor;
    }
    if (to.part == "ema") zero.begin_average(to.tensor, master);
    if (to.part == "outer_master") device.copy(to.tensor, master);
  }
  zero.masters_changed();
}

}  // namespace toroid::train
