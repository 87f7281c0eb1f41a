#include "parallel/comm/nccl/nccl_rates.h"

#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/median.h"
#include "core/device/cuda/gpus.h"
#include "parallel/comm/nccl/nccl_groups.h"
#include "parallel/comm/nccl/nccl_handle.h"

namespace toroid {
namespace {

constexpr int kRounds = 5, kCallsOfRound = 4;
constexpr std::chrono::microseconds kBetweenQuestions(100);

void check_cuda(cudaError_t code, std::string_view call) {
  if (code == cudaSuccess) return;
  throw SystemError(std::string(call) + " failed where NCCL was to be measured: " + cudaGetErrorString(code));
}

// What one GPU needs for it.
class Arrays {
 public:
  Arrays(size_t whole_bytes, size_t share_bytes) {
    try {
      check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0), "cudaStreamCreate");
      check_cuda(cudaEventCreateWithFlags(&begin, cudaEventDefault), "cudaEventCreate");
      check_cuda(cudaEventCreateWithFlags(&end, cudaEventDefault), "cudaEventCreate");
      check_cuda(cudaMalloc(&whole, whole_bytes), "cudaMalloc");
      check_cuda(cudaMalloc(&share, share_bytes), "cudaMalloc");
    } catch (...) {
      release();
      throw;
    }
  }
  ~Arrays() { release(); }
  Arrays(const Arrays&) = delete;  // owns memory of a GPU
  Arrays& operator=(const Arrays&) = delete;

  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  void *whole = nullptr, *share = nullptr;

 private:
  // The stream first: what is still on it uses the rest.
  void release() {
    if (stream != nullptr) (void)cudaStreamDestroy(stream);
    if (whole != nullptr) (void)cudaFree(whole);
    if (share != nullptr) (void)cudaFree(share);
    if (begin != nullptr) (void)cudaEventDestroy(begin);
    if (end != nullptr) (void)cudaEventDestroy(end);
  }
};

// Of one host; the first failure of a thread ends the others.
class Measurement {
 public:
  Measurement(int gpus, int64_t bytes, Seconds deadline)
      : gpus_(gpus),
        share_(std::max<int64_t>(bytes / 4 / gpus, 1)),
        deadline_(deadline),
        arrays_(static_cast<size_t>(gpus)) {
    job_->peers_leave = std::min(job_->peers_leave, deadline);
    check_nccl(ncclGetUniqueId(&id_), "ncclGetUniqueId");
  }

  NcclRates run() {
    std::vector<std::thread> threads;
    threads.reserve(static_cast<size_t>(gpus_));
    for (int gpu = 0; gpu < gpus_; ++gpu) {
      threads.emplace_back([this, gpu] {
        try {
          measure(gpu);
        } catch (...) {
          fail(std::current_exception());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
    const double moved = static_cast<double>(share_ * 4) * (gpus_ - 1);
    return {moved / gather_s_, moved / reduce_s_};
  }

 private:
  // As what followed from another's failure ends.
  struct Follows {};

  void fail(std::exception_ptr why) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(why);
    job_->failed = true;
  }

  // Until `done` says so.
  template <class Done>
  void wait(const NcclHandle& handle, const std::string& what, const Done& done) const {
    const Stopwatch watch;
    while (!done()) {
      if (job_->failed) throw Follows();
      const ncclResult_t state = handle.state();
      if (state != ncclSuccess && state != ncclInProgress)
        throw SystemError("NCCL failed in " + what + ": " + handle.last_error());
      if (watch.elapsed() > deadline_) {
        throw PeerError("NCCL's " + what + " over " + std::to_string(gpus_) +
                        " GPUs did not come back within " + std::to_string(std::lround(deadline_.count())) +
                        " s; NCCL_DEBUG=INFO may say why");
      }
      std::this_thread::sleep_for(kBetweenQuestions);
    }
  }

  void measure(int gpu) {
    cuda::use_gpu(gpu);
    auto& place = arrays_[static_cast<size_t>(gpu)];
    place =
        std::make_unique<Arrays>(static_cast<size_t>(4 * share_ * gpus_), static_cast<size_t>(4 * share_));
    const Arrays& arrays = *place;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;  // what does not come back ends in a deadline
    ncclComm_t comm = nullptr;
    check_nccl(ncclCommInitRankConfig(&comm, gpus_, id_, gpu, &config), "ncclCommInitRankConfig");
    NcclHandle handle(comm, job_);
    try {
      wait(handle, "start", [&] { return handle.state() == ncclSuccess; });
      const auto count = static_cast<size_t>(share_);
      const double gather = time(handle, arrays, "all_gather", [&](ncclComm_t of) {
        return ncclAllGather(arrays.share, arrays.whole, count, ncclFloat32, of, arrays.stream);
      });
      const double reduce = time(handle, arrays, "reduce_scatter", [&](ncclComm_t of) {
        return ncclReduceScatter(arrays.whole, arrays.share, count, ncclFloat32, ncclSum, of, arrays.stream);
      });
      const std::lock_guard lock(mutex_);
      gather_s_ = std::max(gather_s_, gather);
      reduce_s_ = std::max(reduce_s_, reduce);
    } catch (const Follows&) {
      handle.break_off();
    } catch (...) {
      fail(std::current_exception());
      handle.break_off();
    }
  }

  // Seconds of one, the median of the rounds after one in which connections are made.
  template <class Call>
  double time(NcclHandle& handle, const Arrays& arrays, const std::string& what, const Call& call) const {
    const Stopwatch issuing;
    const auto waiting = [&] {
      if (job_->failed) throw Follows();
      if (issuing.elapsed() > deadline_) throw PeerError("NCCL does not take its " + what);
    };
    std::vector<double> seconds;
    for (int round = 0; round <= kRounds; ++round) {
      check_cuda(cudaEventRecord(arrays.begin, arrays.stream), "cudaEventRecord");
      for (int i = 0; i < kCallsOfRound; ++i) {
        if (handle.issue(what.c_str(), call, waiting) != NcclHandle::Issued::taken)
          throw SystemError("NCCL failed in " + what + ": " + handle.last_error());
      }
      check_cuda(cudaEventRecord(arrays.end, arrays.stream), "cudaEventRecord");
      wait(handle, what, [&] {
        const cudaError_t code = cudaEventQuery(arrays.end);
        if (code != cudaErrorNotReady) check_cuda(code, "cudaEventQuery");
        return code == cudaSuccess;
      });
      float milliseconds = 0;
      check_cuda(cudaEventElapsedTime(&milliseconds, arrays.begin, arrays.end), "cudaEventElapsedTime");
      if (round > 0) seconds.push_back(1e-3 * static_cast<double>(milliseconds) / kCallsOfRound);
    }
    return median(seconds);
  }

  int gpus_;
  int64_t share_;  // elements of a GPU's part
  Seconds deadline_;
  ncclUniqueId id_{};
  std::shared_ptr<NcclJobState> job_ = std::make_shared<NcclJobState>();
  std::vector<std::unique_ptr<Arrays>> arrays_;  // until no GPU reads another's any more
  std::mutex mutex_;                             // of what follows
  std::exception_ptr failure_;
  double gather_s_ = 0, reduce_s_ = 0;  // of the slowest
};

}  // namespace

NcclRates measure_nccl(int gpus, int64_t bytes, Seconds deadline) {
  require(gpus > 1, "collectives are of several GPUs");
  (void)nccl_version();
  fix_nccl_algorithms();
  return Measurement(gpus, bytes, deadline).run();
}

}  // namespace toroid
