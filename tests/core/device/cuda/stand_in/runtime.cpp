#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include "tests/core/device/cuda/stand_in/stand_in.h"

namespace toroid::testing::stand_in {
namespace {

using Clock = std::chrono::steady_clock;
using Failures = std::map<std::string, std::pair<int, int>, std::less<>>;  // by call: which one, and its code

Failures failures_of_environment();

struct State {
  std::mutex mutex;  // of all that is not atomic
  Machine machine = machine_of_environment();
  Failures failures = failures_of_environment();
  std::map<void*, size_t> blocks;  // of device memory
  int64_t used = 0;
  int running = 0;  // entries that have device memory open
  std::atomic<unsigned> streams{0};
  std::atomic<bool> closed{false};
  std::atomic<int> longest_delay{0};
  std::atomic<unsigned> seed{0};
  std::atomic<cudaError_t> fault{cudaSuccess};
};
State& state() {
  static State one;
  return one;
}
thread_local cudaError_t last_error = cudaSuccess;

// What every call begins with; not success: what it returns.
cudaError_t enter(std::string_view call) {
  State& all = state();
  if (all.fault != cudaSuccess) return last_error = all.fault;
  const auto code = static_cast<cudaError_t>(failure_of(call));
  return code == cudaSuccess ? code : last_error = code;
}

// Opens device memory for an entry, or ends that.
void open_memory(int change) {
  State& all = state();
  if (!all.closed) return;
  const std::lock_guard lock(all.mutex);
  const bool before = all.running > 0;
  all.running += change;
  const bool open = all.running > 0;
  if (before == open) return;
  for (const auto& [address, bytes] : all.blocks) {
    ::mprotect(address, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

// A point of a stream.
class Mark {
 public:
  void set() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
      at_ = Clock::now();
    }
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
  }
  bool done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }
  Clock::time_point at() {
    const std::lock_guard lock(mutex_);
    return at_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  Clock::time_point at_;
};

int number_of(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

Failures failures_of_environment() {
  const char* const text = std::getenv("TOROID_STAND_IN_FAULT");
  if (text == nullptr) return {};
  std::istringstream in(text);
  std::string call;
  int count = 0, code = 0, rank = 0;
  char colon = 0;
  std::getline(in, call, ':');
  if (!(in >> count >> colon >> code)) {
    std::fprintf(stderr, "TOROID_STAND_IN_FAULT is not CALL:COUNT:CODE[:RANK]\n");
    std::abort();
  }
  if (in >> colon >> rank && rank != number_of("OMPI_COMM_WORLD_RANK", 0)) return {};
  return {{call, {count, code}}};
}

}  // namespace

Machine machine_of_environment() {
  Machine out;
  out.gpus = number_of("TOROID_STAND_IN_GPUS", 8);
  out.bytes = int64_t{number_of("TOROID_STAND_IN_GPU_MIB", 2048)} << 20;
  return out;
}

int failure_of(std::string_view call) {
  State& all = state();
  const std::lock_guard lock(all.mutex);
  const auto found = all.failures.find(call);
  return found == all.failures.end() || --found->second.first != 0 ? 0 : found->second.second;
}

bool gpu_died() {
  return state().fault != cudaSuccess;
}

}  // namespace toroid::testing::stand_in

namespace stand_in = toroid::testing::stand_in;

struct CUstream_st {
 public:
  CUstream_st() : random_(stand_in::state().seed + ++stand_in::state().streams), thread_([this] { run(); }) {}
  ~CUstream_st() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void push(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    changed_.notify_all();
  }

 private:
  void run() {
    while (true) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      const int longest = stand_in::state().longest_delay;
      if (longest > 0 && random_() % 4 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % static_cast<unsigned>(longest)));
      }
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::minstd_rand random_;
  std::thread thread_;
};

// The issuing thread's alone, but for what it points to.
struct CUevent_st {
  std::shared_ptr<stand_in::Mark> mark;  // of the last record; none: it has passed
};

namespace toroid::testing::stand_in {
namespace {

// `work` returns the fate of its stream.
void append(cudaStream_t stream, std::function<cudaError_t()> work) {
  auto done = std::make_shared<Mark>();
  stream->push([work = std::move(work), done] {
    if (state().fault == cudaSuccess) {
      open_memory(1);
      const cudaError_t code = work();
      open_memory(-1);
      if (code != cudaSuccess) state().fault = code;
    }
    done->set();
  });
  if (state().closed) done->wait();
}

}  // namespace

Scope::Scope(const Machine& machine) {
  const std::lock_guard lock(state().mutex);
  state().machine = machine;
}

Scope::~Scope() {
  State& all = state();
  const std::lock_guard lock(all.mutex);
  all.machine = machine_of_environment();
  all.failures.clear();
  all.closed = false;
  all.longest_delay = 0;
  all.fault = cudaSuccess;
  last_error = cudaSuccess;
}

void Scope::fail(std::string_view call, int count, int code) {
  const std::lock_guard lock(state().mutex);
  state().failures[std::string(call)] = {count, code};
}

void Scope::delay(int microseconds, unsigned seed) {
  state().seed = seed;
  state().longest_delay = microseconds;
}

void Scope::close_memory() {
  state().closed = true;
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  append(stream, [work = std::move(work)] {
    work();
    return cudaSuccess;
  });
}

}  // namespace toroid::testing::stand_in

#define ENTER() \
  if (const cudaError_t code = stand_in::enter(__func__); code != cudaSuccess) return code

extern "C" {

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    default:
      return "cudaErrorInvalidValue";
  }
}

const char* cudaGetErrorString(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return "invalid argument";
  }
}

cudaError_t cudaGetLastError() {
  const cudaError_t fault = stand_in::state().fault;
  const cudaError_t last = std::exchange(stand_in::last_error, cudaSuccess);
  return fault != cudaSuccess ? fault : last;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = stand_in::state().machine.driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = stand_in::state().machine.runtime;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  ENTER();
  *count = stand_in::state().machine.gpus;
  return *count > 0 ? cudaSuccess : stand_in::last_error = cudaErrorNoDevice;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  ENTER();
  if (attribute == cudaDevAttrMultiProcessorCount) {
    *value = 132;
    return cudaSuccess;
  }
  const int capability = stand_in::state().machine.capability;
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
  return cudaSuccess;
}
// The driver's calls that say what a GPU is called.
static int device_of_driver(int* device, int gpu) {
  *device = gpu;
  return gpu < stand_in::state().machine.gpus ? 0 : cudaErrorInvalidDevice;
}
static int name_of_driver(char* text, int length, int) {
  const std::string& name = stand_in::state().machine.name;
  if (static_cast<int>(name.size()) >= length) return cudaErrorInvalidValue;
  std::memcpy(text, name.c_str(), name.size() + 1);
  return 0;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  ENTER();
  const std::string_view wanted(name);
  *function = nullptr;
  if (!stand_in::state().machine.name.empty()) {
    if (wanted == "cuDeviceGet") *function = reinterpret_cast<void*>(&device_of_driver);
    if (wanted == "cuDeviceGetName") *function = reinterpret_cast<void*>(&name_of_driver);
  }
  *found = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  ENTER();
  const stand_in::Machine& machine = stand_in::state().machine;
  if (device < 0 || peer < 0 || device >= machine.gpus || peer >= machine.gpus) {
    return stand_in::last_error = cudaErrorInvalidDevice;
  }
  *can = device != peer && device / machine.linked == peer / machine.linked ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  ENTER();
  if (device < 0 || device >= stand_in::state().machine.gpus) {
    return stand_in::last_error = cudaErrorInvalidDevice;
  }
  std::snprintf(text, static_cast<size_t>(length), "0000:%02x:00.0", 0x10 + device);
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  ENTER();
  return device < stand_in::state().machine.gpus ? cudaSuccess
                                                 : stand_in::last_error = cudaErrorInvalidDevice;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  ENTER();
  stand_in::State& all = stand_in::state();
  const std::lock_guard lock(all.mutex);
  *total = static_cast<size_t>(all.machine.bytes);
  *free = static_cast<size_t>(all.machine.bytes - all.used);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** address, size_t bytes) {
  ENTER();
  stand_in::State& all = stand_in::state();
  const std::lock_guard lock(all.mutex);
  if (all.used + static_cast<int64_t>(bytes) > all.machine.bytes) {
    return stand_in::last_error = cudaErrorMemoryAllocation;
  }
  void* const block =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return stand_in::last_error = cudaErrorMemoryAllocation;
  if (all.closed) ::mprotect(block, bytes, PROT_NONE);
  all.blocks[block] = bytes;
  all.used += static_cast<int64_t>(bytes);
  *address = block;
  return cudaSuccess;
}
cudaError_t cudaFree(void* address) {
  stand_in::State& all = stand_in::state();
  const std::lock_guard lock(all.mutex);
  const auto found = all.blocks.find(address);
  if (found == all.blocks.end()) return stand_in::last_error = cudaErrorInvalidValue;
  ::munmap(address, found->second);
  all.used -= static_cast<int64_t>(found->second);
  all.blocks.erase(found);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  ENTER();
  *address = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  return *address != nullptr ? cudaSuccess : stand_in::last_error = cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* address) {
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  ENTER();
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto mark = std::make_shared<stand_in::Mark>();
  stream->push([mark] { mark->set(); });
  mark->wait();
  return stand_in::state().fault;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  ENTER();
  if (event->mark != nullptr) stream->push([mark = event->mark] { mark->wait(); });
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  ENTER();
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ENTER();
  event->mark = std::make_shared<stand_in::Mark>();
  stream->push([mark = event->mark] { mark->set(); });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  // Asked for first: an event behind a fault never passes without it.
  const bool done = event->mark == nullptr || event->mark->done();
  ENTER();
  return done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  ENTER();
  *milliseconds = std::chrono::duration<float, std::milli>(to->mark->at() - from->mark->at()).count();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  ENTER();
  stand_in::append(stream, [=] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  });
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
  ENTER();
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  stand_in::append(stream, [=] {
    for (size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<std::byte*>(to) + row * to_pitch,
                   static_cast<const std::byte*>(from) + row * from_pitch, width);
    }
    return cudaSuccess;
  });
  return cudaSuccess;
}
}

cudaError_t launch_on_host(cudaStream_t stream, std::function<void()> kernel) {
  ENTER();
  // Of a kernel that is to fail nothing runs.
  const cudaError_t fate = stand_in::enter("kernel");
  stand_in::last_error = cudaSuccess;
  stand_in::append(stream, [kernel = std::move(kernel), fate] {
    if (fate == cudaSuccess) kernel();
    return fate;
  });
  return cudaSuccess;
}
