#include "core/device/cuda/elements.h"
#include "core/device/cuda/mirror.h"
#include "core/device/cuda/types.h"
#include "core/op/symmetric_product.h"

namespace toroid::cuda {
namespace {

template <class Out, class C>
struct Mirror {
  struct Args {
    const float* sums;
    const C* c;  // [n, n]; null where it has no share
    Out* out;    // [n, n]
    int64_t n, first, width;
    float alpha, beta, gamma;
  };
  static constexpr int kWide = 1;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  // `row` of the sums and column i of the panel.
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    if (row < i) return;  // of the square on the diagonal, the lower half decides
    const int64_t place = (a.first + row) * a.n + a.first + i;
    float v = a.sums[row * a.width + i];
    v = a.c == nullptr ? a.alpha * v : fma(a.alpha, v, a.beta * load<1>(a.c + place).v[0]);
    if (row == i) v = v + a.gamma;
    const auto rounded = narrow<Out, 1>(make<1>([&](int) { return v; }));
    store_raw<1>(a.out + place, rounded);
    if (row != i) store_raw<1>(a.out + (a.first + i) * a.n + a.first + row, rounded);
  }
};

}  // namespace

void finish_panel(cudaStream_t stream, const Call& call, const SymmetricPanel& panel) {
  const Tensor &c = call[2], &out = call[3];
  const auto& spec = call.get<op::SymmetricProductSpec>();
  const int64_t n = out.rows();
  with_types(call, out, c ? c : out, [&]<class Out, class C>(Type<Out>, Type<C>) {
    launch_rows<Mirror<Out, C>>(
        stream,
        {panel.sums, pointer<C>(c), out.as<Out>(), n, panel.first, panel.width,
         static_cast<float>(spec.alpha), static_cast<float>(spec.beta), static_cast<float>(spec.gamma)},
        n - panel.first, panel.width, false);
  });
}

}  // namespace toroid::cuda
