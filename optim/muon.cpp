#include "optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "core/op/momentum.h"
#include "core/op/reduce.h"
#include "optim/adamw.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

// The odd polynomial of Newton-Schulz: a x + b x^3 + c x^5, chosen to lift small singular values fast.
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kScale = 0.2;  // of AdamW's usual update, whose elements have this root mean square
constexpr std::string_view kHolder = "temporaries";

// Issues the products of one matrix. X [out, in]; the Gram matrix is taken over the shorter side, n x n.
class NewtonSchulz {
 public:
  NewtonSchulz(Device& device, const UpdateNumerics& numerics, const Tensor& x)
      : device_(device),
        numerics_(numerics),
        x_(x),
        tall_(x.rows() > x.columns()),
        n_(std::min(x.rows(), x.columns())) {}

  void iterate() const {
    const Array gram = this->gram();
    // B = b A + c A^2
    Array square = array_f32({n_, n_});
    launch(op::matmul_dw(gram.tensor, gram.tensor, square.tensor, {}));
    launch(op::combine(gram.tensor, square.tensor, gram.tensor, {kB, kC}));
    square = Array{};
    // X = a X + B X, B symmetric
    const Array product = array_f32(x_.shape);
    if (tall_) {
      const Array packed = pack(gram.tensor);
      launch(op::matmul(x_, packed.tensor, product.tensor));
    } else {
      launch(op::matmul_dw(gram.tensor, x_, product.tensor, {}));
    }
    launch(op::combine(x_, product.tensor, x_, {kA, 1}));
  }

 private:
  Array array(Shape shape, Layout layout = Layout::plain) const {
    return device_.array(numerics_.products, shape, kHolder, layout);
  }
  Array array_f32(Shape shape) const { return device_.array(DType::f32, shape, kHolder); }
  void launch(Call call) const {
    call.phase = Phase::optimizer;
    call.tiles = numerics_.tiles;
    device_.launch(call);
  }
  Array pack(const Tensor& matrix) const {
    Array packed = array(matrix.shape, Layout::packed_forward);
    launch(op::pack({&matrix, 1}, packed.tensor));
    return packed;
  }
  // X X^T or, of a tall one, X^T X.
  Array gram() const {
    Array gram = array({n_, n_});
    if (!tall_) {
      const Array packed = pack(x_);
      launch(op::matmul(x_, packed.tensor, gram.tensor));
      return gram;
    }
    const Array exact = numerics_.products == DType::f32 ? Array{gram.tensor, {}} : array_f32({n_, n_});
    launch(op::matmul_dw(x_, x_, exact.tensor, {}));
    if (exact.tensor.type != gram.tensor.type) launch(op::cast(exact.tensor, gram.tensor));
    return gram;
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

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, const UpdatedTensor& tensor) const override {
    adamw_->update(device, scalars, gradient, master, states, tensor);
  }

  // FLOPs of an iteration's products.
  int64_t work(const UpdatedTensor& tensor) const override {
    const int64_t less = std::min(tensor.shape[0], tensor.shape[1]),
                  more = std::max(tensor.shape[0], tensor.shape[1]);
    return less * less * (4 * more + 2 * less);
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
    const NewtonSchulz newton(device, numerics, direction);
    for (int64_t i = 0; i < iterations_; ++i) newton.iterate();
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
