#include "train/loop/step_orders.h"

namespace toroid::train {
namespace {

class OrdersOfConfig final : public StepOrders {
 public:
  OrdersOfConfig(const config::RunConfig& run, const Dealer& dealer, int64_t first_step)
      : plan_(run.batch()), dealer_(dealer), train_(run.train()), first_(first_step), step_(first_step) {}

  StepOrder next(int signal) override {
    StepOrder order;
    order.step = step_;
    const bool last = step_ >= train_.steps();
    order.stop = last || signal != 0;
    if (step_ > first_) {
      const auto due = [&](int64_t every) { return every > 0 && step_ % every == 0; };
      const int64_t validate = train_.validate().every();
      order.validate = signal == 0 && (due(validate) || (validate > 0 && last));
      order.save = order.stop || due(train_.checkpoint().every());
    }
    if (order.stop) return order;
    order.sequences = plan_.sequences(step_);
    order.deal = dealer_.deal(order.sequences);
    ++step_;
    return order;
  }

 private:
  BatchPlan plan_;
  Dealer dealer_;
  config::TrainConfig train_;
  int64_t first_, step_;
};

}  // namespace

std::unique_ptr<StepOrders> orders_of_config(const config::RunConfig& run, const Dealer& dealer,
                                             int64_t first_step) {
  return std::make_unique<OrdersOfConfig>(run, dealer, first_step);
}

}  // namespace toroid::train
