// A save, a verification and a load of one checkpoint beside what the disk gives to a program that does
// nothing else: as many bytes written in 4 MiB pieces and synced (what `dd bs=4M conv=fsync` does), and read
// again past the page cache. In turns, since disks are shared; medians.
//
//   checkpoint_speed DIRECTORY [megabytes] [rounds] [threads]
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/median.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/step_check.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

constexpr size_t kPiece = size_t{4} << 20;

double seconds_of(const std::function<void()>& work) {
  const Stopwatch watch;
  work();
  return watch.elapsed().count();
}

void drop_cache(const Path& path) {
  InputFile(path).drop_cache();
}

void write_plainly(const Path& path, std::span<const std::byte> bytes) {
  OutputFile file(path, OutputFile::Name::at_once);
  const int descriptor = ::open(path.c_str(), O_WRONLY);
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    if (::write(descriptor, piece.data(), piece.size()) != static_cast<ssize_t>(piece.size()))
      throw SystemError("the disk does not take what is written", errno);
  }
  if (::fsync(descriptor) != 0 || ::close(descriptor) != 0) throw SystemError("cannot sync", errno);
  file.commit();
}

void read_plainly(const Path& path) {
  const InputFile file(path);
  std::vector<std::byte> piece(kPiece);
  for (int64_t at = 0; at < file.size(); at += static_cast<int64_t>(kPiece)) {
    file.read_at(at, std::span(piece).first(
                         static_cast<size_t>(std::min(static_cast<int64_t>(kPiece), file.size() - at))));
  }
}

// Masters and two moments in tensors of some 16 MB, as AdamW's state.
std::vector<TensorSlice> slices_of(std::span<const std::byte> bytes) {
  constexpr size_t kTensor = size_t{16} << 20;
  const char* const parts[] = {"exp_avg", "exp_avg_sq", "master"};
  std::vector<TensorSlice> out;
  for (size_t at = 0; at + kTensor <= bytes.size(); at += kTensor) {
    const auto count = static_cast<int64_t>(kTensor / sizeof(float));
    out.push_back({.name = "tensor." + std::to_string(out.size() / 3),
                   .part = parts[out.size() % 3],
                   .global_shape = {count / 1024, 1024},
                   .offset = 0,
                   .elements = count,
                   .data = bytes.subspan(at, kTensor),
                   .type = ElementType::f32});
  }
  return out;
}

void load(const Path& run) {
  CheckpointReader reader(run / "checkpoints" / step_name(1), Verify::headers);
  std::vector<std::byte> piece(kPiece);
  for (const CheckpointTensor& tensor : reader.tensors()) {
    const auto in_piece = static_cast<int64_t>(kPiece / sizeof(float));
    for (int64_t at = 0; at < tensor.elements; at += in_piece) {
      reader.read(tensor.name, tensor.part, at,
                  std::span(piece).first(static_cast<size_t>(4 * std::min(in_piece, tensor.elements - at))));
    }
  }
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "checkpoint_speed DIRECTORY [megabytes] [rounds] [threads]\n");
    return 2;
  }
  const Path directory = Path(argv[1]) / ("checkpoint_speed." + std::to_string(::getpid()));
  const int64_t megabytes = argc > 2 ? std::atoll(argv[2]) : 1024;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const int threads = argc > 4 ? std::atoi(argv[4]) : 2;
  std::vector<std::byte> bytes(static_cast<size_t>(megabytes) << 20);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761u >> 13);
  const std::vector<TensorSlice> slices = slices_of(bytes);
  const double state = static_cast<double>(slices.size()) * (1 << 24);
  make_directories(directory);
  std::vector<double> save, plain_write, verify, load_it, plain_read, cached;
  const auto files = [&] { return read_manifest(directory / "checkpoints/step-1").files; };
  const auto forget = [&] {
    for (const ManifestFile& file : files()) drop_cache(directory / "checkpoints/step-1" / file.name);
    drop_cache(directory / "plain");
  };
  const auto verify_all = [&] {  // as `toroid checkpoint verify` does
    require(check_step(directory / "checkpoints/step-1", {.threads = threads}).whole(),
            "what was just saved is whole");
  };
  const auto hash_all = [&] {  // of files alone, as a run that resumes does
    for (const ManifestFile& file : files())
      verify_file(directory / "checkpoints/step-1" / file.name, file.digest);
  };
  for (int round = 0; round < rounds; ++round) {
    std::filesystem::remove_all(directory);  // not what is measured
    make_directories(directory);
    ::sync();
    plain_write.push_back(seconds_of([&] { write_plainly(directory / "plain", bytes); }));
    {
      Checkpoints checkpoints(directory, {});
      CheckpointState state_of_run;
      state_of_run.step = 1;
      save.push_back(seconds_of([&] { checkpoints.save(state_of_run, slices, {}, threads); }));
    }
    hash_all();  // into the cache
    cached.push_back(seconds_of(hash_all));
    forget();
    plain_read.push_back(seconds_of([&] { read_plainly(directory / "plain"); }));
    forget();
    verify.push_back(seconds_of(verify_all));
    forget();
    load_it.push_back(seconds_of([&] { load(directory); }));
  }
  std::filesystem::remove_all(directory);
  const double written = static_cast<double>(bytes.size());
  const auto row = [](const char* name, double size, std::vector<double> took, double floor) {
    const double rate = size / median(std::move(took)) / 1e9;
    if (floor > 0) {
      std::printf("%-34s %6.2f GB/s  %4.0f %% of the disk\n", name, rate, 100 * rate / floor);
    } else {
      std::printf("%-34s %6.2f GB/s\n", name, rate);
    }
    return rate;
  };
  std::printf("%.2f GB, %zu tensors, medians of %d\n", state / 1e9, slices.size(), rounds);
  const double disk_write = row("plain write and sync", written, plain_write, 0);
  row("save", state, save, disk_write);
  const double disk_read = row("plain read, not cached", written, plain_read, 0);
  row("verify, not cached", state, verify, disk_read);
  row("load, not cached", state, load_it, disk_read);
  row("hashes of files, cached, one thread", state, cached, 0);
  return 0;
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  try {
    return toroid::run(argc, argv);
  } catch (const toroid::Error& error) {
    std::fprintf(stderr, "checkpoint_speed: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
