// What the certificate is for: each of five faults that a distributed step may have, put into one collective,
// makes it fail, and the same layout without the fault passes.
#include <gtest/gtest.h>

#include <atomic>

#include "core/op/elementwise.h"
#include "parallel/zero/unit.h"
#include "tests/train/certify/local_layout.h"
#include "tests/train/certify/passed_on.h"

namespace toroid::train {
namespace {

bool of_gradients(const CollectiveLabel& label) {
  return label.tensor.ends_with(" gradients");
}

using Count = std::atomic<int>;  // of the collectives that were spoiled

// 1. The contribution of data rank 1 to one layer's gradient is lost.
class Dropped final : public PassedOn {
 public:
  Dropped(std::unique_ptr<Communicator> inner, Device& device, Count& count)
      : PassedOn(std::move(inner), device), count_(count) {}
  Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) override {
    if (label.tensor == "layer.1 gradients" && place().rank == 1) {
      device_.launch(op::fill(in.tensor, {0}));
      ++count_;
    }
    return PassedOn::reduce_scatter(std::move(in), wire, label);
  }

 private:
  Count& count_;
};

// 2. Each rank divides by its own targets, and then the ranks are averaged.
class AveragedPerRank final : public PassedOn {
 public:
  AveragedPerRank(std::unique_ptr<Communicator> inner, Device& device, Count& count, int64_t targets,
                  std::vector<int64_t> own_targets)
      : PassedOn(std::move(inner), device), count_(count) {
    factor_ = static_cast<float>(targets) /
              static_cast<float>(place().size * own_targets[static_cast<size_t>(place().rank)]);
  }
  Array reduce_scatter(Array in, Wire wire, const CollectiveLabel& label) override {
    spoil(in.tensor, of_gradients(label));
    return PassedOn::reduce_scatter(std::move(in), wire, label);
  }
  Array all_gather(Array in, const CollectiveLabel& label) override {
    spoil(in.tensor, label.tensor == "losses");
    return PassedOn::all_gather(std::move(in), label);
  }

 private:
  void spoil(const Tensor& tensor, bool wanted) {
    if (!wanted) return;
    scale(tensor, factor_);
    ++count_;
  }
  Count& count_;
  float factor_ = 1;
};

// 3. The gradient of keys and values, which every model rank holds whole, is added once more.
class CountedTwice final : public PassedOn {
 public:
  CountedTwice(std::unique_ptr<Communicator> inner, Device& device, Count& count,
               const config::RunConfig& run)
      : PassedOn(std::move(inner), device), count_(count) {
    for (UnitSpec& spec : decoder_units(decoder_config(run.model()), place().size, true)) {
      units_.push_back(make_unit(std::move(spec), place(), 1));
    }
  }
  void all_reduce(const Tensor& in_place, Combine combine, Wire wire, const CollectiveLabel& label) override {
    PassedOn::all_reduce(in_place, combine, wire, label);
    for (const Unit& unit : units_) {
      if (label.tensor != unit.spec.name + " gradients") continue;
      for (size_t t = 0; t < unit.slices.size(); ++t) {
        const std::string& name = unit.spec.tensors[t].name;
        if (name.find("k_proj") == std::string::npos && name.find("v_proj") == std::string::npos) continue;
        scale(in_place.slice_rows(unit.slices[t].offset, unit.slices[t].elements), 2);
        ++count_;
      }
    }
  }

 private:
  Count& count_;
  std::vector<Unit> units_;
};

// 4. Gathered shards lie in the wrong order.
class WrongOrder final : public PassedOn {
 public:
  WrongOrder(std::unique_ptr<Communicator> inner, Device& device, Count& count)
      : PassedOn(std::move(inner), device), count_(count) {}
  Array all_gather(Array in, const CollectiveLabel& label) override {
    Array right = PassedOn::all_gather(std::move(in), label);
    if (label.tensor != "layer.0 weights") return right;
    Array wrong = device_.array(right.tensor.type, right.tensor.shape, "gathered weights");
    const int64_t ranks = place().size, rows = right.tensor.rows() / ranks;
    for (int64_t r = 0; r < ranks; ++r) {
      device_.copy(wrong.tensor.slice_rows(r * rows, rows),
                   right.tensor.slice_rows((r + 1) % ranks * rows, rows));
    }
    ++count_;
    return wrong;
  }

 private:
  Count& count_;
};

// 5. Each rank clips on the norm of its own shards.
class LocalNorm final : public PassedOn {
 public:
  LocalNorm(std::unique_ptr<Communicator> inner, Device& device, Count& count)
      : PassedOn(std::move(inner), device), count_(count) {}
  Array all_gather(Array in, const CollectiveLabel& label) override {
    Array all = PassedOn::all_gather(std::move(in), label);
    if (label.tensor != "gradient norm") return all;
    Array own = device_.array(all.tensor.type, all.tensor.shape, "gradients");
    const int64_t rows = all.tensor.rows() / place().size, first = place().rank * rows;
    device_.launch(op::fill(own.tensor, {0}));
    device_.copy(own.tensor.slice_rows(first, rows), all.tensor.slice_rows(first, rows));
    ++count_;
    return own;
  }

 private:
  Count& count_;
};

// 6. and 7. Of the collectives that go beside products: the rows of one rank are left out of a sum, or taken
// for those of its neighbour where they are gathered.
class OfOneRank final : public PassedOn {
 public:
  OfOneRank(std::unique_ptr<Communicator> inner, Device& device, Count& count, std::string dropped,
            std::string misplaced)
      : PassedOn(std::move(inner), device),
        count_(count),
        dropped_(std::move(dropped)),
        misplaced_(std::move(misplaced)) {}
  Array reduce_scatter_beside(Array in, Wire wire, const RowWork& make,
                              const CollectiveLabel& label) override {
    const RowWork spoiled = [&](const Tensor& rows, int64_t first) {
      make(rows, first);
      if (label.tensor != dropped_ || first != 0 || place().rank != 1) return;
      device_.launch(op::fill(rows, {0}));
      ++count_;
    };
    return inner_->reduce_scatter_beside(std::move(in), wire, spoiled, label);
  }
  Array all_gather_beside(Array in, const RowWork& use, const CollectiveLabel& label) override {
    const int64_t all = in.tensor.rows() * place().size;
    const RowWork spoiled = [&](const Tensor& rows, int64_t first) {
      const bool wrong = label.tensor == misplaced_;
      use(rows, wrong ? (first + rows.rows()) % all : first);
      count_ += wrong ? 1 : 0;
    };
    return inner_->all_gather_beside(std::move(in), spoiled, label);
  }

 private:
  Count& count_;
  std::string dropped_, misplaced_;
};

class InjectedFaults : public ::testing::Test {
 protected:
  // Two microbatches on each of four replicas. One step shows them all but a wrong clipping factor, which
  // changes the loss after it.
  InjectedFaults()
      : run_(certified_config(small_config("heads: 4 kv_heads: 1"), parse_layouts("1x1; 2x2"), 2)),
        one_(run_locally(run_, parse_layouts("1x1")[0])) {}

  void expect_found(const std::string& text, const AdaptGroups& fault) {
    const Layout layout = parse_layouts(text)[0];
    EXPECT_TRUE(compare_bits(one_, run_locally(run_, layout)).passed) << "without the fault";
    EXPECT_EQ(count_.load(), 0);
    try {
      const LayoutRun spoiled = run_locally(run_, layout, fault);
      EXPECT_FALSE(compare_bits(one_, spoiled).passed);
    } catch (const std::exception& error) {
      // Ranks that do not even agree among themselves.
      EXPECT_NE(std::string(error.what()).find("rank 0 has"), std::string::npos) << error.what();
    }
    EXPECT_GT(count_.load(), 0) << "the fault was there";
  }

  config::RunConfig run_;
  LayoutRun one_;
  Count count_{0};
};

TEST_F(InjectedFaults, OneContributionDropped) {
  expect_found("2x2", [this](AxisGroups groups, Device& device) {
    groups.reduce = std::make_unique<Dropped>(std::move(groups.reduce), device, count_);
    return groups;
  });
}

TEST_F(InjectedFaults, LossAveragedPerRank) {
  // The targets of the first step, as masked_batch() deals them: rank r has sequences r and 4 + r.
  const int64_t tokens = run_.batch().tokens_per_sequence();
  std::vector<int64_t> own(4);
  int64_t targets = 0;
  for (int64_t s = 0; s < 8; ++s) {
    const int64_t count = tokens - 7 * s % (tokens - 1);
    own[static_cast<size_t>(s % 4)] += count;
    targets += count;
  }
  ASSERT_NE(own[0], own[1]) << "ranks have unequal numbers of targets";
  expect_found("2x2", [&](AxisGroups groups, Device& device) {
    groups.reduce = std::make_unique<AveragedPerRank>(std::move(groups.reduce), device, count_, targets, own);
    groups.gather = std::make_unique<AveragedPerRank>(std::move(groups.gather), device, count_, targets, own);
    return groups;
  });
}

TEST_F(InjectedFaults, AKeyValueGradientCountedTwice) {
  expect_found("model 2 of 1x2", [this](AxisGroups groups, Device& device) {
    groups.model = std::make_unique<CountedTwice>(std::move(groups.model), device, count_, run_);
    return groups;
  });
}

TEST_F(InjectedFaults, ShardsInTheWrongOrder) {
  expect_found("2x2", [this](AxisGroups groups, Device& device) {
    groups.gather = std::make_unique<WrongOrder>(std::move(groups.gather), device, count_);
    return groups;
  });
}

TEST_F(InjectedFaults, ClippingOnTheLocalNorm) {
  expect_found("2x2", [this](AxisGroups groups, Device& device) {
    groups.gather = std::make_unique<LocalNorm>(std::move(groups.gather), device, count_);
    return groups;
  });
}

// Fast mode has no bits to compare: one rank's losses and norms in fp32, whose bound a spoiled sum leaves far
// behind.
TEST_F(InjectedFaults, RowsOfOneRankBesideProducts) {
  config::RunConfig run = run_;
  run.mutable_model()->mutable_init()->set_linear(0.3);  // so that every product matters
  run.mutable_train()->set_deterministic(false);
  run.mutable_train()->set_precision(config::TrainConfig::FP32);
  run.mutable_mesh()->set_overlap(config::MeshConfig::ALWAYS);
  const LayoutRun one = run_locally(run, parse_layouts("1x1")[0]);
  for (const char* const text : {"model 2 of 2x1", "model 4 of 4x1"}) {
    SCOPED_TRACE(text);
    const Layout layout = parse_layouts(text)[0];
    EXPECT_LT(deviation(one, run_locally(run, layout)), 1e-4) << "without a fault";
    const auto with_fault = [&](const std::string& dropped, const std::string& misplaced) {
      count_ = 0;
      const LayoutRun spoiled = run_locally(run, layout, [&](AxisGroups groups, Device& device) {
        groups.model =
            std::make_unique<OfOneRank>(std::move(groups.model), device, count_, dropped, misplaced);
        return groups;
      });
      EXPECT_GT(count_.load(), 0) << "the fault was there";
      return deviation(one, spoiled);
    };
    EXPECT_GT(with_fault("layer.1 MLP output", ""), 1e-3);
    EXPECT_GT(with_fault("layer.0 gradient of the attention input", ""), 1e-3);
    EXPECT_GT(with_fault("", "layer.1 MLP input"), 1e-3);
    EXPECT_GT(with_fault("", "layer.0 gradient of the MLP output"), 1e-3);
  }
}

// The faults above spoil what they are meant to: handed on without one, a collective is what it was.
TEST_F(InjectedFaults, WithoutAFaultNothingIsFound) {
  const LayoutRun same = run_locally(run_, parse_layouts("2x2")[0], [](AxisGroups groups, Device& device) {
    groups.gather = std::make_unique<PassedOn>(std::move(groups.gather), device);
    groups.reduce = std::make_unique<PassedOn>(std::move(groups.reduce), device);
    return groups;
  });
  EXPECT_TRUE(compare_bits(one_, same).passed);
}

}  // namespace
}  // namespace toroid::train
