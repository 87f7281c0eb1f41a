// m ranks of the model axis, d of the data axis, p pods; B sequences of T tokens a microbatch (T with its
// padding), M = B T rows of which a model rank owns M / m between blocks, k microbatches of a replica.
// N, K, H, F, V, D, L as in core/model/decoder_config.h; e bytes an element of the compute type.
#include "train/certify/work.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <string_view>
#include <utility>

#include "core/base/round_up.h"
#include "core/base/text.h"
#include "core/model/decoder_config.h"

namespace toroid::train {
namespace {

constexpr int64_t kBlock = 4096;  // elements to which every tensor of a flat buffer is padded
constexpr int64_t kPart = 256;    // and of the smallest shard of one
constexpr int64_t f32_bytes = 4;

int64_t power_of_two_from(int64_t value) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(value)));
}

// Blocks of the tensors of one unit in the flat buffer of a rank of the model axis.
struct UnitSize {
  int64_t whole = 0, split = 0;  // tensors that every model rank holds, and parts of the others
  int64_t whole_norm = 0,
          slice_norm = 0;  // of the deterministic norm: whole tensors, and one canonical slice
};

// A read of a unit on the way through the visits of a microbatch.
struct Read {
  int64_t visit;
  bool rows, forward, backward;
};

class Plan {
 public:
  explicit Plan(const config::RunConfig& run);
  PlannedWork make();

 private:
  int64_t keys(int64_t layer) const;
  void add_flops();
  void add_layer_flops(int64_t layer);
  void add_weights();
  void add_gradients();
  void add_activations();
  void add_losses_and_norm();
  void add_update();
  void add_copies();
  int64_t gathers(const std::vector<Read>& reads) const;
  std::vector<Read> reads(size_t unit) const;
  std::vector<UnitSize> unit_sizes() const;
  int64_t shards() const { return sharded_ ? d_ : 1; }
  int64_t flat(const UnitSize& unit) const {  // elements
    const int64_t blocks = unit.whole + unit.split;
    if (blocks >= shards()) return divide_up(blocks, shards()) * shards() * kBlock;
    return std::max(kPart, power_of_two_from(divide_up(blocks * kBlock, shards()))) * shards();
  }
  void flops(Phase phase, const char* part, int64_t each) {
    if (each > 0) out_.flops.push_back({phase, part, k_ * each});
  }
  // Only groups of several ranks move anything.
  void bytes(const char* axis, const char* operation, const char* what, int64_t count, int64_t each) {
    const int64_t ranks = axis == std::string_view("data") ? d_ : axis == std::string_view("model") ? m_ : p_;
    if (ranks > 1 && count * each > 0) out_.bytes.push_back({axis, operation, what, count * each});
  }

  const config::RunConfig& run_;
  DecoderConfig c_;
  bool deterministic_, remat_all_;
  int64_t m_, d_, p_, e_, B_, T_, k_, M_;
  int64_t slices_, kv_columns_, table_rows_;
  bool kv_divide_, whole_kv_, sharded_;
  std::vector<UnitSize> units_;
  PlannedWork out_;
};

Plan::Plan(const config::RunConfig& run)
    : run_(run),
      c_(decoder_config(run.model())),
      deterministic_(run.train().deterministic()),
      remat_all_(run.train().remat() == config::TrainConfig::FULL),
      m_(run.mesh().model()),
      d_(run.mesh().data()),
      p_(run.mesh().pods()),
      e_(run.train().precision() == config::TrainConfig::FP32 ? 4 : 2) {
  const int64_t tokens = run.batch().tokens_per_sequence(), sequences = run.batch().global_sequences();
  B_ = deterministic_ ? 1 : run.batch().sequences_per_replica();
  if (deterministic_) {
    // A tree over 16 blocks of tokens, or the next power of two that keeps them at 64 tokens or fewer.
    T_ = divide_up(tokens, 16 * power_of_two_from(divide_up(tokens, 1024))) * 16 *
         power_of_two_from(divide_up(tokens, 1024));
    k_ = std::max<int64_t>(1, power_of_two_from(sequences) / (d_ * p_));
  } else {
    T_ = divide_up(tokens, m_) * m_;
    k_ = divide_up(sequences, d_ * p_ * B_);
  }
  M_ = B_ * T_;
  for (slices_ = 16; c_.heads % slices_ != 0 || c_.ffn % slices_ != 0;) slices_ /= 2;
  kv_divide_ = c_.kv_heads % (deterministic_ ? slices_ : m_) == 0;
  whole_kv_ = m_ > 1 && !kv_divide_;
  kv_columns_ = 2 * c_.kv_heads * c_.head_dim / (whole_kv_ ? 1 : m_);
  const int64_t pieces = slices_ % m_ == 0 ? slices_ : m_;
  table_rows_ = m_ == 1 ? c_.vocab : divide_up(c_.vocab, pieces) * (pieces / m_);
  sharded_ = run.zero().stage() > 0 && d_ > 1;
  units_ = unit_sizes();
}

PlannedWork Plan::make() {
  out_.ranks = m_ * d_ * p_;
  add_flops();
  add_weights();
  add_gradients();
  add_activations();
  add_losses_and_norm();
  add_update();
  add_copies();
  return std::move(out_);
}

// Products

// Mean number of keys that a query of the layer sees, rounded up: what attention is charged for.
int64_t Plan::keys(int64_t layer) const {
  const bool windowed = c_.local[static_cast<size_t>(layer)] && c_.window > 0;
  const int64_t window = windowed ? std::min(c_.window, T_) : T_;
  return divide_up(window * T_ - window * (window - 1) / 2, T_);
}

void Plan::add_layer_flops(int64_t layer) {
  const int64_t q = c_.heads / m_ * c_.head_dim, ffn = c_.ffn / m_, D = c_.d_model;
  // Whole keys and values are computed by each rank for its own tokens.
  const int64_t qkv = 2 * D * (M_ * q + (whole_kv_ ? M_ / m_ : M_) * kv_columns_);
  const int64_t attention = 2 * M_ * keys(layer) * q;  // one product: scores, or their values
  const int64_t output = 2 * M_ * q * D, down = 2 * M_ * ffn * D, pre = (c_.gated_mlp ? 2 : 1) * down;
  flops(Phase::forward, "qkv", qkv);
  flops(Phase::forward, "attention", 2 * attention);
  flops(Phase::forward, "output", output);
  flops(Phase::forward, "mlp", pre + down);
  if (remat_all_) {
    flops(Phase::recompute, "qkv", qkv);
    flops(Phase::recompute, "attention", 2 * attention);
    flops(Phase::recompute, "output", c_.parallel_layers ? 0 : output);  // the norm before the MLP reads it
    flops(Phase::recompute, "mlp", pre + (c_.post_norms ? down : 0));    // a post-norm wants its input back
  }
  // By input and by weight; attention: scores once more, then values, probabilities, queries, keys.
  flops(Phase::backward, "qkv", 2 * qkv);
  flops(Phase::backward, "attention", 5 * attention);
  flops(Phase::backward, "output", 2 * output);
  flops(Phase::backward, "mlp", 2 * (pre + down));
}

void Plan::add_flops() {
  for (int64_t layer = 0; layer < c_.layers; ++layer) add_layer_flops(layer);
  const int64_t logits = 2 * M_ * table_rows_ * c_.d_model;
  // Loss and gradient are one operator, but a vocabulary in parts must first agree on the normaliser.
  if (m_ > 1) flops(Phase::forward, "head", logits);
  flops(Phase::backward, "head", 3 * logits);
}

// The data axis

std::vector<UnitSize> Plan::unit_sizes() const {
  std::vector<UnitSize> units(static_cast<size_t>(c_.layers) + 2);
  const auto blocks = [](int64_t elements) { return divide_up(elements, kBlock); };
  const auto whole = [&](UnitSize& unit, int64_t elements) {
    unit.whole += blocks(elements);
    unit.whole_norm += blocks(elements);
  };
  // A matrix of which `extent` rows or columns of `other` elements are dealt.
  const auto split = [&](UnitSize& unit, int64_t part, int64_t extent, int64_t other) {
    unit.split += blocks(part * other);
    unit.slice_norm += blocks(divide_up(extent, slices_) * other);
  };
  const int64_t D = c_.d_model, q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim;
  split(units.front(), table_rows_, c_.vocab, D);
  for (size_t l = 1; l + 1 < units.size(); ++l) {
    UnitSize& unit = units[l];
    for (int norm = 0; norm < (c_.parallel_layers ? 1 : c_.post_norms ? 4 : 2); ++norm) whole(unit, D);
    for (int norm = 0; norm < (c_.qk_norm ? 2 : 0); ++norm) whole(unit, c_.head_dim);
    // Where the model is in one piece, the norm alone asks whether keys and values have canonical slices.
    for (int matrix = 0; matrix < 2; ++matrix) {
      if (kv_divide_) {
        split(unit, kv / m_, kv, D);
      } else {
        whole(unit, kv * D);
      }
    }
    split(unit, q / m_, q, D);  // queries
    split(unit, q / m_, q, D);  // output
    for (int i = 0; i < (c_.gated_mlp ? 3 : 2); ++i) split(unit, c_.ffn / m_, c_.ffn, D);
  }
  whole(units.back(), D);
  if (!c_.tied_head) split(units.back(), table_rows_, c_.vocab, D);
  return units;
}

// Where a microbatch reads a unit: the embedding, the layers, the head and its loss, the layers backward, and
// the embedding's gradient, which reads nothing.
std::vector<Read> Plan::reads(size_t unit) const {
  const int64_t head = c_.layers + 1, u = static_cast<int64_t>(unit);
  if (u == 0 && c_.tied_head) return {{0, true, false, false}, {head, false, true, true}};
  if (u == 0) return {{0, true, false, false}};
  if (u == head) return {{head, false, !c_.tied_head, !c_.tied_head}};
  return {{u, false, true, false}, {2 * head - u, false, remat_all_, true}};
}

// How often a unit that does not stay is gathered in a step. It is dropped after a read unless the next one
// is among the visits that are prefetched, or the same microbatch's and nothing is freed after the forward
// pass. Plain weights go once they are packed for the products of a direction.
int64_t Plan::gathers(const std::vector<Read>& reads) const {
  struct Have {
    bool vectors = false, plain = false, forward = false, backward = false;
  } have;
  const bool reshard = run_.zero().reshard_after_forward();
  // Nothing is kept for the same visit of the next microbatch.
  const int64_t visits = 2 * c_.layers + 3, ahead = std::min(run_.zero().prefetch(), visits - 1);
  int64_t count = 0;
  for (int64_t microbatch = 0; microbatch < k_; ++microbatch) {
    for (size_t i = 0; i < reads.size(); ++i) {
      const Read& read = reads[i];
      const bool ready = have.vectors && (!read.forward || have.forward) &&
                         (!read.backward || have.backward) && (!read.rows || have.plain);
      if (!ready) {
        if (!have.plain) ++count;
        have.vectors = true;
        have.forward |= read.forward;
        have.backward |= read.backward;
        have.plain = read.rows || (!reshard && !have.backward);
      }
      const bool last = i + 1 == reads.size();
      const int64_t distance = last ? visits - read.visit + reads[0].visit : reads[i + 1].visit - read.visit;
      const bool over = last && microbatch + 1 == k_;
      if (over || (distance > ahead && (reshard || last))) have = {};
    }
  }
  return count;
}

void Plan::add_weights() {
  if (!sharded_) return;
  int64_t total = 0;
  for (size_t u = 0; u < units_.size(); ++u) {
    const bool stays = run_.zero().stage() < 3 || flat(units_[u]) < run_.zero().whole_below();
    total += (stays ? 1 : gathers(reads(u))) * flat(units_[u]) * e_;
  }
  bytes("data", "all_gather", "weights", 1, total);
}

void Plan::add_gradients() {
  // Whole buffers take the microbatches first where no sum over the data axis must come before them.
  const bool once = !deterministic_ && (!sharded_ || run_.zero().stage() == 1);
  int64_t elements = 0, whole = 0;
  for (const UnitSize& unit : units_) {
    elements += flat(unit);
    whole += unit.whole * kBlock;
  }
  bytes("data", sharded_ ? "reduce_scatter" : "all_reduce", "gradients", once ? 1 : k_, elements * f32_bytes);
  bytes("model", "all_reduce", "gradients of whole tensors", once ? 1 : k_, whole * f32_bytes);
  bytes("pod", "all_reduce", "gradients", 1, elements / shards() * f32_bytes);
}

// The model axis

void Plan::add_activations() {
  const int64_t rows = M_ * c_.d_model * e_, sums = M_ * c_.d_model * f32_bytes;  // a gather, a scattered sum
  const int64_t kv = M_ * 2 * c_.kv_heads * c_.head_dim, again = remat_all_ ? 1 : 0, L = c_.layers;
  // Stacked matrices are sums of their own in deterministic mode.
  const int64_t of_pre = deterministic_ && c_.gated_mlp ? 2 : 1;
  const int64_t of_qkv = deterministic_ && !whole_kv_ ? 3 : 1;
  const int64_t statistics = 3 * (deterministic_ ? slices_ : m_) * M_ * f32_bytes;
  // Inputs of attention and MLP, again for the backward pass unless they are kept, and the gradients of both
  // results; of parallel layers one for both.
  const int64_t branches = c_.parallel_layers ? 1 : 2, inputs = run_.train().keep_gathered() ? 1 : 2;
  int64_t gathered = L * branches * (inputs + 1) * rows;
  // Results of attention and MLP; backward, the gradients of both inputs. What parallel layers add up travels
  // as one, and in deterministic mode as the trees that it consists of.
  int64_t sums_of_layer = 2 + again * (c_.post_norms ? 2 : 1) + of_pre + of_qkv;
  if (c_.parallel_layers) sums_of_layer = deterministic_ ? 2 + of_pre + of_qkv : 2;
  int64_t scattered = L * sums_of_layer * sums;
  if (whole_kv_) {
    gathered += L * (1 + again) * kv * e_;
    scattered += L * kv * f32_bytes;
  }
  gathered += 2 * rows + statistics;  // the head's input, the embedding's gradient
  scattered += rows + sums;           // the embedding, the gradient of the head's input
  bytes("model", "all_gather", "activations", k_, gathered);
  bytes("model", "reduce_scatter", "activations", k_, scattered);
}

void Plan::add_losses_and_norm() {
  bytes("data", "all_gather", "losses", 1, k_ * d_ * f32_bytes);
  bytes("pod", "all_gather", "losses", 1, k_ * d_ * p_ * f32_bytes);
  int64_t elements = 0, blocks = 0, slice_blocks = 0;
  for (const UnitSize& unit : units_) {
    elements += flat(unit);
    blocks += divide_up(flat(unit) / shards(), kBlock) * shards();
    slice_blocks += unit.slice_norm;
  }
  if (deterministic_) {
    // Each canonical slice is cut into blocks for itself, so the shards are put together first.
    if (sharded_) bytes("data", "all_gather", "gradient norm", 1, elements * f32_bytes);
    bytes("model", "all_gather", "gradient norm", slices_, slice_blocks * f32_bytes);
  } else {
    if (sharded_) bytes("data", "all_gather", "gradient norm", 1, blocks * f32_bytes);
    bytes("model", "all_gather", "gradient norm", m_, blocks * f32_bytes);
  }
}

// Muon's products, five of its iterations' worth unless told otherwise, over the shorter side n of a matrix
// with a longer side x. What is n x n is symmetric and half computed: the Gram matrix, and for an iteration
// its square and, but for the last before the product with the matrix, its two products with the factor that
// the square gives; from the second on that factor by those before it. Three iterations are taken together in
// bf16.
void Plan::add_update() {
  if (!run_.optim().has_muon()) return;
  const int64_t D = c_.d_model, q = c_.heads * c_.head_dim, kv = c_.kv_heads * c_.head_dim;
  const int64_t owners = shards() * m_, products = deterministic_ ? f32_bytes : e_;
  int64_t flops = 0, parts = 0, split = 0;  // elements of a model rank's parts, and of what is in parts
  const auto matrix = [&](int64_t side, bool in_parts) {
    const int64_t n = std::min(side, D), x = std::max(side, D);
    const int64_t half = 2 * n * ((n + 1) / 2), together = products == f32_bytes ? 1 : 3;
    for (int64_t left = run_.optim().muon().iterations(); left > 0; left -= together) {
      const int64_t taken = std::min(left, together);
      flops += half * (x + (4 * taken - 3) * n) + 2 * n * n * x;
    }
    parts += in_parts ? side / m_ * D : side * D;
    split += in_parts ? side * D : 0;
  };
  for (int i = 0; i < 2; ++i) matrix(q, m_ > 1);
  for (int i = 0; i < 2; ++i) matrix(kv, m_ > 1 && kv_divide_);
  for (int i = 0; i < (c_.gated_mlp ? 3 : 2); ++i) matrix(c_.ffn, m_ > 1);
  out_.shared_flops.push_back({Phase::optimizer, "update", c_.layers * flops * out_.ranks / owners});
  const auto exchange = [&](const char* axis, int64_t elements) {
    out_.exchanged.push_back({axis, "all_to_all", "matrices", elements * (f32_bytes + products)});
  };
  if (shards() > 1) exchange("data", c_.layers * parts / shards());
  if (m_ > 1) exchange("model", c_.layers * split / owners);
}

// What is held or done more than once, and what is there only to make parts equal.
void Plan::add_copies() {
  const auto say = [&](std::string text) { out_.copies.push_back(std::move(text)); };
  const auto text = [](int64_t value) { return with_commas(value); };
  const config::BatchConfig& batch = run_.batch();
  const int64_t sequences = k_ * B_ * d_ * p_, rows = m_ * table_rows_;
  if (T_ != batch.tokens_per_sequence()) {
    say("padding: " + text(batch.tokens_per_sequence()) + " tokens of a sequence count as " + text(T_));
  }
  if (sequences != batch.global_sequences()) {
    say("padding: " + text(batch.global_sequences()) + " sequences count as " + text(sequences));
  }
  if (rows != c_.vocab) say("padding: " + text(c_.vocab) + " rows of the vocabulary count as " + text(rows));
  int64_t elements = 0;
  for (const UnitSize& unit : units_) elements += flat(unit);
  const ParameterCount count = count_parameters(c_);
  say("padding: a model rank's flat buffers hold " + text(elements) + " elements, of " +
      text(count.embedding + count.other) + " parameters in all");
  const std::string ranks = " model ranks ";
  if (whole_kv_) {
    say("replicas: all " + text(c_.kv_heads) + " key/value heads are held by each of " + text(m_) + ranks +
        "and computed by each for its own tokens");
  }
  if (m_ > 1) {
    say("replicas: norms are held by each of " + text(m_) + ranks +
        "and applied by each to its own tokens; logits are computed for the normaliser and again for the "
        "gradient");
  }
  const int64_t stage = run_.zero().stage();
  if (d_ > 1 && stage < 3) {
    static constexpr const char* kHeld[] = {"weights, gradients and optimizer states",
                                            "weights and gradients", "weights"};
    say("replicas: " + std::string(kHeld[stage]) + " are held by each of " + text(d_) + " data ranks");
  }
  if (p_ > 1) say("replicas: every pod of " + text(p_) + " holds the whole model and its optimizer states");
}

// Operators do not say which matrix they multiply with; attention and the loss do.
std::string kind_of_part(const std::string& part) {
  if (part == "attention") return part;
  return part == "head" ? "loss" : "products";
}

std::string kind_of_operator(std::string_view op) {
  if (op.starts_with("matmul") || op == "symmetric_product") return "products";
  if (op.starts_with("attention")) return "attention";
  return op.starts_with("loss") ? "loss" : std::string(op);
}

std::string flops_text(int64_t flops) {
  return fmt::format("{:.4g}", static_cast<double>(flops));
}

// Calls found(key, planned, recorded) where the maps differ.
template <class Found>
void differences(const std::map<std::string, int64_t>& planned,
                 const std::map<std::string, int64_t>& recorded, const Found& found) {
  std::map<std::string, std::pair<int64_t, int64_t>> both;
  for (const auto& [key, value] : planned) both[key].first = value;
  for (const auto& [key, value] : recorded) both[key].second = value;
  for (const auto& [key, values] : both) {
    if (values.first != values.second) found(key, values.first, values.second);
  }
}

}  // namespace

int64_t RankWork::all_flops() const {
  int64_t sum = 0;
  for (const auto& [key, value] : flops) sum += value;
  return sum;
}

RankWork recorded_work(std::span<const Record> records) {
  RankWork work;
  for (const Record& record : records) {
    if (record.kind == Record::Kind::transfer && record.info->bytes > 0) {
      work.bytes[record.info->axis + " " + record.info->operation] += record.info->bytes;
    }
    for (const Product& product : record.cost.products) {
      work.flops[std::string(name_of(record.phase)) + " " + kind_of_operator(record.op)] += product.flops();
    }
  }
  return work;
}

int64_t PlannedWork::flops_of_all() const {
  int64_t all = ranks * of_a_rank().all_flops();
  for (const Flops& each : shared_flops) all += each.flops;
  return all;
}

RankWork PlannedWork::of_a_rank() const {
  RankWork work;
  for (const Flops& each : flops)
    work.flops[std::string(name_of(each.phase)) + " " + kind_of_part(each.part)] += each.flops;
  for (const Bytes& each : bytes) work.bytes[each.axis + " " + each.operation] += each.bytes;
  return work;
}

PlannedWork planned_work(const config::RunConfig& run) {
  PlannedWork planned = Plan(run).make();
  config::RunConfig alone = run;
  alone.clear_mesh();
  alone.mutable_batch()->set_sequences_per_replica(1);
  alone.mutable_train()->set_deterministic(false);
  planned.needed_flops = Plan(alone).make().flops_of_all();
  return planned;
}

std::vector<std::string> compare_work(const PlannedWork& planned, std::span<const RankWork> recorded) {
  constexpr size_t kNamed = 8;
  std::vector<std::string> out;
  if (static_cast<int64_t>(recorded.size()) != planned.ranks) {
    return {"the layout has " + std::to_string(planned.ranks) + " ranks, and " +
            std::to_string(recorded.size()) + " reported"};
  }
  std::vector<RankWork> alike(recorded.begin(), recorded.end());
  for (const PlannedWork::Flops& each : planned.shared_flops) {
    const std::string key = std::string(name_of(each.phase)) + " " + kind_of_part(each.part);
    int64_t all = 0;
    for (RankWork& rank : alike) all += std::exchange(rank.flops[key], 0);
    if (all != each.flops) {
      out.push_back("all ranks: " + key + " took " + with_commas(all) + " FLOPs, and the formula gives " +
                    with_commas(each.flops));
    }
  }
  for (const PlannedWork::Bytes& each : planned.exchanged) {
    const std::string key = each.axis + " " + each.operation;
    std::optional<int64_t> first;
    for (size_t rank = 0; rank < alike.size(); ++rank) {
      const int64_t bytes = std::exchange(alike[rank].bytes[key], 0);
      if (bytes < each.bytes || bytes != first.value_or(bytes)) {
        out.push_back("rank " + std::to_string(rank) + ": " + key + " moved " + with_commas(bytes) +
                      " bytes, and all ranks alike move at least " + with_commas(each.bytes));
      }
      first = first.value_or(bytes);
    }
  }
  const RankWork expected = planned.of_a_rank();
  for (size_t rank = 0; rank < alike.size(); ++rank) {
    const std::string who = "rank " + std::to_string(rank) + ": ";
    differences(expected.flops, alike[rank].flops, [&](const std::string& key, int64_t plan, int64_t did) {
      out.push_back(who + key + " took " + with_commas(did) + " FLOPs, and the formula gives " +
                    with_commas(plan));
    });
    differences(expected.bytes, alike[rank].bytes, [&](const std::string& key, int64_t plan, int64_t did) {
      out.push_back(who + key + " moved " + with_commas(did) + " bytes, and the formula gives " +
                    with_commas(plan));
    });
  }
  if (out.size() > kNamed) {
    const size_t more = out.size() - kNamed;
    out.resize(kNamed);
    out.push_back("and " + std::to_string(more) + " figures more");
  }
  return out;
}

std::vector<std::string> describe(const PlannedWork& planned) {
  const RankWork rank = planned.of_a_rank();
  std::map<std::string, int64_t> parts, phases;
  for (const PlannedWork::Flops& each : planned.flops) {
    parts[each.part] += each.flops;
    phases[std::string(name_of(each.phase))] += each.flops;
  }
  const auto list = [](const std::map<std::string, int64_t>& sums, const auto& text) {
    std::string out;
    for (const auto& [name, value] : sums) out += (out.empty() ? "" : ", ") + name + " " + text(value);
    return out;
  };
  std::vector<std::string> out;
  out.push_back("a rank's matmul FLOPs: " + flops_text(rank.all_flops()) + " (" + list(parts, flops_text) +
                "; " + list(phases, flops_text) + ")");
  std::map<std::string, std::map<std::string, std::map<std::string, int64_t>>> axes;
  for (const PlannedWork::Bytes& each : planned.bytes)
    axes[each.axis][each.operation][each.what] += each.bytes;
  for (const auto& [axis, operations] : axes) {
    std::string line;
    for (const auto& [operation, sums] : operations) {
      line += (line.empty() ? "" : "; ") + operation + " " +
              human_bytes(rank.bytes.at(axis + " " + operation)) + " (" + list(sums, human_bytes) + ")";
    }
    out.push_back(axis + " axis: " + line);
  }
  for (const PlannedWork::Flops& each : planned.shared_flops) {
    out.push_back("all ranks' matmul FLOPs of the update, each matrix's at its owner: " +
                  flops_text(each.flops));
  }
  for (const PlannedWork::Bytes& each : planned.exchanged) {
    out.push_back(each.axis + " axis: " + each.operation + " of at least " + human_bytes(each.bytes) + " (" +
                  each.what + " to their owners and back, in blocks of the fullest)");
  }
  const auto all = static_cast<double>(planned.flops_of_all());
  out.push_back(
      fmt::format("all {} ranks: {:.4g} matmul FLOPs, {:.2f} % more than one rank needs without padding",
                  planned.ranks, all, 100 * (all / static_cast<double>(planned.needed_flops) - 1)));
  out.insert(out.end(), planned.copies.begin(), planned.copies.end());
  return out;
}

}  // namespace toroid::train
