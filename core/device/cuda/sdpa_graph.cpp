#include "core/device/cuda/sdpa_graph.h"

#include <limits>
#include <utility>

namespace toroid::cuda {
namespace {

using Value = CudnnGraph::Value;
using Dims = CudnnGraph::Dims;
constexpr auto kF32 = CUDNN_DATA_FLOAT;
constexpr auto kBf16 = CUDNN_DATA_BFLOAT16;
constexpr int64_t kQueryAxis = 2, kKeyAxis = 3;
constexpr int64_t kNumber = 4;  // bytes: sequences of lse and starts begin behind each other

enum Row : size_t { of_q, of_k, of_v, of_o, of_d_o, of_dq, of_dk, of_dv };

class Builder {
 public:
  explicit Builder(const SdpaShape& shape) : shape_(shape), pairs_{1, shape.N, shape.T, shape.T} {}

  SdpaGraph forward() {
    bind_inputs();
    out_.k = turned(shape_.K, of_k);
    out_.v = heads(shape_.K, of_v);
    Value s = scores();
    if (shape_.documents) s = mask_documents(s);
    s = mask_band(s);

    const Value most = row(), sum = row();
    graph().reduce(CUDNN_REDUCE_TENSOR_MAX, most, s);
    const Value e = pairs(kF32), off = pairs(kF32), p = pairs(kBf16);
    graph().pointwise(CUDNN_POINTWISE_SUB, off, s, &most);
    graph().pointwise(CUDNN_POINTWISE_EXP, e, off);
    graph().reduce(CUDNN_REDUCE_TENSOR_ADD, sum, e);
    // Without it cuDNN 9.19 has no kernel.
    out_.lse = lse();
    const Value log = row();
    graph().pointwise(CUDNN_POINTWISE_LOG, log, sum);
    graph().pointwise(CUDNN_POINTWISE_ADD, out_.lse, most, &log);
    graph().pointwise(CUDNN_POINTWISE_DIV, p, e, &sum);
    out_.o = heads(shape_.N, of_o);
    graph().multiply(p, out_.v, out_.o);
    return std::move(out_);
  }

  // dQ = dS K is one product with no sums in memory between: dS itself goes by memory, which takes a
  // workspace of its size and gives every sum one order.
  SdpaGraph backward() {
    bind_inputs();
    out_.k = turned(shape_.K, of_k);
    out_.v = turned(shape_.K, of_v);
    out_.o = heads(shape_.N, of_o);
    out_.d_o = heads(shape_.N, of_d_o);
    out_.lse = lse();

    // rowsum(dO O).
    const Value both =
        graph().temporary(kF32, {1, shape_.N, shape_.T, shape_.H},
                          {shape_.N * shape_.T * shape_.H, shape_.T * shape_.H, shape_.N * shape_.H, 1});
    graph().pointwise(CUDNN_POINTWISE_MUL, both, out_.d_o, &out_.o);
    const Value reduced = row(), one = graph().scalar(1);
    graph().reduce(CUDNN_REDUCE_TENSOR_ADD, reduced, both);
    out_.sums = graph().array(kF32, {1, shape_.N, shape_.T, 1}, {shape_.N * shape_.T, shape_.T, 1, 1});
    graph().pointwise(CUDNN_POINTWISE_MUL, out_.sums, reduced, &one);

    // P again from the saved log-sum-exp, and dV = P^T dO.
    Value s = scores();
    if (shape_.documents) s = mask_documents(s);
    const Value off = pairs(kF32), p = pairs(kF32);
    graph().pointwise(CUDNN_POINTWISE_SUB, off, s, &out_.lse);
    graph().pointwise(CUDNN_POINTWISE_EXP, p, mask_band(off));
    out_.dv = of_keys(p, out_.d_o, of_dv);

    // dS = P (dO V^T - sums), by the scale and the soft-cap; dK = dS^T Q and dQ = dS K.
    const Value dp = pairs(kF32), less = pairs(kF32);
    graph().multiply(out_.d_o, out_.v, dp);
    graph().pointwise(CUDNN_POINTWISE_SUB, less, dp, &out_.sums);
    Value ds = pairs(kF32);
    graph().pointwise(CUDNN_POINTWISE_MUL, ds, less, &p);
    if (shape_.softcap > 0) {
      const Value uncapped = pairs(kF32);
      graph().pointwise_grad(CUDNN_POINTWISE_TANH_BWD, uncapped, before_cap_, ds);
      ds = uncapped;
    }
    const Value scaled = pairs(kF32), scale = graph().scalar(static_cast<float>(shape_.scale));
    graph().pointwise(CUDNN_POINTWISE_MUL, scaled, ds, &scale);
    out_.dk = of_keys(scaled, out_.q, of_dk);
    const Value k = graph().temporary(kBf16, {1, shape_.K, shape_.T, shape_.H},
                                      {shape_.T * shape_.strides[of_k], shape_.H, shape_.strides[of_k], 1});
    graph().reshape(k, out_.k);
    out_.dq = heads(shape_.N, of_dq);
    graph().multiply(scaled, k, out_.dq);
    return std::move(out_);
  }

 private:
  CudnnGraph& graph() { return out_.graph; }
  Value pairs(cudnnDataType_t type) { return graph().temporary(type, pairs_); }
  // A number for each query of each head.
  Value row() { return graph().temporary(kF32, {1, shape_.N, shape_.T, 1}); }
  Value heads(int64_t count, Row which) {
    const int64_t stride = shape_.strides[which];
    return graph().array(kBf16, {1, count, shape_.T, shape_.H}, {shape_.T * stride, shape_.H, stride, 1});
  }
  Value turned(int64_t count, Row which) {
    const int64_t stride = shape_.strides[which];
    return graph().array(kBf16, {1, count, shape_.H, shape_.T}, {shape_.T * stride, shape_.H, 1, stride});
  }
  Value lse() {
    return graph().array(kF32, {1, shape_.N, shape_.T, 1},
                         {shape_.N * shape_.lse_stride, shape_.lse_stride, 1, 1}, kNumber);
  }
  void bind_inputs() {
    out_.q = heads(shape_.N, of_q);
    if (!shape_.documents) return;
    out_.starts = graph().array(CUDNN_DATA_INT32, {1, 1, shape_.T, 1}, {shape_.T, shape_.T, 1, 1}, kNumber);
  }

  // scale q.k, and where there is a cap c: c tanh(that / c).
  Value scores() {
    const Value plain = pairs(kF32), scaled = pairs(kF32);
    graph().multiply(out_.q, out_.k, plain);
    const Value scale = graph().scalar(static_cast<float>(shape_.scale));
    graph().pointwise(CUDNN_POINTWISE_MUL, scaled, plain, &scale);
    if (shape_.softcap <= 0) return scaled;
    const Value share = graph().scalar(static_cast<float>(1 / shape_.softcap)),
                cap = graph().scalar(static_cast<float>(shape_.softcap));
    before_cap_ = pairs(kF32);
    const Value unit = pairs(kF32), capped = pairs(kF32);
    graph().pointwise(CUDNN_POINTWISE_MUL, before_cap_, scaled, &share);
    graph().pointwise(CUDNN_POINTWISE_TANH_FWD, unit, before_cap_);
    graph().pointwise(CUDNN_POINTWISE_MUL, capped, unit, &cap);
    return capped;
  }

  Value index(const Value& of, int64_t axis) {
    const Value out = pairs(CUDNN_DATA_INT32);
    graph().index(out, of, axis);
    return out;
  }
  Value keep(const Value& s, cudnnPointwiseMode_t mode, const Value& x, const Value& y, float otherwise) {
    const Value seen = pairs(CUDNN_DATA_BOOLEAN), out = pairs(kF32), low = graph().scalar(otherwise);
    graph().compare(mode, seen, x, y);
    graph().select(out, seen, s, low);
    return out;
  }
  // A block of keys may lie before all of a query's document, so that what takes their place is finite: the
  // largest of an infinite row less itself is no number.
  Value mask_documents(const Value& s) {
    constexpr float kLow = -1e30f;
    return keep(s, CUDNN_POINTWISE_CMP_GE, index(s, kKeyAxis), out_.starts, kLow);
  }
  // Keys up to the query's own, and with a window the last of them: as cuDNN knows it, and leaves out blocks.
  Value mask_band(const Value& s) {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    const Value queries = index(s, kQueryAxis);
    const Value causal = keep(s, CUDNN_POINTWISE_CMP_GE, queries, index(s, kKeyAxis), kNone);
    if (shape_.window == 0) return causal;
    const Value rows = index(causal, kQueryAxis), columns = index(causal, kKeyAxis), end = pairs(kF32),
                window = graph().scalar(static_cast<float>(shape_.window));
    graph().pointwise(CUDNN_POINTWISE_ADD, end, columns, &window);
    return keep(causal, CUDNN_POINTWISE_CMP_GT, end, rows, kNone);
  }

  // x^T y of each query head, summed over the heads that share a key/value head.
  Value of_keys(const Value& x, const Value& y, Row which) {
    const Value turned =
        graph().temporary(kBf16, pairs_, {shape_.N * shape_.T * shape_.T, shape_.T * shape_.T, 1, shape_.T});
    graph().reshape(turned, x);
    const Value out = heads(shape_.K, which);
    if (shape_.N == shape_.K) {
      graph().multiply(turned, y, out);
    } else {
      const Value each = graph().temporary(kBf16, {1, shape_.N, shape_.T, shape_.H});
      graph().multiply(turned, y, each);
      graph().reduce(CUDNN_REDUCE_TENSOR_ADD, out, each);
    }
    return out;
  }

  const SdpaShape& shape_;
  Dims pairs_;
  SdpaGraph out_;
  Value before_cap_;
};

}  // namespace

SdpaGraph sdpa_graph(const SdpaShape& shape) {
  Builder builder(shape);
  return shape.backward ? builder.backward() : builder.forward();
}

}  // namespace toroid::cuda
