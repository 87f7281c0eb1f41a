// Matrices in a team's shared memory, and sums of their products: in bf16 by tensor cores, in fp32 by fused
// products in the order of the contraction, which the host repeats bit for bit. Sums stay in registers, 16
// rows to a warp, and every thread has the same places of them in both types (Fragment).
#pragma once

#include "core/device/cuda/fragments.h"
#include "core/device/cuda/rows.h"

namespace toroid::cuda {

// Rows of whole 16 bytes, which are permuted within 128 so that eight rows are read at one column without two
// of them in one bank.
template <class T, int kRows, int kColumns>
struct Tile {
  static constexpr int kWide = kVector<T>, kLine = kColumns / kWide, kTurn = kLine < 8 ? kLine : 8;
  static constexpr int kBytes = kRows * kColumns * static_cast<int>(sizeof(T));
  static_assert((kLine & (kLine - 1)) == 0 && kRows % 8 == 0);
  T* at = nullptr;

  TOROID_DEVICE static int place(int row, int column) {
    const int turn = row / (8 / kTurn) % kTurn, vector = column / kWide;
    // What is not permuted stands apart, so that constant distances stay constant.
    return row * kColumns + vector / kTurn * kTurn * kWide + ((vector % kTurn) ^ turn) * kWide +
           column % kWide;
  }
  TOROID_DEVICE T* operator()(int row, int column) const { return at + place(row, column); }
};

// A tile `offset` bytes into the team's shared memory.
template <class Tile, class Team>
TOROID_DEVICE Tile tile_at(const Team& team, int offset) {
  Tile tile;
  tile.at = reinterpret_cast<decltype(tile.at)>(team.shared() + offset);
  return tile;
}

// Rows of a matrix in device memory: the first row, its distance to the next, and how much of it there is.
template <class T>
struct Rows {
  T* at;
  int64_t stride;
  int rows, columns;
  bool wide;  // vectors of 16 bytes can be read and written at every row, and divide it
};

// Fills a tile, with zeros beyond the rows and, as far as products read, beyond the columns. It is there
// after arrive() and a barrier.
template <class Team, class T, int kRows, int kColumns>
TOROID_DEVICE void fetch(Team& team, const Tile<T, kRows, kColumns>& to, const Rows<const T>& from) {
  const int used = (from.columns + 15) / 16 * 16;
  if (from.wide) {
    sweep_one_by_one<kVector<T>>(team, kRows * kColumns, [&](const auto& at) {
      const int row = at.i / kColumns, column = at.i % kColumns;
      const bool there = row < from.rows && column < from.columns;
      if (column < used) {
        copy_later(team, to(row, column), there ? from.at + row * from.stride + column : from.at, there);
      }
    });
  } else {
    sweep_one_by_one<1>(team, kRows * kColumns, [&](const auto& at) {
      const int row = at.i / kColumns, column = at.i % kColumns;
      const bool there = row < from.rows && column < from.columns;
      if (column < used) *to(row, column) = there ? from.at[row * from.stride + column] : T{};
    });
  }
}

// The tile's rows, rounded to To where that is bf16.
template <class Team, class To, int kRows, int kColumns>
TOROID_DEVICE void write(Team& team, const Tile<float, kRows, kColumns>& from, const Rows<To>& to) {
  const auto write_some = [&]<int kWidth>() {
    sweep_one_by_one<kWidth>(team, kRows * kColumns, [&](const auto& at) {
      const int row = at.i / kColumns, column = at.i % kColumns;
      if (row >= to.rows || column >= to.columns) return;
      constexpr int kPart = kWidth < 4 ? kWidth : 4;
      store<kWidth>(to.at + row * to.stride + column,
                    make<kWidth>([&](int j) { return from(row, column + j / kPart * kPart)[j % kPart]; }));
    });
  };
  to.wide ? write_some.template operator()<kVector<To>>() : write_some.template operator()<1>();
}

// Sums of products, kRows x kColumns: kAcross warps beside each other, the others below; each has kTall times
// 16 rows.
template <class Team, int kRows, int kColumns, int kAcross = 1>
struct Sums {
  static constexpr int kDown = Team::kWarps / kAcross, kTall = kRows / 16 / kDown;
  static constexpr int kOwn = kColumns / kAcross, kBlocks = kOwn / 8;
  static_assert(kDown * kAcross == Team::kWarps && kTall * 16 * kDown == kRows &&
                kBlocks * 8 * kAcross == kColumns);
  static constexpr int kFragments = kTall * kBlocks;
  Own<Team, Fragment<kFragments>> of;

  TOROID_DEVICE static int first_row(int thread) { return thread / 32 / kAcross * 16 * kTall; }
  TOROID_DEVICE static int first_column(int thread) { return thread / 32 % kAcross * kOwn; }
  // Of elements 2 half and 2 half + 1 of a block; `half` counts on through the 16 rows that follow.
  TOROID_DEVICE static int row(int thread, int half) {
    return first_row(thread) + thread % 32 / 4 + 8 * half;
  }
  TOROID_DEVICE static int column(int thread, int block) {
    return first_column(thread) + 8 * block + thread % 4 * 2;
  }
};

// A number for each of the two rows that a thread has a share of, where kTall is 1.
template <class Team, class V>
using OfRows = Own<Team, Kept<V, 2>>;

// f(at, half, row) for both rows of each thread.
template <class SumsType, class Team, class F>
TOROID_DEVICE void each_row(Team& team, const F& f) {
  threads(team, [&](const auto& at) {
    TOROID_UNROLL
    for (int half = 0; half < 2; ++half) f(at, half, SumsType::row(at.i, half));
  });
}

// f(at, half, row, column, sum), or with the sums of two matrices at one place.
template <class Team, int kRows, int kColumns, int kAcross, class F, class... More>
TOROID_DEVICE void each_sum(Team& team, Sums<Team, kRows, kColumns, kAcross>& sums, const F& f,
                            More&... more) {
  using All = Sums<Team, kRows, kColumns, kAcross>;
  threads(team, [&](const auto& at) {
    TOROID_UNROLL
    for (int fragment = 0; fragment < All::kFragments; ++fragment) {
      TOROID_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int half = i / 2 + fragment / All::kBlocks * 2;
        f(at, half, All::row(at.i, half), All::column(at.i, fragment % All::kBlocks) + i % 2,
          sums.of[at].v[fragment][i], more.of[at].v[fragment][i]...);
      }
    }
  });
}

// A row's largest, NaN left aside, and its sum, for all threads of the row.
template <class Team, int kRows, int kColumns, class Meet>
TOROID_DEVICE OfRows<Team, float> meet_rows(Team& team, Sums<Team, kRows, kColumns>& sums, float from,
                                            const Meet& both) {
  OfRows<Team, float> out;
  TOROID_UNROLL
  for (int half = 0; half < 2; ++half) {
    Own<Team, float> one;
    threads(team, [&](const auto& at) {
      one[at] = from;
      TOROID_UNROLL
      for (int block = 0; block < Sums<Team, kRows, kColumns>::kBlocks; ++block) {
        const float* const v = sums.of[at].v[block] + 2 * half;
        one[at] = both(one[at], both(v[0], v[1]));
      }
    });
    meet_in_row<float>(team, one, both);
    threads(team, [&](const auto& at) { out[at].of[half] = one[at]; });
  }
  return out;
}
template <class Team, int kRows, int kColumns>
TOROID_DEVICE OfRows<Team, float> largest_of_rows(Team& team, Sums<Team, kRows, kColumns>& sums) {
  return meet_rows(team, sums, as_float(0xff800000u),
                   [](float a, float b) { return a != a || a < b ? b : a; });
}
template <class Team, int kRows, int kColumns>
TOROID_DEVICE OfRows<Team, float> sum_of_rows(Team& team, Sums<Team, kRows, kColumns>& sums) {
  return meet_rows(team, sums, 0.0f, [](float a, float b) { return a + b; });
}

// The sums in T, as an operand of the next product.
template <class Team, class T, int kRows, int kColumns, int kAcross>
TOROID_DEVICE void put(Team& team, Sums<Team, kRows, kColumns, kAcross>& sums,
                       const Tile<T, kRows, kColumns>& to) {
  using All = Sums<Team, kRows, kColumns, kAcross>;
  threads(team, [&](const auto& at) {
    TOROID_UNROLL
    for (int fragment = 0; fragment < All::kFragments; ++fragment) {
      TOROID_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float* const v = sums.of[at].v[fragment] + 2 * half;
        T* const place = to(All::row(at.i, half + fragment / All::kBlocks * 2),
                            All::column(at.i, fragment % All::kBlocks));
        if constexpr (sizeof(T) == 2) {
          *reinterpret_cast<uint32_t*>(place) = round_pair(v[0], v[1]);
        } else {
          place[0] = v[0], place[1] = v[1];
        }
      }
    }
  });
}

// The left operand of tensor cores: 16 columns from column k on of a thread's rows.
template <class SumsType, class Team, int kRows, int kDepth>
TOROID_DEVICE void load_left(Team& team, Own<Team, Matrices> (&left)[SumsType::kTall],
                             const Tile<Bf16, kRows, kDepth>& a, int k) {
  TOROID_UNROLL
  for (int tall = 0; tall < SumsType::kTall; ++tall) {
    load_matrices<false>(team, left[tall], [&](const auto& at) {
      const int lane = at.i % 32;
      return a(SumsType::first_row(at.i) + 16 * tall + lane % 16, k + lane / 16 * 8);
    });
  }
}
template <class SumsType, class Team>
TOROID_DEVICE void multiply_blocks(Team& team, SumsType& sums, int block,
                                   Own<Team, Matrices> (&left)[SumsType::kTall], Own<Team, Matrices>& right) {
  TOROID_UNROLL
  for (int tall = 0; tall < SumsType::kTall; ++tall) {
    multiply_add<SumsType::kFragments>(team, sums.of, tall * SumsType::kBlocks + block, left[tall], right);
  }
}

// sums += a b^T over the first `depth` columns of both, a multiple of 16.
template <class Team, class T, int kRows, int kColumns, int kAcross, int kDepth>
TOROID_DEVICE void multiply_turned(Team& team, Sums<Team, kRows, kColumns, kAcross>& sums,
                                   const Tile<T, kRows, kDepth>& a, const Tile<T, kColumns, kDepth>& b,
                                   int depth) {
  using All = Sums<Team, kRows, kColumns, kAcross>;
  if constexpr (sizeof(T) == 2) {
    static_assert(All::kBlocks % 2 == 0);
    TOROID_ROLLED
    for (int k = 0; k < depth; k += 16) {
      Own<Team, Matrices> left[All::kTall];
      load_left<All>(team, left, a, k);
      TOROID_UNROLL
      for (int block = 0; block < All::kBlocks; block += 2) {
        Own<Team, Matrices> right;
        load_matrices<false>(team, right, [&](const auto& at) {
          const int lane = at.i % 32;
          return b(All::first_column(at.i) + 8 * block + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8);
        });
        multiply_blocks(team, sums, block, left, right);
      }
    }
  } else {
    static_assert(All::kTall == 1);
    threads(team, [&](const auto& at) {
      TOROID_ROLLED
      for (int k = 0; k < depth; k += 4) {
        const auto upper = load_raw<4>(a(All::row(at.i, 0), k)), lower = load_raw<4>(a(All::row(at.i, 1), k));
        TOROID_UNROLL
        for (int i = 0; i < 2 * All::kBlocks; ++i) {
          const auto right = load_raw<4>(b(All::column(at.i, i / 2) + i % 2, k));
          float* const v = sums.of[at].v[i / 2] + i % 2;
          TOROID_UNROLL
          for (int e = 0; e < 4; ++e) {
            v[0] = fma(as_float(upper.w[e]), as_float(right.w[e]), v[0]);
            v[2] = fma(as_float(lower.w[e]), as_float(right.w[e]), v[2]);
          }
        }
      }
    });
  }
}

// sums += left b over 16 rows of b, from row k on.
template <class SumsType, class Team, int kDepth, int kColumns>
TOROID_DEVICE void multiply_right(Team& team, SumsType& sums, Own<Team, Matrices> (&left)[SumsType::kTall],
                                  const Tile<Bf16, kDepth, kColumns>& b, int k) {
  static_assert(SumsType::kBlocks % 2 == 0);
  TOROID_UNROLL
  for (int block = 0; block < SumsType::kBlocks; block += 2) {
    Own<Team, Matrices> right;
    load_matrices<true>(team, right, [&](const auto& at) {
      const int lane = at.i % 32;
      return b(k + lane % 16, SumsType::first_column(at.i) + 8 * block + lane / 16 * 8);
    });
    multiply_blocks(team, sums, block, left, right);
  }
}

// Row k of b times a thread's two elements of column k.
template <class SumsType, int kDepth, int kColumns, class At>
TOROID_DEVICE void add_row(const At& at, SumsType& sums, float upper, float lower,
                           const Tile<float, kDepth, kColumns>& b, int k, int columns) {
  static_assert(SumsType::kTall == 1);
  TOROID_UNROLL
  for (int block = 0; block < SumsType::kBlocks; ++block) {
    if (SumsType::first_column(at.i) + 8 * block >= columns) break;
    const float* const right = b(k, SumsType::column(at.i, block));
    float* const v = sums.of[at].v[block];
    v[0] = fma(upper, right[0], v[0]);
    v[1] = fma(upper, right[1], v[1]);
    v[2] = fma(lower, right[0], v[2]);
    v[3] = fma(lower, right[1], v[3]);
  }
}

// sums += a b, of which only the first `columns` are wanted: the others may hold anything.
template <class Team, class T, int kRows, int kColumns, int kAcross, int kDepth>
TOROID_DEVICE void multiply(Team& team, Sums<Team, kRows, kColumns, kAcross>& sums,
                            const Tile<T, kRows, kDepth>& a, const Tile<T, kDepth, kColumns>& b,
                            [[maybe_unused]] int columns) {
  using All = Sums<Team, kRows, kColumns, kAcross>;
  if constexpr (sizeof(T) == 2) {
    TOROID_UNROLL
    for (int k = 0; k < kDepth; k += 16) {
      Own<Team, Matrices> left[All::kTall];
      load_left<All>(team, left, a, k);
      multiply_right(team, sums, left, b, k);
    }
  } else {
    threads(team, [&](const auto& at) {
      TOROID_ROLLED
      for (int k = 0; k < kDepth; ++k) {
        add_row(at, sums, *a(All::row(at.i, 0), k), *a(All::row(at.i, 1), k), b, k, columns);
      }
    });
  }
}

// The same where a is sums of its own, rounded to T: they are where the next product wants its left
// operand.
template <class Team, class T, int kRows, int kColumns, int kDepth>
TOROID_DEVICE void multiply(Team& team, Sums<Team, kRows, kColumns>& sums, Sums<Team, kRows, kDepth>& a,
                            const Tile<T, kDepth, kColumns>& b, [[maybe_unused]] int columns) {
  TOROID_UNROLL
  for (int k = 0; k < kDepth; k += sizeof(T) == 2 ? 16 : 8) {
    if constexpr (sizeof(T) == 2) {
      Own<Team, Matrices> left[1];
      threads(team, [&](const auto& at) {
        TOROID_UNROLL
        for (int m = 0; m < 4; ++m) {
          const float* const v = a.of[at].v[k / 8 + m / 2] + 2 * (m % 2);
          left[0][at].w[m] = round_pair(v[0], v[1]);
        }
      });
      multiply_right(team, sums, left, b, k);
    } else {
      TOROID_ROLLED
      for (int thread = 0; thread < 4; ++thread) {
        TOROID_UNROLL
        for (int i = 0; i < 2; ++i) {
          Own<Team, float> mine, upper, lower;
          threads(team, [&](const auto& at) { mine[at] = a.of[at].v[k / 8][i]; });
          take_from_row<float>(team, mine, thread, upper);
          threads(team, [&](const auto& at) { mine[at] = a.of[at].v[k / 8][2 + i]; });
          take_from_row<float>(team, mine, thread, lower);
          threads(team, [&](const auto& at) {
            add_row(at, sums, upper[at], lower[at], b, k + 2 * thread + i, columns);
          });
        }
      }
    }
  }
}

}  // namespace toroid::cuda
