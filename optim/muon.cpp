#include "optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "core/op/momentum.h"
#include "core/op/reduce.h"
#include "core/op/symmetric_product.h"
#include "optim/adamw.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

// The odd polynomial of Newton-Schulz: a x + b x^3 + c x^5, chosen to lift small singular values fast.
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kScale = 0.2;  // of AdamW's usual update, whose elements have this root mean square
constexpr std::string_view kHolder = "temporaries";

// Iterations between two products with X. Through polynomials of the Gram matrix they cost less, but a
// rounding of that matrix stays and grows elevenfold an iteration where singular values are small. After
// three in bf16 it is no more than rounding X itself brings; fp32 is there for its precision.
int64_t iterations_together(DType products) {
  return products == DType::f32 ? 1 : 3;
}

// Issues the products of one matrix. X [out, in]; the Gram matrix A is taken over the shorter side, n x n. An
// iteration multiplies X by P = a + b A + c A^2, and A by P^2. All of these are polynomials in A: they
// commute and are symmetric, and half of each is computed.
class NewtonSchulz {
 public:
  NewtonSchulz(Device& device, const UpdateNumerics& numerics, const Tensor& x)
      : device_(device),
        numerics_(numerics),
        x_(x),
        tall_(x.rows() > x.columns()),
        n_(std::min(x.rows(), x.columns())) {}

  void iterate(int64_t times) const {
    const int64_t together = iterations_together(numerics_.products);
    for (int64_t done = 0; done < times; done += together) multiply(factor(std::min(together, times - done)));
  }

 private:
  // What so many iterations multiply X by.
  Array factor(int64_t iterations) const {
    const Array gram = product(x_, x_, {}, {.transposed = tall_});
    Array all;
    for (int64_t i = 0; i < iterations; ++i) {
      Array one = product(gram.tensor, gram.tensor, gram.tensor, {.alpha = kC, .beta = kB, .gamma = kA});
      if (i + 1 < iterations) {
        const Array half = product(one.tensor, gram.tensor, {}, {});
        launch(op::symmetric_product(half.tensor, one.tensor, {}, gram.tensor, {}));
      }
      all = i == 0 ? std::move(one) : product(one.tensor, all.tensor, {}, {});
    }
    return all;
  }

  Array product(const Tensor& a, const Tensor& b, const Tensor& c, op::SymmetricProductSpec spec) const {
    Array out = array({n_, n_});
    launch(op::symmetric_product(a, b, c, out.tensor, spec));
    return out;
  }

  void multiply(const Array& factor) const {
    const Array product = array(x_.shape);
    const Tensor& packed_from = tall_ ? factor.tensor : x_;
    const Array packed = array(packed_from.shape, tall_ ? Layout::packed_forward : Layout::packed_backward);
    launch(op::pack({&packed_from, 1}, packed.tensor));
    launch(tall_ ? op::matmul(x_, packed.tensor, product.tensor)
                 : op::matmul_dx(factor.tensor, packed.tensor, product.tensor));
    launch(op::cast(product.tensor, x_));
  }

  Array array(Shape shape, Layout layout = Layout::plain) const {
    return device_.array(numerics_.products, shape, kHolder, layout);
  }
  void launch(Call call) const {
    call.phase = Phase::optimizer;
    call.tiles = numerics_.tiles;
    device_.launch(call);
  }

  Device& device_;
  const UpdateNumerics& numerics_;
  Tensor x_;
  bool tall_;
  int64_t n_;
};

class Muon final : public Optimizer {
 public:
  Muon(const config::MuonConfig& config, std::unique_ptr<Optimizer> adamw)
      : momentum_{config.momentum(), 1 - config.momentum(), config.nesterov()},
        weight_decay_(config.weight_decay()),
        epsilon_(config.epsilon()),
        iterations_(config.iterations()),
        adamw_(std::move(adamw)) {}

  bool whole(const UpdatedTensor& tensor) const override { return tensor.hidden; }

  std::vector<std::string> states(const UpdatedTensor& tensor) const override {
    return whole(tensor) ? std::vector<std::string>{"momentum_buffer"} : adamw_->states(tensor);
  }

  DType state_type(const UpdatedTensor& tensor) const override {
    return whole(tensor) ? DType::f32 : adamw_->state_type(tensor);
  }

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, const UpdatedTensor& tensor) const override {
    adamw_->update(device, scalars, gradient, master, states, tensor);
  }

  // FLOPs of the products in bf16.
  int64_t work(const UpdatedTensor& tensor) const override {
    const int64_t n = std::min(tensor.shape[0], tensor.shape[1]),
                  x = std::max(tensor.shape[0], tensor.shape[1]), together = iterations_together(DType::bf16);
    int64_t flops = 0;
    for (int64_t done = 0; done < iterations_; done += together) {
      flops += n * n * (3 * x + (4 * std::min(together, iterations_ - done) - 3) * n);
    }
    return flops;
  }

  void find_direction(Device& device, const StepScalars& scalars, const Tensor& gradient,
                      std::span<const Tensor> states, const Tensor& direction,
                      const UpdateNumerics& numerics) const override {
    const Shape flat{gradient.elements()};
    Array update = device.array(DType::f32, flat, kHolder);
    device.launch(op::momentum(gradient.reshape(flat), scalars.control, states[0].reshape(flat),
                               update.tensor, momentum_));
    Array squares = device.array(DType::f32, {op::reduce_blocks(gradient.elements())}, kHolder);
    const auto launch = [&](Call call) {
      call.phase = Phase::optimizer;
      device.launch(call);
    };
    launch(op::sum_squares(update.tensor, squares.tensor));
    launch(op::unit_norm(update.tensor, squares.tensor, direction.reshape(flat), {epsilon_}));
    update = Array{};
    squares = Array{};
    NewtonSchulz(device, numerics, direction).iterate(iterations_);
  }

  void descend(Device& device, const StepScalars& scalars, const Tensor& direction, const Tensor& master,
               const UpdatedTensor& tensor) const override {
    const int64_t longer = std::max(tensor.shape[0], tensor.shape[1]);
    device.launch(
        op::descend(direction, scalars.control, master,
                    {kScale * std::sqrt(static_cast<double>(longer)), tensor.decay ? weight_decay_ : 0}));
  }

 private:
  op::MomentumSpec momentum_;
  double weight_decay_, epsilon_;
  int64_t iterations_;
  std::unique_ptr<Optimizer> adamw_;
};

}  // namespace

std::unique_ptr<Optimizer> make_muon(const config::OptimConfig& config) {
  const auto& muon = config.muon();
  return std::make_unique<Muon>(muon, make_adamw(muon.adamw(), muon.adamw_rate()));
}

}  // namespace toroid::optim
