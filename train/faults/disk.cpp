#include "train/faults/disk.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "core/base/error.h"
#include "parallel/comm/side_channel/descriptor.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid::faults {
namespace {

constexpr const char* kFiller = ".fault-filler";

}  // namespace

std::string spoil_checkpoint(const Path& run, const Planned& fault, uint64_t seed) {
  const std::vector<int64_t> steps = checkpoint_steps(run);
  if (steps.empty()) return "";
  const Path step = run / "checkpoints" / ("step-" + std::to_string(steps.back()));
  const std::vector<Path> files = list_directory(step);
  if (files.empty()) return "";
  const Path& path = files[draw(seed, fault.id, 11) % files.size()];
  const Descriptor file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  const off_t bytes = file.get() < 0 ? -1 : ::lseek(file.get(), 0, SEEK_END);
  if (bytes < 0) throw SystemError("cannot open " + quoted(path), errno);
  if (bytes == 0) return "";
  const uint64_t high = draw(seed, fault.id, 8), low = draw(seed, fault.id, 9);
  const auto at = static_cast<off_t>((high << 32 | low) % static_cast<uint64_t>(bytes));
  const uint32_t bit =
      fault.fault.has_bit() ? static_cast<uint32_t>(fault.fault.bit()) : draw(seed, fault.id, 10) % 8;
  unsigned char byte = 0;
  if (::pread(file.get(), &byte, 1, at) != 1) throw SystemError("cannot read " + quoted(path), errno);
  byte = static_cast<unsigned char>(byte ^ 1u << bit);
  if (::pwrite(file.get(), &byte, 1, at) != 1 || ::fsync(file.get()) != 0)
    throw SystemError("cannot write " + quoted(path), errno);
  return "bit " + std::to_string(bit) + " of byte " + std::to_string(at) + " of " + quoted(path);
}

FullDisk::FullDisk(const Path& run, int64_t most) : file_(run / kFiller) {
  struct statvfs room {};
  if (::statvfs(run.c_str(), &room) != 0)
    throw SystemError("cannot ask for the room in " + quoted(run), errno);
  const auto block = static_cast<int64_t>(room.f_frsize);
  if (static_cast<int64_t>(room.f_bfree) > most / block) return;
  const Descriptor file(::open(file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (file.get() < 0) throw SystemError("cannot make " + quoted(file_), errno);
  // Written, since not every file system can promise room without.
  const std::vector<char> zeros(size_t{1} << 16);
  size_t piece = zeros.size();
  for (int64_t written = 0; written < most && piece > 0;) {
    const ssize_t got = ::write(file.get(), zeros.data(), piece);
    if (got > 0) written += got;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) piece /= 2;  // what is left is less than a piece
  }
  full_ = piece == 0;
  if (!full_) remove_filler(run);
}

FullDisk::~FullDisk() {
  if (full_) (void)::unlink(file_.c_str());
}

void remove_filler(const Path& run) {
  (void)::unlink((run / kFiller).c_str());
}

}  // namespace toroid::faults
