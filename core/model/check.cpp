// Shape letters: D d_model, L layers, N heads, K kv_heads, H head_dim, F ffn, V vocab.
#include "core/model/check.h"

#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "core/model/model.pb.h"

namespace toroid::model {
namespace {

// Beyond what this program's ranks could hold; layers * D * F at their bounds stays below 2^51.
constexpr int64_t kMostParameters = 4'000'000'000'000;

void check_shape(const config::ModelConfig& m) {
  check_range("model.d_model", m.has_d_model(), m.d_model(), int64_t{1}, int64_t{1} << 17);
  check_range("model.layers", m.has_layers(), m.layers(), int64_t{1}, int64_t{1024});
  check_range("model.heads", m.has_heads(), m.heads(), int64_t{1}, int64_t{1024});
  check_range("model.head_dim", m.has_head_dim(), m.head_dim(), int64_t{2}, int64_t{4096});
  check_range("model.ffn", m.has_ffn(), m.ffn(), int64_t{1}, int64_t{1} << 20);
  check_range("model.vocab", m.has_vocab(), m.vocab(), int64_t{2}, int64_t{1} << 24);
  if (m.head_dim() % 2 != 0) {
    throw UserError("model.head_dim (" + std::to_string(m.head_dim()) +
                    ") is odd; RoPE rotates pairs, so it must be even");
  }
  if (m.has_kv_heads()) {
    check_range("model.kv_heads", m.kv_heads(), 1, 1024);
    if (m.heads() % m.kv_heads() != 0) {
      throw UserError("model.heads (" + std::to_string(m.heads()) +
                      ") is not a multiple of model.kv_heads (" + std::to_string(m.kv_heads()) +
                      "); each key/value head serves equally many query heads");
    }
  }
}

void check_numbers(const config::ModelConfig& m) {
  check_range("model.norm_eps", m.norm_eps(), 1e-12, 1.0);
  check_range("model.attention_softcap", m.attention_softcap(), 0.0, 1e6);
  check_range("model.logit_softcap", m.logit_softcap(), 0.0, 1e6);
  if (m.has_query_pre_attn_scalar()) {
    check_range("model.query_pre_attn_scalar", m.query_pre_attn_scalar(), 1e-6, 1e9);
  }
  check_range("model.rope.base", m.rope().base(), 1.0, 1e12);
  if (m.rope().has_local_base() && m.rope().local_base() != 0) {
    check_range("model.rope.local_base", m.rope().local_base(), 1.0, 1e12);
  }
  if (m.init().has_embedding()) check_range("model.init.embedding", m.init().embedding(), 1e-6, 10.0);
  check_range("model.init.linear", m.init().linear(), 1e-6, 10.0);
  check_range("model.rope.scale", m.rope().scale(), 1e-3, 1e6);
}

void check_pattern(const config::ModelConfig& m) {
  check_range("model.window", m.window(), 0, int64_t{1} << 24);
  if (m.layer_pattern_size() > m.layers()) {
    throw UserError("model.layer_pattern has " + std::to_string(m.layer_pattern_size()) +
                    " kinds, more than model.layers (" + std::to_string(m.layers()) + ")");
  }
  for (const int kind : m.layer_pattern()) {
    if (kind == config::ModelConfig::LOCAL && m.window() == 0) {
      throw UserError(
          "model.layer_pattern has LOCAL layers but model.window is 0; set it to the tokens they see");
    }
  }
}

void check_norms(const config::ModelConfig& m) {
  if (m.parallel_layers() && m.post_norms()) {
    throw UserError(
        "model.parallel_layers and model.post_norms are both true, but a parallel layer adds attention and "
        "MLP "
        "to the residual stream as they are; set one of them to false");
  }
}

void check_token_ids(const config::ModelConfig::TokenIds& ids) {
  constexpr int64_t kNone = -1, kMost = int64_t{1} << 31;
  if (ids.has_bos()) check_range("model.token_ids.bos", ids.bos(), kNone, kMost);
  if (ids.has_pad()) check_range("model.token_ids.pad", ids.pad(), kNone, kMost);
  for (const int64_t eos : ids.eos()) check_range("model.token_ids.eos", eos, kNone, kMost);
}

}  // namespace

void check(const config::ModelConfig& m) {
  check_shape(m);
  check_token_ids(m.token_ids());
  check_numbers(m);
  check_pattern(m);
  check_norms(m);
  const int64_t parameters = count_parameters(m).total();
  if (parameters > kMostParameters) {
    throw UserError("the model has " + with_commas(parameters) + " parameters; more than " +
                    with_commas(kMostParameters) + " are refused");
  }
}

ParameterCount count_parameters(const config::ModelConfig& m) {
  const int64_t D = m.d_model(), N = m.heads(), K = m.has_kv_heads() ? m.kv_heads() : N;
  const int64_t H = m.head_dim(), F = m.ffn();
  const int64_t attention = D * N * H + 2 * D * K * H + N * H * D;
  const int64_t mlp = (m.mlp() == config::ModelConfig::GATED ? 3 : 2) * D * F;
  const int64_t of_branches = m.parallel_layers() ? 1 : m.post_norms() ? 4 : 2;
  const int64_t norms = of_branches * D + (m.qk_norm() ? 2 * H : 0);
  const int64_t embedding = m.vocab() * D;
  return {.embedding = embedding,
          .layers = m.layers() * (attention + mlp + norms) + D,
          .head = m.tied_head() ? 0 : embedding};
}

}  // namespace toroid::model
