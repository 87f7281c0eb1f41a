#include "tests/core/op/workbench.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/op/kinds.h"
#include "core/op/matmul.h"
#include "core/op/reference.h"

namespace toroid::testing {
namespace {

constexpr auto kBlank = std::byte{0xff};  // all bits set is NaN in every float type

// Elements between the first and one past the last, gaps included.
int64_t extent(const Tensor& t) {
  return t.rows() == 0 ? 0 : (t.rows() - 1) * t.row_stride + t.columns();
}

}  // namespace

HostTensor::HostTensor(DType type, Shape shape, int64_t row_stride, Layout layout, int64_t bytes)
    : block_(std::make_unique<Block>()), memory_(nullptr, std::free) {
  tensor_ = {block_.get(), 0, type, layout, shape, row_stride == 0 ? shape.row_elements() : row_stride};
  bytes_ = static_cast<size_t>(bytes >= 0 ? bytes : extent(tensor_) * bytes_of(type));
  whole_ = (bytes_ + 2 * kGuard + 63) / 64 * 64;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, whole_)));
  require(memory_ != nullptr, "a test has memory");
  std::memset(memory_.get(), static_cast<int>(kBlank), whole_);
  block_->address = memory_.get() + kGuard;
  block_->bytes = static_cast<int64_t>(bytes_);
}

Tensor HostTensor::tensor() const {
  return tensor_;
}

bool HostTensor::guards_intact() const {
  const auto blank = [](const std::byte* from, size_t count) {
    return std::all_of(from, from + count, [](std::byte b) { return b == kBlank; });
  };
  const std::byte* const first = memory_.get() + kGuard;
  if (!blank(memory_.get(), kGuard) || !blank(first + bytes_, kGuard)) return false;
  if (tensor_.layout != Layout::plain || tensor_.dense()) return true;
  const int64_t size = bytes_of(tensor_.type);
  for (int64_t r = 0; r + 1 < tensor_.rows(); ++r) {
    const int64_t gap = tensor_.row_stride - tensor_.columns();
    const std::byte* from = first + (r * tensor_.row_stride + tensor_.columns()) * size;
    if (!blank(from, static_cast<size_t>(gap * size))) return false;
  }
  return true;
}

Device& Devices::with(int threads) {
  std::unique_ptr<Device>& device = devices_[threads];
  if (device == nullptr) device = make_(threads);
  return *device;
}

Tensor Workbench::keep(std::unique_ptr<HostTensor> tensor) {
  tensors_.push_back(std::move(tensor));
  return tensors_.back()->tensor();
}

// Nearly normal: four 16-bit uniforms of one splitmix64 word. Millions of these are drawn, and Philox would
// take most of a test's time.
double Workbench::draw() {
  uint64_t z = (seed_ * 0x632be59bd9b4e019u + ++drawn_) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  const auto part = [&](int shift) { return static_cast<double>((z >> shift) & 0xffffu) * 0x1p-16 - 0.5; };
  return std::sqrt(3.0) * (part(0) + part(16) + part(32) + part(48));
}

Tensor Workbench::output(DType type, Shape shape, int64_t row_stride) {
  return keep(std::make_unique<HostTensor>(type, shape, row_stride));
}

Tensor Workbench::normal(DType type, Shape shape, double stddev, int64_t row_stride) {
  const Tensor tensor = output(type, shape, row_stride);
  std::vector<double> values(static_cast<size_t>(tensor.elements()));
  for (double& value : values) value = stddev * draw();
  op::store(tensor, values);
  return tensor;
}

Tensor Workbench::uniform(DType type, Shape shape, double low, double high) {
  const RandomKey key = random_key(seed_, Purpose::synthetic, "workbench uniform");
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (double& value : values) value = low + (high - low) * toroid::uniform(key, drawn_++);
  return filled(type, shape, values);
}

Tensor Workbench::filled(DType type, Shape shape, std::span<const double> values) {
  const Tensor tensor = output(type, shape);
  op::store(tensor, values);
  return tensor;
}

Tensor Workbench::integers(Shape shape, std::span<const int64_t> values) {
  const Tensor tensor = output(DType::i32, shape);
  require(static_cast<int64_t>(values.size()) == tensor.elements(), "a test fills the whole tensor");
  for (size_t i = 0; i < values.size(); ++i) tensor.as<int32_t>()[i] = static_cast<int32_t>(values[i]);
  return tensor;
}

Tensor Workbench::integers(Shape shape, int64_t first, int64_t last) {
  const RandomKey key = random_key(seed_, Purpose::synthetic, "workbench integers");
  std::vector<int64_t> values(static_cast<size_t>(shape.elements()));
  for (int64_t& value : values) {
    value =
        first + static_cast<int64_t>(toroid::uniform(key, drawn_++) * static_cast<float>(last - first + 1));
  }
  return integers(shape, values);
}

Tensor Workbench::packed(const Tensor& plain, Layout layout) {
  return packed(std::span(&plain, 1), plain.type, layout);
}

Tensor Workbench::packed(std::span<const Tensor> parts, DType type, Layout layout) {
  int64_t rows = 0;
  for (const Tensor& part : parts) rows += part.rows();
  const Shape shape{rows, parts.front().columns()};
  int64_t bytes = shape.elements() * bytes_of(type);
  if (kernels_ != nullptr) bytes = kernels_->packed_bytes(type, shape, layout);
  if (devices_ != nullptr) bytes = devices_->with(1).packed_bytes(type, shape, layout);
  const Tensor to = keep(std::make_unique<HostTensor>(type, shape, 0, layout, bytes));
  run(op::pack(parts, to));
  return to;
}

void Workbench::run(const Call& call, int threads) const {
  Device* const device = devices_ == nullptr ? nullptr : &devices_->with(threads);
  const KernelRegistry* const kernels = device == nullptr ? kernels_ : &device->kernels();
  const Kernel* const kernel = kernels == nullptr ? nullptr : kernels->find(*call.kind);
  if (device != nullptr && (kernel == nullptr || !devices_->kernels_take_host_memory())) {
    run_on(*device, call);
  } else if (kernel != nullptr) {
    run_kernel(*kernel, call, threads);
  } else {
    call.kind->reference(call);
  }
}

void Workbench::run_kernel(const Kernel& kernel, const Call& call, int threads) const {
  const int64_t bytes = kernel.workspace_bytes == nullptr ? 0 : kernel.workspace_bytes(call, threads);
  const HostTensor workspace(DType::u8, {bytes});
  kernel.run(call, bytes == 0 ? nullptr : workspace.tensor().data(), threads);
  require(workspace.guards_intact(), "a kernel stays inside its workspace");
}

const HostTensor& Workbench::owner_of(const Block* block) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                  [&](const auto& tensor) { return tensor->block() == block; });
  require(found != tensors_.end(), "a call's operands are on the bench that runs it");
  return **found;
}

// Guards travel with the elements, there and back, so that writing there is found on any device.
void Workbench::run_on(Device& device, const Call& call) const {
  std::map<const Block*, Array> copies;
  Call there = call;
  for (Operand& operand : there.operands) {
    Tensor& tensor = operand.tensor;
    if (!tensor) continue;
    const auto [copy, fresh] = copies.try_emplace(tensor.block);
    if (fresh) {
      const std::span<const std::byte> memory = owner_of(tensor.block).memory();
      copy->second = device.array(DType::u8, {static_cast<int64_t>(memory.size())}, "operand");
      device.write(copy->second.tensor, memory);
    }
    tensor.block = copy->second.tensor.block;
    tensor.offset_bytes += static_cast<int64_t>(HostTensor::kGuard);
  }
  device.launch(there);
  for (const auto& [block, copy] : copies) device.read(copy.tensor, owner_of(block).memory());
}

bool Workbench::guards_intact() const {
  return std::all_of(tensors_.begin(), tensors_.end(), [](const auto& t) { return t->guards_intact(); });
}

std::shared_ptr<KernelRegistry> primitive_kernels() {
  KernelRegistry all;
  add_reference_kernels(all);
  auto primitive = std::make_shared<KernelRegistry>();
  for (const OpKind* kind : op::all_kinds()) {
    if (kind->expand == nullptr) primitive->add(*kind, *all.find(*kind));
  }
  return primitive;
}

std::vector<std::byte> bytes_in(const Tensor& tensor) {
  std::vector<std::byte> out;
  if (!tensor) return out;
  const int64_t size = bytes_of(tensor.type);
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    const std::byte* row = tensor.data() + r * tensor.row_stride * size;
    out.insert(out.end(), row, row + tensor.columns() * size);
  }
  return out;
}

}  // namespace toroid::testing
