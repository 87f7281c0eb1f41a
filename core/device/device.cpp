#include "core/device/device.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/base/error.h"

namespace toroid {
namespace {

// Parts go to the queue of the call; their temporaries are freed behind the last of them.
class Expansion final : public Issuer {
 public:
  Expansion(Device& device, Queue queue) : device_(device), queue_(queue) {}
  void issue(const Call& part) override { device_.launch(part, queue_); }
  Tensor temporary(DType type, Shape shape) override {
    temporaries_.push_back(device_.allocate(shape.elements() * bytes_of(type), "workspace", queue_));
    return temporaries_.back().view(type, shape);
  }

 private:
  Device& device_;
  Queue queue_;
  std::vector<Buffer> temporaries_;
};

}  // namespace

Buffer Device::allocate(int64_t bytes, std::string_view holder, Queue home) {
  require(bytes >= 0, "an allocation has a size of at least zero bytes");
  auto block = std::make_unique<Block>();
  block->bytes = bytes;
  block->home = home;
  block->holder = holder;
  on_allocate(*block);
  statistics_.bytes_now += bytes;
  statistics_.bytes_peak = std::max(statistics_.bytes_peak, statistics_.bytes_now);
  block->held = &bytes_by_holder_[block->holder];
  *block->held += bytes;
  return Buffer(this, block.release());
}

void Device::free(Block* block) {
  note_peak();
  statistics_.bytes_now -= block->bytes;
  *block->held -= block->bytes;
  on_free(*block);
  delete block;
}

// The holders at the peak are copied only when memory is about to fall from it, not at every allocation.
void Device::note_peak() {
  if (statistics_.bytes_now == statistics_.bytes_peak && statistics_.bytes_now > noted_peak_) {
    statistics_.peak_by_holder = bytes_by_holder_;
    noted_peak_ = statistics_.bytes_peak;
  }
}

const Statistics& Device::statistics() {
  note_peak();
  return statistics_;
}

void Device::reset_peak() {
  statistics_.bytes_peak = statistics_.bytes_now;
  noted_peak_ = -1;
}

Array Device::array(DType type, Shape shape, std::string_view holder, Layout layout) {
  const int64_t bytes = layout == Layout::plain ? shape.elements() * bytes_of(type)
                                                : traits().packed_bytes(type, shape, layout);
  Array out;
  out.owner = allocate(bytes, holder);
  out.tensor = out.owner.view(type, shape, 0, layout);
  return out;
}

void Device::use(Event ticket, std::span<Uses> parts, Access access) {
  const auto self = static_cast<size_t>(ticket.queue);
  Tickets& seen = seen_[self];
  const auto wait_for = [&](const Tickets& uses) {
    for (size_t other = 0; other < kQueues; ++other) {
      if (uses[other] <= seen[other] || other == self) continue;
      on_wait(ticket.queue, Event{static_cast<Queue>(other), uses[other]});
      seen[other] = uses[other];  // a wait that fails has not been
    }
  };
  for (Uses& uses : parts) {
    wait_for(uses.written);
    if (access != Access::in) wait_for(uses.read);
    (access == Access::in ? uses.read : uses.written)[self] = ticket.ticket;
  }
}

Event Device::enter(Queue queue, std::span<const Operand> operands) {
  const Event ticket{queue, ++issued_[static_cast<size_t>(queue)]};
  for (const Operand& operand : operands) {
    const Tensor& tensor = operand.tensor;
    if (!tensor) continue;
    use(ticket, tensor.block->parts_of(tensor.offset_bytes, tensor.offset_bytes + tensor.extent_bytes()),
        operand.access);
  }
  return ticket;
}

void Device::launch(const Call& call, Queue queue) {
  const Kernel* kernel = kernels_->find(*call.kind);
  if (kernel == nullptr) {
    if (call.kind->expand == nullptr) {
      throw InternalError("device " + std::string(name()) + " has neither a kernel nor an expansion for " +
                          describe(call));
    }
    Expansion expansion(*this, queue);
    call.kind->expand(call, expansion);
    return;
  }
  const Event ticket = enter(queue, call.operands);
  ++statistics_.launches;
  LaunchContext context{.queue = queue, .threads = traits().threads};
  const int64_t scratch = kernel->workspace_bytes == nullptr ? 0 : kernel->workspace_bytes(call, context);
  if (scratch == 0) return on_launch(call, *kernel, context, ticket);
  // An operand like others: its first user may have to wait for who had the memory before, and it is free
  // for the next one when this entry is over.
  const Buffer workspace = allocate(scratch, "workspace", queue);
  use(ticket, workspace.block()->parts(), Access::out);
  context.workspace = static_cast<std::byte*>(workspace.block()->address);
  on_launch(call, *kernel, context, ticket);
}

void Device::copy(const Tensor& to, const Tensor& from, Queue queue) {
  require(to.type == from.type && to.bytes() == from.bytes() && to.dense() && from.dense(),
          "copy is between dense tensors of one type and size");
  const std::array<Operand, 2> operands{Operand{from, Access::in}, Operand{to, Access::out}};
  const Event ticket = enter(queue, operands);
  on_copy(to, from, ticket);
}

void Device::transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                      const CollectiveInfo& info, Queue queue) {
  require(queue != Queue::compute && queue != Queue::host,
          "a collective is issued on a queue of communication");
  const Event ticket = enter(queue, operands);
  on_transfer(std::move(transfer), operands, info, ticket);
}

Event Device::record(Queue queue) {
  const Event event{queue, issued_[static_cast<size_t>(queue)], ++marks_};
  on_record(event);
  return event;
}

void Device::wait(Queue queue, Event event) {
  auto& seen = seen_[static_cast<size_t>(queue)][static_cast<size_t>(event.queue)];
  if (queue == event.queue || event.ticket <= seen) return;
  on_wait(queue, event);
  seen = event.ticket;
}

void Device::finish(Seconds deadline) {
  for (size_t queue = 0; queue < kQueues; ++queue) synchronize(record(static_cast<Queue>(queue)), deadline);
}

void Device::write(const Tensor& to, std::span<const std::byte> from, Queue queue) {
  require(to.dense() && to.bytes() == static_cast<int64_t>(from.size()), "write fills a dense tensor");
  const std::array<Operand, 1> operands{Operand{to, Access::out}};
  const Event ticket = enter(queue, operands);
  on_write(to, from, ticket);
}

void Device::read(const Tensor& from, std::span<std::byte> to) {
  require(from.dense() && from.bytes() == static_cast<int64_t>(to.size()), "read takes a whole dense tensor");
  const std::array<Operand, 1> operands{Operand{from, Access::in}};
  const Event ticket = enter(Queue::host, operands);
  on_read(from, to, ticket);
}

}  // namespace toroid
