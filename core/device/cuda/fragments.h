// What a warp does together beside sums over the team: products of small matrices on tensor cores (mma.sync
// m16n8k16: bf16, sums in fp32), their operands from shared memory (ldmatrix), and what the four threads of a
// row tell each other. Which thread holds which elements is laid down in PTX's manual ("Matrix fragments for
// mma.m16n8k16", "ldmatrix"). On the host each lane's share is moved by the same tables, so that a wrong
// place gives wrong numbers there too. The host adds products one after another, each rounded; in which order
// and how exactly a tensor core adds is its own, so these sums agree within rounding and not in their bits.
#pragma once

#include "core/device/cuda/team.h"
#include "core/device/cuda/vectors.h"

namespace toroid::cuda {

// A thread's share of four matrices of 8 x 8 bf16.
struct Matrices {
  uint32_t w[4];
};

// A thread's share of blocks of 16 x 8 sums side by side. With g = lane / 4 and t = lane % 4, elements 0 and
// 1 of a block are row g, columns 2 t and 2 t + 1; elements 2 and 3 the same of row g + 8.
template <int kBlocks>
struct Fragment {
  float v[kBlocks][4];
};

#ifdef __CUDACC__
// The address in shared memory as instructions of PTX want it.
TOROID_DEVICE uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// `address(at)`: for lane 8 m + r, row r of matrix m, 16 bytes in shared memory. The thread gets of each
// matrix elements [g][2 t] and [g][2 t + 1], turned [2 t][g] and [2 t + 1][g].
template <bool kTurned, int kThreads, class F>
TOROID_DEVICE void load_matrices(GpuTeam<kThreads>& team,
                                 typename GpuTeam<kThreads>::template Own<Matrices>& to, const F& address) {
  team.threads([&](const auto& at) {
    uint32_t* const w = to[at].w;
    const uint32_t from = shared_address(address(at));
    if constexpr (kTurned) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                   : "r"(from));
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                   : "r"(from));
    }
  });
}

// Blocks kBlock and kBlock + 1 of the sums += a b. a: 16 x 16, matrices [upper, lower] of the left half, then
// of the right one. b: 16 x 16, two of 16 x 8 side by side, turned: matrices [upper, lower] of each.
template <int kBlocks, int kThreads>
TOROID_DEVICE void multiply_add(GpuTeam<kThreads>& team,
                                typename GpuTeam<kThreads>::template Own<Fragment<kBlocks>>& sums, int block,
                                typename GpuTeam<kThreads>::template Own<Matrices>& a,
                                typename GpuTeam<kThreads>::template Own<Matrices>& b) {
  team.threads([&](const auto& at) {
    const uint32_t* const x = a[at].w;
    TOROID_UNROLL
    for (int half = 0; half < 2; ++half) {
      float* const c = sums[at].v[block + half];
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
          "{%8, %9}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(b[at].w[2 * half]), "r"(b[at].w[2 * half + 1]));
    }
  });
}

// What all four threads of a row have, in one tree: (0, 1), (2, 3).
template <class V, int kThreads, class Meet>
TOROID_DEVICE void meet_in_row(GpuTeam<kThreads>& team, typename GpuTeam<kThreads>::template Own<V>& own,
                               const Meet& both) {
  team.threads([&](const auto& at) {
    V& v = own[at];
    v = both(v, __shfl_xor_sync(0xffffffffu, v, 1));
    v = both(v, __shfl_xor_sync(0xffffffffu, v, 2));
  });
}
// What thread `of` of the row's four has.
template <class V, int kThreads>
TOROID_DEVICE void take_from_row(GpuTeam<kThreads>& team, typename GpuTeam<kThreads>::template Own<V>& own,
                                 int of, typename GpuTeam<kThreads>::template Own<V>& to) {
  team.threads([&](const auto& at) { to[at] = __shfl_sync(0xffffffffu, own[at], of, 4); });
}

// 16 bytes from device memory to shared memory, or zeros; there after arrive(), for the others after a
// barrier behind that.
template <int kThreads>
TOROID_DEVICE void copy_later(GpuTeam<kThreads>&, void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(there ? 16 : 0));
}
template <int kThreads>
TOROID_DEVICE void arrive(GpuTeam<kThreads>&) {
  asm volatile("cp.async.wait_all;" ::: "memory");
}
#endif

template <bool kTurned, int kThreads, class F>
void load_matrices(HostTeam<kThreads>& team, typename HostTeam<kThreads>::template Own<Matrices>& to,
                   const F& address) {
  std::array<const Bf16*, kThreads> rows;
  team.threads([&](const auto& at) { rows[static_cast<size_t>(at.i)] = address(at); });
  team.threads([&](const auto& at) {
    const int lane = at.i % 32, g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; ++m) {
      const Bf16* const* const matrix = rows.data() + at.i - lane + 8 * m;
      const uint32_t low = kTurned ? matrix[2 * t][g] : matrix[g][2 * t],
                     high = kTurned ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      to[at].w[m] = low | high << 16;
    }
  });
}

template <int kBlocks, int kThreads>
void multiply_add(HostTeam<kThreads>&, typename HostTeam<kThreads>::template Own<Fragment<kBlocks>>& sums,
                  int block, const typename HostTeam<kThreads>::template Own<Matrices>& a,
                  const typename HostTeam<kThreads>::template Own<Matrices>& b) {
  for (size_t warp = 0; warp < kThreads / 32; ++warp) {
    float x[16][16], y[16][16], z[16][16];  // y: as the product reads it, [k][n]
    for (size_t lane = 0; lane < 32; ++lane) {
      const size_t g = lane / 4, t = lane % 4, thread = 32 * warp + lane;
      for (size_t m = 0; m < 4; ++m) {
        const uint32_t left = a.of[thread].w[m], right = b.of[thread].w[m];
        const size_t row = g + 8 * (m % 2), k = 2 * t + 8 * (m / 2);
        x[row][k] = as_float(left << 16), x[row][k + 1] = as_float(left & 0xffff0000u);
        const size_t n = g + 8 * (m / 2), from = 2 * t + 8 * (m % 2);
        y[from][n] = as_float(right << 16), y[from + 1][n] = as_float(right & 0xffff0000u);
      }
      for (size_t half = 0; half < 2; ++half) {
        const float* const c = sums.of[thread].v[static_cast<size_t>(block) + half];
        for (size_t i = 0; i < 4; ++i) z[g + 8 * (i / 2)][8 * half + 2 * t + i % 2] = c[i];
      }
    }
    // The product of two bf16 is exact in fp32, so that nothing is lost beside a fused one.
    for (size_t row = 0; row < 16; ++row) {
      for (size_t k = 0; k < 16; ++k) {
        for (size_t n = 0; n < 16; ++n) z[row][n] += x[row][k] * y[k][n];
      }
    }
    for (size_t lane = 0; lane < 32; ++lane) {
      const size_t g = lane / 4, t = lane % 4;
      for (size_t half = 0; half < 2; ++half) {
        float* const c = sums.of[32 * warp + lane].v[static_cast<size_t>(block) + half];
        for (size_t i = 0; i < 4; ++i) c[i] = z[g + 8 * (i / 2)][8 * half + 2 * t + i % 2];
      }
    }
  }
}

template <class V, int kThreads, class Meet>
void meet_in_row(HostTeam<kThreads>&, typename HostTeam<kThreads>::template Own<V>& own, const Meet& both) {
  for (size_t i = 0; i < kThreads; i += 4) {
    V* const v = own.of.data() + i;
    const V all = both(both(v[0], v[1]), both(v[2], v[3]));
    for (size_t t = 0; t < 4; ++t) v[t] = all;
  }
}
template <class V, int kThreads>
void take_from_row(HostTeam<kThreads>&, const typename HostTeam<kThreads>::template Own<V>& own, int of,
                   typename HostTeam<kThreads>::template Own<V>& to) {
  for (size_t i = 0; i < kThreads; ++i) to.of[i] = own.of[i / 4 * 4 + static_cast<size_t>(of)];
}

template <int kThreads>
void copy_later(HostTeam<kThreads>&, void* to, const void* from, bool there) {
  constexpr size_t kBytes = 16;
  there ? std::memcpy(to, from, kBytes) : std::memset(to, 0, kBytes);
}
template <int kThreads>
void arrive(HostTeam<kThreads>&) {}

}  // namespace toroid::cuda
