#include "core/device/cuda/gpus.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace toroid::cuda {
namespace {

constexpr int kLeastCapability = 80;  // ten times the version: bf16 and asynchronous copies

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

std::string text_of(cudaError_t code) {
  return std::string(cudaGetErrorString(code)) + " (" + cudaGetErrorName(code) + ")";
}

// Of a driver that is not there CUDA says 0.
void check_driver() {
  int driver = 0, runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  if (driver == 0) {
    throw UserError(
        "device is CUDA, but this machine has no NVIDIA driver; install one, or set device to CPU");
  }
  // Drivers serve all programs of their major version.
  if (driver / 1000 < runtime / 1000) {
    throw UserError("the NVIDIA driver serves CUDA up to " + version(driver) +
                    ", but this program is built with " + version(runtime) +
                    "; install a newer driver, or build with an older toolkit");
  }
}

// As the driver's function gives it. (The runtime's structure with the name changes with every version.)
std::string name_of(int gpu) {
  constexpr unsigned kVersion = 12000;
  const auto driver = [](const char* name) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t code = cudaGetDriverEntryPointByVersion(name, &function, kVersion, 0, &found);
    if (code != cudaSuccess) (void)cudaGetLastError();  // or the next call would report it
    return code == cudaSuccess && found == cudaDriverEntryPointSuccess ? function : nullptr;
  };
  const auto device_get = reinterpret_cast<int (*)(int*, int)>(driver("cuDeviceGet"));
  const auto get_name = reinterpret_cast<int (*)(char*, int, int)>(driver("cuDeviceGetName"));
  std::array<char, 256> text{};
  int device = 0;
  if (device_get == nullptr || get_name == nullptr || device_get(&device, gpu) != 0 ||
      get_name(text.data(), static_cast<int>(text.size()) - 1, device) != 0) {
    return "";
  }
  return text.data();
}

// By the driver's own page about it, which some containers do not show.
std::string model_at(std::string bus) {
  std::transform(bus.begin(), bus.end(), bus.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::ifstream page("/proc/driver/nvidia/gpus/" + bus + "/information");
  const std::string key = "Model:";
  for (std::string line; std::getline(page, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t begin = line.find_first_not_of(" \t", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

std::string driver_version() {
  int number = 0;
  (void)cudaDriverGetVersion(&number);
  return number == 0 ? "" : version(number);
}

std::string runtime_version() {
  int number = 0;
  (void)cudaRuntimeGetVersion(&number);
  return version(number);
}

Gpu gpu_info(int gpu) {
  int major = 0, minor = 0;
  (void)cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu);
  (void)cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu);
  int multiprocessors = 0;
  (void)cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, gpu);
  const std::string bus = bus_of(gpu);
  std::string name = name_of(gpu);
  if (name.empty() && !bus.empty()) name = model_at(bus);
  return {std::move(name), bus, std::to_string(major) + "." + std::to_string(minor), multiprocessors};
}

std::optional<double> peak_flops_per_s(const Gpu& gpu, DType type) {
  struct Row {
    std::string_view model;  // what its name begins with; the first that fits
    int multiprocessors;
    double bf16, fp32;  // TFLOP/s
  };
  // The names of cards come before those of modules that theirs begin with.
  static constexpr std::array kRows{
      Row{"NVIDIA H200 NVL", 132, 835.5, 60}, Row{"NVIDIA H200", 132, 989.4, 66.9},
      Row{"NVIDIA GH200", 132, 989.4, 66.9},  Row{"NVIDIA H100 NVL", 132, 835.5, 60},
      Row{"NVIDIA H100 PCIe", 114, 756, 51},  Row{"NVIDIA H100 80GB HBM3", 132, 989.4, 66.9},
      Row{"NVIDIA A100", 108, 312, 19.5}};
  constexpr double kTera = 1e12;
  for (const Row& row : kRows) {
    if (gpu.model.rfind(row.model, 0) != 0) continue;
    if (gpu.multiprocessors != row.multiprocessors) return std::nullopt;
    if (type == DType::bf16) return row.bf16 * kTera;
    return type == DType::f32 ? std::optional(row.fp32 * kTera) : std::nullopt;
  }
  return std::nullopt;
}

int gpu_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();  // or the next call would report it
  return 0;
}

int require_gpus() {
  check_driver();
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (code != cudaSuccess && code != cudaErrorNoDevice)
    throw UserError("CUDA does not start: " + text_of(code));
  if (count == 0) {
    throw UserError(
        "device is CUDA, but CUDA sees no GPU here; is one in this machine, and not hidden by "
        "CUDA_VISIBLE_DEVICES?");
  }
  return count;
}

std::string bus_of(int gpu) {
  std::array<char, 32> text{};
  if (cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), gpu) != cudaSuccess) return "";
  return text.data();
}

bool reaches(int gpu, int peer) {
  int can = 0;
  if (cudaDeviceCanAccessPeer(&can, gpu, peer) == cudaSuccess) return can != 0;
  (void)cudaGetLastError();  // or the next call would report it
  return false;
}

void use_gpu(int gpu) {
  const int count = require_gpus();
  if (gpu < 0 || gpu >= count) {
    throw UserError("GPU " + std::to_string(gpu) + " is asked for, but CUDA sees " + std::to_string(count) +
                    " here (numbers start at 0); start at most as many ranks on a host");
  }
  int major = 0, minor = 0;
  (void)cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu);
  (void)cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu);
  if (10 * major + minor < kLeastCapability) {
    throw UserError("GPU " + std::to_string(gpu) + " has compute capability " + std::to_string(major) + "." +
                    std::to_string(minor) + "; Toroid's kernels want 8.0 (A100) or newer");
  }
  if (const cudaError_t chosen = cudaSetDevice(gpu); chosen != cudaSuccess) {
    throw SystemError("GPU " + std::to_string(gpu) + " cannot be used: " + text_of(chosen));
  }
}

GpuMemory gpu_memory() {
  size_t free = 0, total = 0;
  const cudaError_t code = cudaMemGetInfo(&free, &total);
  if (code != cudaSuccess) throw SystemError("the GPU does not tell its memory: " + text_of(code));
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

}  // namespace toroid::cuda
