#include "tests/core/device/cuda/stand_in/cudnn_graph.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/tensor/dtype.h"

namespace toroid::testing::stand_in {
namespace {

using Kind = CudnnOperation::Kind;

bool has_second(int mode) {
  return mode == CUDNN_POINTWISE_ADD || mode == CUDNN_POINTWISE_MUL || mode == CUDNN_POINTWISE_DIV ||
         mode == CUDNN_POINTWISE_SUB || mode == CUDNN_POINTWISE_TANH_BWD || mode == CUDNN_POINTWISE_CMP_GT ||
         mode == CUDNN_POINTWISE_CMP_GE || mode == CUDNN_POINTWISE_BINARY_SELECT;
}

bool is_known(int mode) {
  return has_second(mode) || mode == CUDNN_POINTWISE_EXP || mode == CUDNN_POINTWISE_LOG ||
         mode == CUDNN_POINTWISE_TANH_FWD || mode == CUDNN_POINTWISE_GEN_INDEX;
}

// x where it is as large, or of size 1.
bool repeats(const CudnnDims& x, const CudnnDims& to) {
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] != to[i] && x[i] != 1) return false;
  }
  return true;
}

// Which dimension of x is dimension i of y, where y is x with its dimensions in another order; -1: it is not.
std::array<int, 4> order_of(const CudnnTensor& y, const CudnnTensor& x) {
  std::array<int, 4> out{-1, -1, -1, -1};
  std::array<bool, 4> taken{};
  for (size_t i = 0; i < 4; ++i) {
    for (size_t j = 0; j < 4; ++j) {
      const bool same = y.dims[i] == x.dims[j] && (y.strides[i] == x.strides[j] || y.dims[i] == 1);
      if (out[i] < 0 && same && !taken[j]) {
        out[i] = static_cast<int>(j);
        taken[j] = true;
      }
    }
  }
  return out;
}

float rounded(float value, cudnnDataType_t type) {
  return type == CUDNN_DATA_BFLOAT16 ? from_bf16(to_bf16(value)) : value;
}

// A value's elements in the order of its dimensions, the last of them fastest.
using Elements = std::vector<float>;

template <class F>
void each(const CudnnDims& dims, const F& f) {
  int64_t at = 0;
  CudnnDims i{};
  for (i[0] = 0; i[0] < dims[0]; ++i[0])
    for (i[1] = 0; i[1] < dims[1]; ++i[1])
      for (i[2] = 0; i[2] < dims[2]; ++i[2])
        for (i[3] = 0; i[3] < dims[3]; ++i[3]) f(i, at++);
}

int64_t place(const CudnnDims& i, const CudnnDims& steps) {
  return i[0] * steps[0] + i[1] * steps[1] + i[2] * steps[2] + i[3] * steps[3];
}

// Steps through elements of these dimensions, none along one that is repeated.
CudnnDims steps_of(const CudnnDims& dims) {
  CudnnDims out{};
  int64_t step = 1;
  for (size_t i = 4; i-- > 0;) {
    out[i] = dims[i] == 1 ? 0 : step;
    step *= dims[i];
  }
  return out;
}

Elements load(const CudnnTensor& t, const void* memory) {
  Elements out(static_cast<size_t>(t.elements()));
  each(t.dims, [&](const CudnnDims& i, int64_t at) {
    const int64_t from = place(i, t.strides);
    out[static_cast<size_t>(at)] =
        t.type == CUDNN_DATA_BFLOAT16 ? from_bf16(static_cast<const uint16_t*>(memory)[from])
        : t.type == CUDNN_DATA_INT32  ? static_cast<float>(static_cast<const int32_t*>(memory)[from])
                                      : static_cast<const float*>(memory)[from];
  });
  return out;
}

void store(const CudnnTensor& t, const Elements& values, void* memory) {
  each(t.dims, [&](const CudnnDims& i, int64_t at) {
    const float value = values[static_cast<size_t>(at)];
    if (t.type == CUDNN_DATA_BFLOAT16) {
      static_cast<uint16_t*>(memory)[place(i, t.strides)] = to_bf16(value);
    } else {
      static_cast<float*>(memory)[place(i, t.strides)] = value;
    }
  });
}

float combine(int mode, float x, float y) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD:
      return x + y;
    case CUDNN_POINTWISE_MUL:
      return x * y;
    case CUDNN_POINTWISE_DIV:
      return x / y;
    case CUDNN_POINTWISE_SUB:
      return x - y;
    case CUDNN_POINTWISE_CMP_GT:
      return x > y ? 1.0f : 0.0f;
    case CUDNN_POINTWISE_CMP_GE:
      return x >= y ? 1.0f : 0.0f;
    case CUDNN_POINTWISE_EXP:
      return std::exp(x);
    case CUDNN_POINTWISE_LOG:
      return std::log(x);
    case CUDNN_POINTWISE_TANH_FWD:
      return std::tanh(x);
    default: {  // CUDNN_POINTWISE_TANH_BWD: y is the gradient
      const float unit = std::tanh(x);
      return y * (1 - unit * unit);
    }
  }
}

class Run {
 public:
  Run(const CudnnProgram& program, const std::map<int64_t, void*>& memory)
      : program_(program), memory_(memory) {}

  void operation(const CudnnOperation& one) {
    const CudnnTensor& out = tensor(one.out);
    Elements result(static_cast<size_t>(out.elements()));
    switch (one.kind) {
      case Kind::pointwise:
        pointwise(one, out, result);
        break;
      case Kind::multiply:
        multiply(one, out, result);
        break;
      case Kind::reduce:
        reduce(one, out, result);
        break;
      case Kind::reshape:
        reshape(one, out, result);
        break;
    }
    for (float& value : result) value = rounded(value, out.type);
    if (!out.is_virtual) store(out, result, memory_.at(out.id));
    values_[one.out] = std::move(result);
  }

 private:
  const CudnnTensor& tensor(int64_t id) const { return program_.tensors.at(id); }
  const Elements& value(int64_t id) {
    const auto found = values_.find(id);
    return found != values_.end() ? found->second
                                  : values_.emplace(id, load(tensor(id), memory_.at(id))).first->second;
  }

  void pointwise(const CudnnOperation& one, const CudnnTensor& out, Elements& result) {
    if (one.mode == CUDNN_POINTWISE_GEN_INDEX) {
      each(out.dims, [&](const CudnnDims& i, int64_t at) {
        result[static_cast<size_t>(at)] = static_cast<float>(i[static_cast<size_t>(one.axis)]);
      });
      return;
    }
    const Elements& x = value(one.x);
    const Elements& y = one.y == 0 ? x : value(one.y);
    const Elements& which = one.which == 0 ? x : value(one.which);
    const CudnnDims of_x = steps_of(tensor(one.x).dims),
                    of_y = steps_of(tensor(one.y == 0 ? one.x : one.y).dims),
                    of_which = steps_of(tensor(one.which == 0 ? one.x : one.which).dims);
    each(out.dims, [&](const CudnnDims& i, int64_t at) {
      const float a = x[static_cast<size_t>(place(i, of_x))], b = y[static_cast<size_t>(place(i, of_y))];
      result[static_cast<size_t>(at)] = one.mode == CUDNN_POINTWISE_BINARY_SELECT
                                            ? (which[static_cast<size_t>(place(i, of_which))] != 0 ? a : b)
                                            : combine(one.mode, a, b);
    });
  }

  // A head of the operand that has fewer serves as many of the other's that lie beside each other.
  void multiply(const CudnnOperation& one, const CudnnTensor& out, Elements& result) {
    const CudnnTensor &a = tensor(one.x), &b = tensor(one.y);
    const Elements &x = value(one.x), &y = value(one.y);
    const int64_t rows = out.dims[2], columns = out.dims[3], depth = a.dims[3];
    for (int64_t head = 0; head < out.dims[1]; ++head) {
      const float* const left = x.data() + head * a.dims[1] / out.dims[1] * rows * depth;
      const float* const right = y.data() + head * b.dims[1] / out.dims[1] * depth * columns;
      float* const to = result.data() + head * rows * columns;
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t k = 0; k < depth; ++k) {
          const float factor = left[m * depth + k];
          for (int64_t n = 0; n < columns; ++n) to[m * columns + n] += factor * right[k * columns + n];
        }
      }
    }
  }

  void reduce(const CudnnOperation& one, const CudnnTensor& out, Elements& result) {
    const CudnnTensor& from = tensor(one.x);
    const Elements& x = value(one.x);
    const bool most = one.mode == CUDNN_REDUCE_TENSOR_MAX;
    if (most) std::fill(result.begin(), result.end(), -HUGE_VALF);
    const CudnnDims steps = steps_of(out.dims);
    each(from.dims, [&](const CudnnDims& i, int64_t at) {
      CudnnDims j = i;
      for (size_t d = 0; d < 4; ++d) j[d] = i[d] * out.dims[d] / from.dims[d];
      float& to = result[static_cast<size_t>(place(j, steps))];
      const float value = x[static_cast<size_t>(at)];
      to = most ? std::max(to, value) : to + value;
    });
  }

  void reshape(const CudnnOperation& one, const CudnnTensor& out, Elements& result) {
    const CudnnTensor& from = tensor(one.x);
    const Elements& x = value(one.x);
    const std::array<int, 4> order = order_of(out, from);
    const CudnnDims steps = steps_of(from.dims);
    each(out.dims, [&](const CudnnDims& i, int64_t at) {
      int64_t place = 0;
      for (size_t d = 0; d < 4; ++d) place += i[d] * steps[static_cast<size_t>(order[d])];
      result[static_cast<size_t>(at)] = x[static_cast<size_t>(place)];
    });
  }

  const CudnnProgram& program_;
  const std::map<int64_t, void*>& memory_;
  std::map<int64_t, Elements> values_;
};

bool fits(const CudnnOperation& one, const CudnnTensor& x, const CudnnTensor* y, const CudnnTensor* which,
          const CudnnTensor& out) {
  switch (one.kind) {
    case Kind::pointwise:
      return is_known(one.mode) && has_second(one.mode) == (y != nullptr) &&
             (one.mode == CUDNN_POINTWISE_BINARY_SELECT) == (which != nullptr) && repeats(x.dims, out.dims) &&
             (y == nullptr || repeats(y->dims, out.dims)) &&
             (which == nullptr || (which->dims == out.dims && which->type == CUDNN_DATA_BOOLEAN)) &&
             (one.mode != CUDNN_POINTWISE_GEN_INDEX || (one.axis >= 0 && one.axis < 4));
    case Kind::multiply:
      return y != nullptr && x.dims[3] == y->dims[2] && x.dims[2] == out.dims[2] &&
             y->dims[3] == out.dims[3] && out.dims[1] == std::max(x.dims[1], y->dims[1]) &&
             out.dims[1] % x.dims[1] == 0 && out.dims[1] % y->dims[1] == 0 && x.dims[0] == 1 &&
             y->dims[0] == 1 && out.dims[0] == 1;
    case Kind::reduce:
      return (one.mode == CUDNN_REDUCE_TENSOR_ADD || one.mode == CUDNN_REDUCE_TENSOR_MAX) &&
             std::equal(x.dims.begin(), x.dims.end(), out.dims.begin(),
                        [](int64_t from, int64_t to) { return to > 0 && from % to == 0; });
    case Kind::reshape: {
      const auto order = order_of(out, x);
      return std::all_of(order.begin(), order.end(), [](int d) { return d >= 0; });
    }
  }
  return false;
}

}  // namespace

bool CudnnProgram::is_sound() const {
  std::set<int64_t> made;
  for (const CudnnOperation& one : operations) {
    for (const int64_t id : {one.x, one.y, one.which}) {
      const auto found = tensors.find(id);
      if (id == 0) continue;
      if (found == tensors.end() || (found->second.is_virtual && made.count(id) == 0)) return false;
    }
    const auto x = tensors.find(one.x), out = tensors.find(one.out);
    if (x == tensors.end() || out == tensors.end() || out->second.by_value) return false;
    if (!made.insert(one.out).second) return false;
    if (!fits(one, x->second, one.y == 0 ? nullptr : &tensors.at(one.y),
              one.which == 0 ? nullptr : &tensors.at(one.which), out->second))
      return false;
  }
  return !operations.empty();
}

bool CudnnProgram::has_kernel() const {
  const auto any = [&](Kind kind, int mode) {
    return std::any_of(operations.begin(), operations.end(),
                       [&](const CudnnOperation& one) { return one.kind == kind && one.mode == mode; });
  };
  return !any(Kind::reduce, CUDNN_REDUCE_TENSOR_MAX) || any(Kind::pointwise, CUDNN_POINTWISE_LOG);
}

int64_t CudnnProgram::workspace_bytes() const {
  constexpr int64_t kUnit = 256, kQueries = 64, kKeys = 128, kBf16 = 2;
  const auto whole = [](int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; };
  int64_t out = kUnit;
  bool pairs = false;
  for (const CudnnOperation& one : operations) {
    const CudnnTensor& to = tensors.at(one.out);
    const CudnnTensor& from = tensors.at(one.x);
    // The gradients of scores, once, and those of each head.
    if (one.kind == Kind::reshape && from.is_virtual && !pairs) {
      out += whole(to.dims[1] * whole(to.dims[3], kQueries) * whole(to.dims[2], kKeys) * kBf16, kUnit);
      pairs = true;
    }
    if (one.kind == Kind::reduce && from.dims[1] != to.dims[1]) out += whole(from.elements() * kBf16, kUnit);
  }
  return out;
}

void CudnnProgram::run(const std::map<int64_t, void*>& memory) const {
  Run run(*this, memory);
  for (const CudnnOperation& one : operations) run.operation(one);
}

}  // namespace toroid::testing::stand_in
