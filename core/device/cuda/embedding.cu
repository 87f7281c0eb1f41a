// Rows of the embedding table for tokens, and their gradient. M tokens, V vocabulary, D d_model. The gradient
// of a row is the sum over its tokens in their order, and nobody adds to memory that another adds to: each
// token is linked to the next one of its id, and whoever has the first of them takes the whole chain.
#include "core/device/cuda/elements.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/embedding.h"

namespace toroid::cuda {
namespace {

template <class Table, class T>
struct Embed {
  struct Args {
    const int32_t* ids;
    const Table* table;
    T* x;
    int64_t V, D, first_row;
    float scale;
  };
  static constexpr int kWide = kVector<T> > kVector<Table> ? kVector<T> : kVector<Table>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    const int64_t from = a.ids[row] - a.first_row;
    Floats<kWidth> x = make<kWidth>([](int) { return 0.0f; });
    if (from >= 0 && from < a.V) {
      x = widen<T, kWidth>(narrow<T, kWidth>(load<kWidth>(a.table + from * a.D + i)));
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) x.v[j] = a.scale * x.v[j];
    }
    store<kWidth>(a.x + row * a.D + i, x);
  }
};

struct Links {
  const int32_t* ids;
  int32_t *next, *earlier;  // the next token of the id, or M; whether there is one before
  int64_t M, V, first_row;
};

struct NoneEarlier {
  using Args = Links;
  static constexpr int kWide = 1;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const int64_t row = a.ids[i] - a.first_row;
    a.earlier[i] = row >= 0 && row < a.V ? 0 : 1;  // of a row that lies elsewhere nobody takes the chain
  }
};

// M^2 / 2 comparisons, four at a time: a tenth of a millisecond for 32k tokens.
template <bool kAligned>
struct Link {
  using Args = Links;
  static constexpr int kWide = 1;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t, int64_t i) {
    const auto id = static_cast<uint32_t>(a.ids[i]);
    const auto found = [&](int64_t j) {
      a.next[i] = static_cast<int32_t>(j);
      if (j < a.M) a.earlier[j] = 1;  // no other token has it as its next
    };
    int64_t j = i + 1;
    for (; j < a.M && (!kAligned || j % 4 != 0); ++j) {
      if (static_cast<uint32_t>(a.ids[j]) == id) return found(j);
    }
    for (; j + 4 <= a.M; j += 4) {
      const Raw<int32_t, 4> four = load_raw<4>(a.ids + j);
      for (int k = 0; k < 4; ++k) {
        if (four.w[k] == id) return found(j + k);
      }
    }
    for (; j < a.M; ++j) {
      if (static_cast<uint32_t>(a.ids[j]) == id) return found(j);
    }
    found(a.M);
  }
};

template <class T>
struct EmbedGrad {
  struct Args {
    Links links;
    const T* dx;
    float* d_table;
    int64_t D;
    float scale;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    if (a.links.earlier[row] != 0) return;
    float* const to = a.d_table + (a.links.ids[row] - a.links.first_row) * a.D + i;
    Floats<kWidth> total = load<kWidth>(to);
    for (int64_t m = row; m < a.links.M; m = a.links.next[m]) {
      const auto dx = load<kWidth>(a.dx + m * a.D + i);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) total.v[j] = fma(a.scale, dx.v[j], total.v[j]);
    }
    store<kWidth>(to, total);
  }
};

template <class T>
float scale_for(const Call& call) {
  const auto scale = static_cast<float>(call.get<op::EmbedSpec>().scale);
  return sizeof(T) == 2 ? toroid::from_bf16(toroid::to_bf16(scale)) : scale;
}

void embed(const Call& call, const LaunchContext& context) {
  const Tensor &table = call[1], &x = call[2];
  with_types(call, table, x, [&]<class Table, class T>(Type<Table>, Type<T>) {
    launch_rows<Embed<Table, T>>(stream_of(context),
                                 {call[0].as<int32_t>(), table.as<Table>(), x.as<T>(), table.rows(),
                                  x.columns(), call.get<op::EmbedSpec>().first_row, scale_for<T>(call)},
                                 x.rows(), x.columns(), aligned({table.data(), x.data()}));
  });
}

int64_t embed_grad_workspace(const Call& call, const LaunchContext&) {
  return 2 * call[1].rows() * bytes_of(DType::i32);
}

void embed_grad(const Call& call, const LaunchContext& context) {
  const Tensor &ids = call[0], &dx = call[1], &d_table = call[2];
  const int64_t M = dx.rows(), D = dx.columns();
  require(M < int64_t{1} << 31, "a gradient is of fewer than 2^31 tokens");
  require(d_table.type == DType::f32, "the GPU's gradient of a table is f32");
  auto* const workspace = reinterpret_cast<int32_t*>(context.workspace);
  const Links links{
      ids.as<int32_t>(), workspace, workspace + M, M, d_table.rows(), call.get<op::EmbedSpec>().first_row};
  const cudaStream_t stream = stream_of(context);
  launch_flat<NoneEarlier>(stream, links, M, false);
  if (aligned({links.ids})) {
    launch_flat<Link<true>>(stream, links, M, false);
  } else {
    launch_flat<Link<false>>(stream, links, M, false);
  }
  with_type(call, dx.type, [&]<class T>(Type<T>) {
    launch_rows<EmbedGrad<T>>(stream, {links, dx.as<T>(), d_table.as<float>(), D, scale_for<T>(call)}, M, D,
                              aligned({dx.data(), d_table.data()}));
  });
}

}  // namespace

void add_embedding_kernels(KernelRegistry& registry) {
  registry.add(op::embed_kind, {embed});
  registry.add(op::embed_grad_kind, {embed_grad, embed_grad_workspace});
}

}  // namespace toroid::cuda
