#include "core/model/next_token.h"

#include "core/model/ends.h"
#include "core/model/product.h"
#include "core/op/loss.h"
#include "core/op/norm.h"

namespace toroid {
namespace {

op::LossPartSpec part_spec(const HeadInputs& in, const ModelShare& share) {
  return {in.config.logit_softcap, in.block_tokens, share.first_token, share.vocab_valid};
}

// The loss of a vocabulary in parts.
struct LossByParts {
  Array h;            // of all tokens, [M, D]
  Array normalisers;  // f32[2, M]
};
// h of the own tokens -> token_loss of all.
LossByParts loss_by_parts(Context& c, const HeadInputs& in, const ModelShare& share, const Tensor& own_h,
                          const Tensor& token_loss) {
  const Tensor& targets = in.batch.targets;
  const int64_t slices = c.tiles.deterministic ? share.slices : 1, tokens = targets.rows();
  Array own = c.array_f32({3 * slices, tokens}, kTemporary);
  const RowWork statistics = [&](const Tensor& h, int64_t first) {
    c.launch(op::loss_statistics(h, in.table.forward, targets.slice_rows(first, h.rows()),
                                 own.tensor.slice_columns(first, h.rows()), part_spec(in, share)),
             slices);
  };
  LossByParts out;
  out.h = gather_rows(c, own_h, "head input", statistics);
  const Array all = c.model.all_gather(std::move(own), {"loss statistics", kTemporary, c.phase});
  out.normalisers = c.array_f32({2, tokens}, kTemporary);
  c.launch(op::loss_merge(all.tensor, targets, token_loss, out.normalisers.tensor));
  return out;
}

class NextToken final : public Objective {
 public:
  bool is_likelihood() const override { return true; }

  void loss(Context& c, const HeadInputs& in, const Tensor& x, const Tensor& token_loss,
            std::span<const Tensor>) const override {
    const ModelShare share = share_of(c, in.config);
    const Normed normed = final_norm(c, in.config, in.head, x);
    if (share.place.size == 1) {
      c.launch(op::loss(normed.h.tensor, in.table.forward, in.batch.targets, token_loss,
                        {in.config.logit_softcap, in.block_tokens}),
               share.slices);
      return;
    }
    loss_by_parts(c, in, share, normed.h.tensor, token_loss);
  }

  Array gradient(Context& c, const HeadInputs& in, Array x, const Tensor& token_loss,
                 const HeadGradients& to) const override {
    const ModelShare share = share_of(c, in.config);
    c.phase = Phase::forward;
    Normed normed = final_norm(c, in.config, in.head, x.tensor);
    Array dh;
    if (share.place.size == 1) {
      c.phase = Phase::backward;
      dh = c.array(x.tensor.shape, kTemporary);
      begin_adding(c, to.table);
      c.launch(op::loss_grad(normed.h.tensor, in.table.forward, in.table.backward, in.batch.targets,
                             in.batch.scale, token_loss, dh.tensor, to.table.tensor,
                             {in.config.logit_softcap, in.block_tokens}),
               share.slices);
    } else {
      const LossByParts parts = loss_by_parts(c, in, share, normed.h.tensor, token_loss);
      c.phase = Phase::backward;
      begin_adding(c, to.table);
      const RowWork gradient = [&](const Tensor& partial, int64_t first) {
        const int64_t rows = partial.rows();
        c.launch(op::loss_part_grad(parts.h.tensor.slice_rows(first, rows), in.table.forward,
                                    in.table.backward, in.batch.targets.slice_rows(first, rows),
                                    in.batch.scale, parts.normalisers.tensor.slice_columns(first, rows),
                                    partial, to.table.tensor, part_spec(in, share)),
                 share.slices);
      };
      Array partial = c.array_f32(parts.h.tensor.shape, kTemporary);
      dh = rounded(c, scatter_sum(c, std::move(partial), gradient, "gradient of the head input"), kTemporary);
    }
    normed.h = Array{};
    begin_adding(c, to.norm);
    Array d_x = c.array(x.tensor.shape, kTemporary);
    c.launch(op::rms_norm_grad(dh.tensor, x.tensor, in.head.tensors[0], normed.rstd.tensor, {}, d_x.tensor,
                               to.norm.tensor, {}, {in.config.norm_eps}));
    return d_x;
  }
};

}  // namespace

std::unique_ptr<Objective> make_next_token() {
  return std::make_unique<NextToken>();
}

}  // namespace toroid
