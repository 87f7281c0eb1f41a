// What a kernel is written in. A team is the threads that share a row or a tile; a kernel says what each of
// them does and where they meet. The same source is compiled by nvcc, where a team is a block of threads and
// Own a register, and by the host's compiler for tests, where a team is a loop over the same threads and Own
// an array: every sum is taken in one tree and every operation is IEEE's (numbers.h), so both give the same
// bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/device/cuda/numbers.h"

namespace toroid::cuda {

template <int kThreads>
class HostTeam {
 public:
  static constexpr int kSize = kThreads, kWarps = kThreads / 32;
  struct At {
    int i, slot, lane;
  };
  template <class T>
  struct Own {
    std::array<T, kThreads> of{};
    T& operator[](const At& at) { return of[static_cast<size_t>(at.lane)]; }
  };
  HostTeam(int64_t index, int64_t count, std::byte* shared = nullptr)
      : index_(index), count_(count), shared_(shared) {}
  int64_t index() const { return index_; }
  int64_t count() const { return count_; }
  std::byte* shared() const { return shared_; }
  void barrier() const {}

  template <class F>
  void threads(const F& f) const {
    for (int lane = 0; lane < kThreads; ++lane) f(At{lane, 0, lane});
  }

  template <int kSlots, int kWidth, class F>
  void each(int n, const F& f) const {
    for (int slot = 0; slot < kSlots; ++slot) {
      for (int lane = 0; lane < kThreads; ++lane) {
        const int i = (slot * kThreads + lane) * kWidth;
        if (i < n) f(At{i, slot, lane});
      }
    }
  }
  template <int kWidth, class F>
  void sweep(int n, const F& f) const {
    for (int base = 0; base < n; base += kThreads * kWidth) {
      for (int lane = 0; lane < kThreads && base + lane * kWidth < n; ++lane) {
        f(At{base + lane * kWidth, 0, lane});
      }
    }
  }
  template <int kWidth, class F>
  void walk(int n, const F& f) const {
    sweep<kWidth>(n, f);
  }
  template <class V, class Meet>
  V meet(const Own<V>& own, const Meet& both) const {
    std::array<V, kThreads> lanes = own.of;
    std::array<V, kWarps> warps;
    for (size_t w = 0; w < kWarps; ++w) {
      V* const of = lanes.data() + 32 * w;
      for (int step = 16; step > 0; step /= 2) {
        for (int lane = 0; lane < step; ++lane) of[lane] = both(of[lane], of[lane + step]);
      }
      warps[w] = of[0];
    }
    for (size_t step = 1; step < kWarps; step *= 2) {
      for (size_t w = 0; w + step < kWarps; w += 2 * step) warps[w] = both(warps[w], warps[w + step]);
    }
    return warps[0];
  }

 private:
  int64_t index_, count_;
  std::byte* shared_;
};

#ifdef __CUDACC__
template <int kThreads>
class GpuTeam {
 public:
  static constexpr int kSize = kThreads, kWarps = kThreads / 32;
  struct At {
    int i, slot;
  };
  template <class T>
  struct Own {
    T value{};
    TOROID_DEVICE T& operator[](const At&) { return value; }
  };
  TOROID_DEVICE int64_t index() const { return blockIdx.x; }
  TOROID_DEVICE int64_t count() const { return gridDim.x; }
  TOROID_DEVICE std::byte* shared() const {
    extern __shared__ uint4 shared_by_the_team[];
    return reinterpret_cast<std::byte*>(shared_by_the_team);
  }
  TOROID_DEVICE void barrier() const { __syncthreads(); }

  template <class F>
  TOROID_DEVICE void threads(const F& f) const {
    f(At{static_cast<int>(threadIdx.x), 0});
  }

  template <int kSlots, int kWidth, class F>
  TOROID_DEVICE void each(int n, const F& f) const {
    TOROID_UNROLL
    for (int slot = 0; slot < kSlots; ++slot) {
      const int i = (slot * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
      if (i < n) f(At{i, slot});
    }
  }
  template <int kWidth, class F>
  TOROID_DEVICE void sweep(int n, const F& f) const {
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x) * kWidth; i < n; i += kThreads * kWidth) f(At{i, 0});
  }
  template <int kWidth, class F>
  TOROID_DEVICE void walk(int n, const F& f) const {
    TOROID_ROLLED
    for (int i = static_cast<int>(threadIdx.x) * kWidth; i < n; i += kThreads * kWidth) f(At{i, 0});
  }
  // All threads get what the first one found: where `both` is not symmetric, the others' trees differ.
  template <class V, class Meet>
  TOROID_DEVICE V meet(const Own<V>& own, const Meet& both) {
    V v = own.value;
    TOROID_UNROLL
    for (int step = 16; step > 0; step /= 2) v = both(v, __shfl_xor_sync(0xffffffffu, v, step));
    if constexpr (kWarps == 1) {
      return __shfl_sync(0xffffffffu, v, 0);
    } else {
      __shared__ V parts[2][kWarps];  // in turn: one barrier a meeting is then enough
      if (threadIdx.x % 32 == 0) parts[turn_][threadIdx.x / 32] = v;
      __syncthreads();
      V warps[kWarps];
      TOROID_UNROLL
      for (int w = 0; w < kWarps; ++w) warps[w] = parts[turn_][w];
      TOROID_UNROLL
      for (int step = 1; step < kWarps; step *= 2) {
        TOROID_UNROLL
        for (int w = 0; w + step < kWarps; w += 2 * step) warps[w] = both(warps[w], warps[w + step]);
      }
      turn_ ^= 1;
      return warps[0];
    }
  }

 private:
  int turn_ = 0;
};
#endif

// Spelled without `template`.
template <class Team, class T>
using Own = typename Team::template Own<T>;

// f(at) for the vectors of kWidth elements in [0, n) that each thread has: at.i is the first element. A
// thread has at most kSlots of them, of which at.slot tells.
template <int kSlots, int kWidth, class Team, class F>
TOROID_DEVICE void each(Team& team, int n, const F& f) {
  team.template each<kSlots, kWidth>(n, f);
}
// The same for any n; at.slot is 0.
template <int kWidth, class Team, class F>
TOROID_DEVICE void sweep(Team& team, int n, const F& f) {
  team.template sweep<kWidth>(n, f);
}
// The same one by one, where registers are wanted for something else.
template <int kWidth, class Team, class F>
TOROID_DEVICE void sweep_one_by_one(Team& team, int n, const F& f) {
  team.template walk<kWidth>(n, f);
}
// On every thread: at.i is its number.
template <class Team, class F>
TOROID_DEVICE void threads(Team& team, const F& f) {
  team.threads(f);
}
// On one thread.
template <class Team, class F>
TOROID_DEVICE void once(Team& team, const F& f) {
  team.template each<1, 1>(1, f);
}

// All threads of the team meet in these, so none may be in a branch that others are not in. After a barrier
// each sees what the others have written to team.shared(): as many bytes as the kernel's kSharedBytes says.
template <class Team>
TOROID_DEVICE void barrier(Team& team) {
  team.barrier();
}
template <class Team, class V>
TOROID_DEVICE V meet_in_sum(Team& team, const Own<Team, V>& own) {
  return team.meet(own, [](V a, V b) { return a + b; });
}
template <class Team>
TOROID_DEVICE float sum(Team& team, const Own<Team, float>& own) {
  return meet_in_sum<Team, float>(team, own);
}
template <class Team>
TOROID_DEVICE double sum(Team& team, const Own<Team, double>& own) {
  return meet_in_sum<Team, double>(team, own);
}
// NaN where one is NaN.
template <class Team>
TOROID_DEVICE float largest(Team& team, const Own<Team, float>& own) {
  return team.meet(own, [](float a, float b) { return a < b || b != b ? b : a; });
}

}  // namespace toroid::cuda
