#include "tests/core/device/asynchronous_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/base/round_up.h"

namespace toroid::testing {

TwoViews::TwoViews(int64_t bytes) : bytes_(round_up(bytes, kPage)) {
  const int file = ::memfd_create("toroid test device", MFD_CLOEXEC);
  const auto size = static_cast<size_t>(bytes_);
  if (file < 0 || ::ftruncate(file, bytes_) != 0) throw SystemError("no memory for a test device", errno);
  void* const closed = ::mmap(nullptr, size, PROT_NONE, MAP_SHARED, file, 0);
  void* const open = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  require(closed != MAP_FAILED && open != MAP_FAILED, "a test device's memory is mapped twice");
  closed_ = static_cast<std::byte*>(closed);
  open_ = static_cast<std::byte*>(open);
}

TwoViews::~TwoViews() {
  ::munmap(closed_, static_cast<size_t>(bytes_));
  ::munmap(open_, static_cast<size_t>(bytes_));
}

void TwoViews::let_in(int64_t offset, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (inside_[offset]++ == 0)
    ::mprotect(closed_ + offset, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE);
}

void TwoViews::shut_out(int64_t offset, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (--inside_[offset] == 0) ::mprotect(closed_ + offset, static_cast<size_t>(bytes), PROT_NONE);
}

AsynchronousDevice::AsynchronousDevice(std::shared_ptr<const DeviceKernels> kernels, const Options& options)
    : Device(std::move(kernels)),
      memory_(options.bytes),
      arena_(options.bytes, TwoViews::kPage),
      options_(options) {
  for (size_t queue = 0; queue < kQueues; ++queue) threads_.emplace_back([this, queue] { run(queue); });
}

AsynchronousDevice::~AsynchronousDevice() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void AsynchronousDevice::run(size_t queue) {
  std::mt19937_64 random(options_.seed * kQueues + queue);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queues_[queue].empty(); });
    if (queues_[queue].empty()) return;
    const Entry entry = std::move(queues_[queue].front());
    queues_[queue].pop_front();
    if (failure_ != nullptr) continue;
    if (entry.on) {
      // An entry whose issue failed leaves a ticket that never comes.
      const auto of = static_cast<size_t>(entry.on->queue);
      changed_.wait(lock, [&] {
        return failure_ != nullptr || finished_[of] >= entry.on->ticket ||
               (stopping_ && issued_[of] < entry.on->ticket);
      });
      continue;
    }
    lock.unlock();
    if (random() % 4 == 0 && options_.longest_delay.count() > 0) {
      const auto longest = static_cast<uint64_t>(options_.longest_delay.count());
      std::this_thread::sleep_for(std::chrono::microseconds(random() % longest));
    }
    std::exception_ptr thrown;
    try {
      for (const Region& region : entry.fresh) poison(region);
      entry.run();
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    if (thrown != nullptr && failure_ == nullptr) failure_ = thrown;
    if (thrown == nullptr && entry.ticket > 0) finished_[queue] = entry.ticket;
    poison_freed();
    changed_.notify_all();
  }
}

void AsynchronousDevice::push(Queue queue, Entry entry) {
  {
    const std::lock_guard lock(mutex_);
    const auto of = static_cast<size_t>(queue);
    issued_[of] = std::max(issued_[of], entry.ticket);
    queues_[of].push_back(std::move(entry));
  }
  changed_.notify_all();
}

void AsynchronousDevice::push(Event ticket, std::span<const Tensor> operands, std::function<void()> run) {
  Entry entry;
  entry.ticket = ticket.ticket;
  entry.run = std::move(run);
  for (const Tensor& operand : operands) {
    if (operand) take_fresh(operand.block->address, entry.fresh);
  }
  push(ticket.queue, std::move(entry));
}

void AsynchronousDevice::take_fresh(const void* address, std::vector<Region>& to) {
  const auto found = fresh_.find(memory_.offset(address));
  if (found == fresh_.end()) return;
  to.push_back({found->first, found->second});
  fresh_.erase(found);
}

// All bits set is NaN in every float type, and no row of any table.
void AsynchronousDevice::poison(const Region& region) {
  std::memset(memory_.open(region.offset), 0xff, static_cast<size_t>(region.bytes));
}

bool AsynchronousDevice::passed(const Tickets& tickets) const {
  for (size_t queue = 0; queue < kQueues; ++queue) {
    if (tickets[queue] > finished_[queue]) return false;
  }
  return true;
}

void AsynchronousDevice::poison_freed() {
  std::erase_if(freed_, [this](const Freed& freed) {
    if (!passed(freed.last_use)) return false;
    poison(freed.region);
    return true;
  });
}

std::byte* AsynchronousDevice::at(const Tensor& tensor) const {
  return memory_.open(memory_.offset(tensor.block->address)) + tensor.offset_bytes;
}

void AsynchronousDevice::wait(const std::function<bool()>& over) const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ != nullptr || over(); });
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

void AsynchronousDevice::synchronize(Event event, Seconds deadline) {
  std::unique_lock lock(mutex_);
  const auto over = [&] {
    return failure_ != nullptr || finished_[static_cast<size_t>(event.queue)] >= event.ticket;
  };
  if (deadline.count() <= 0) {
    changed_.wait(lock, over);
  } else if (!changed_.wait_for(lock, deadline, over)) {
    throw SystemError("a queue did not come so far within " + std::to_string(deadline.count()) + " s");
  }
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

Seconds AsynchronousDevice::elapsed(Event from, Event to) const {
  wait([&] { return recorded_.contains(from.mark) && recorded_.contains(to.mark); });
  const std::lock_guard lock(mutex_);
  return recorded_.at(to.mark) - recorded_.at(from.mark);
}

void AsynchronousDevice::on_allocate(Block& block) {
  const DeviceArena::Piece piece = arena_.allocate(block.bytes, block.holder);
  block.address = memory_.closed(piece.offset);
  block.parts().front().written = piece.tickets;
  fresh_[piece.offset] = piece.bytes;
  const int64_t end = piece.offset + piece.bytes;
  const std::lock_guard lock(mutex_);
  std::erase_if(freed_, [&](const Freed& freed) {
    return freed.region.offset < end && piece.offset < freed.region.offset + freed.region.bytes;
  });
}

void AsynchronousDevice::on_free(const Block& block) {
  const int64_t offset = memory_.offset(block.address);
  fresh_.erase(offset);
  const Tickets last_use = block.last_use();
  arena_.free(offset, last_use);
  const std::lock_guard lock(mutex_);
  freed_.push_back({{offset, block.bytes}, last_use});
  poison_freed();
}

void AsynchronousDevice::on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context,
                                   Event ticket) {
  // The call's blocks may be gone when it runs, and its kernel is to see the open view.
  auto moved = std::make_shared<Call>(call);
  auto blocks = std::make_shared<std::map<const Block*, Block>>();
  Entry entry;
  entry.ticket = ticket.ticket;
  for (Operand& operand : moved->operands) {
    if (!operand.tensor) continue;
    const Block& from = *operand.tensor.block;
    take_fresh(from.address, entry.fresh);
    Block& block = (*blocks)[&from];
    block.bytes = from.bytes;
    block.address = memory_.open(memory_.offset(from.address));
    operand.tensor.block = &block;
  }
  LaunchContext given = context;
  if (context.workspace != nullptr) {
    take_fresh(context.workspace, entry.fresh);
    given.workspace = memory_.open(memory_.offset(context.workspace));
  }
  entry.run = [moved, blocks, given, run = kernel.run] { run(*moved, given); };
  push(ticket.queue, std::move(entry));
}

void AsynchronousDevice::on_copy(const Tensor& to, const Tensor& from, Event ticket) {
  const std::array operands{from, to};
  push(ticket, operands, [target = at(to), source = at(from), bytes = static_cast<size_t>(from.bytes())] {
    std::memmove(target, source, bytes);
  });
}

void AsynchronousDevice::on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                                     const CollectiveInfo&, Event ticket) {
  // A stream is what is to be called in its order.
  std::vector<std::function<void()>> stream;
  const bool on_stream = transfer->put_on(&stream);
  std::vector<Tensor> tensors;
  std::vector<Region> regions;
  for (const Operand& operand : operands) {
    if (!operand.tensor) continue;
    tensors.push_back(operand.tensor);
    const Block& block = *operand.tensor.block;
    regions.push_back({memory_.offset(block.address), block.bytes});
  }
  const auto work = std::shared_ptr<Transfer>(std::move(transfer));
  push(ticket, tensors, [this, work, regions, on_stream, stream] {
    for (const Region& region : regions) memory_.let_in(region.offset, region.bytes);
    for (const auto& call : stream) call();
    const auto advance = [&] {
      const std::lock_guard lock(transport_);
      return work->advance();
    };
    while (!on_stream && !advance()) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      const std::lock_guard lock(mutex_);
      if (failure_ != nullptr) throw SystemError("the device has failed");
    }
    for (const Region& region : regions) memory_.shut_out(region.offset, region.bytes);
  });
}

void AsynchronousDevice::on_record(Event event) {
  Entry entry;
  entry.run = [this, event] {
    const std::lock_guard lock(mutex_);
    recorded_.emplace(event.mark, Clock::now());
  };
  push(event.queue, std::move(entry));
}

void AsynchronousDevice::on_wait(Queue queue, Event event) {
  Entry entry;
  entry.on = event;
  push(queue, std::move(entry));
}

void AsynchronousDevice::on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) {
  const auto bytes = std::make_shared<std::vector<std::byte>>(from.begin(), from.end());
  push(ticket, std::span(&to, 1), [target = at(to), bytes] {
    if (!bytes->empty()) std::memcpy(target, bytes->data(), bytes->size());
  });
}

void AsynchronousDevice::on_read(const Tensor& from, std::span<std::byte> to, Event ticket) {
  push(ticket, std::span(&from, 1), [source = at(from), to] {
    if (!to.empty()) std::memcpy(to.data(), source, to.size());
  });
  synchronize(ticket, Seconds(0));
}

}  // namespace toroid::testing
