#include "core/op/kinds.h"

#include <array>

#include "core/op/activation.h"
#include "core/op/attention.h"
#include "core/op/checksum.h"
#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/momentum.h"
#include "core/op/norm.h"
#include "core/op/outer.h"
#include "core/op/reduce.h"
#include "core/op/rope.h"
#include "core/op/symmetric_product.h"
#include "core/op/update.h"
#include "core/op/wire.h"

namespace toroid::op {

std::span<const OpKind* const> all_kinds() {
  static constexpr std::array kinds{
      &activate_kind,
      &activate_grad_kind,
      &adamw_kind,
      &add_kind,
      &attention_kind,
      &cast_kind,
      &decide_kind,
      &attention_grad_kind,
      &ema_kind,
      &embed_kind,
      &embed_grad_kind,
      &fill_kind,
      &init_normal_kind,
      &loss_kind,
      &loss_grad_kind,
      &matmul_kind,
      &matmul_dw_kind,
      &matmul_dx_kind,
      &pack_kind,
      &residual_add_kind,
      &residual_norm_kind,
      &rms_norm_kind,
      &rms_norm_grad_kind,
      &rope_kind,
      &rope_grad_kind,
      &rope_table_kind,
      &softcap_kind,
      &sum_kind,
      &sum_squares_kind,
      &loss_statistics_kind,
      &loss_merge_kind,
      &loss_part_grad_kind,
      &compress_kind,
      &sum_wires_kind,
      &outer_gradient_kind,
      &nesterov_kind,
      &momentum_kind,
      &descend_kind,
      &lion_kind,
      &combine_kind,
      &unit_norm_kind,
      &symmetric_product_kind,
      &checksum_kind,
      &compare_checksums_kind,
  };
  return kinds;
}

}  // namespace toroid::op
