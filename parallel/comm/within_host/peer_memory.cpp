#include "parallel/comm/within_host/peer_memory.h"

#include <sys/prctl.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "core/base/error.h"

namespace toroid {

const std::byte* ThreadMemory::view(int, uint64_t address, int64_t) const {
  return views_ ? reinterpret_cast<const std::byte*>(address) : nullptr;
}

void ThreadMemory::read(int, uint64_t address, std::span<std::byte> to) const {
  if (!to.empty()) std::memcpy(to.data(), reinterpret_cast<const void*>(address), to.size());
}

const std::byte* ProcessMemory::view(int slot, uint64_t address, int64_t bytes) const {
  const auto index = static_cast<size_t>(slot);
  return index < arenas_.size() && arenas_[index] ? arenas_[index]->view(address, bytes) : nullptr;
}

void ProcessMemory::read(int slot, uint64_t address, std::span<std::byte> to) const {
  size_t done = 0;
  while (done < to.size()) {
    const iovec local{to.data() + done, to.size() - done};
    const iovec remote{reinterpret_cast<void*>(address + done), to.size() - done};
    const ssize_t copied = ::process_vm_readv(board_.process(slot), &local, 1, &remote, 1, 0);
    if (copied < 0 && errno == EINTR) continue;
    if (copied <= 0) {
      const std::string what = "cannot read the memory of process " + std::to_string(board_.process(slot));
      if (copied < 0 && errno == ESRCH) throw PeerError(what + ": it has ended");
      throw SystemError(what, copied < 0 ? errno : EFAULT);
    }
    done += static_cast<size_t>(copied);
  }
}

void allow_reads_by_peers() {
  // Fails where the kernel has no such restriction to lift.
  (void)::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

}  // namespace toroid
