#include "core/device/cpu/onednn.h"

#include <omp.h>

#include <array>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>

#include "core/base/error.h"

namespace toroid::cpu {
namespace {

using Desc = dnnl::memory::desc;

constexpr int64_t kCanonicalRows = 1024;  // a layout is chosen for this m and serves every m
constexpr size_t kCachedProducts = 512;

dnnl::memory::data_type type_of(DType type) {
  switch (type) {
    case DType::bf16:
      return dnnl::memory::data_type::bf16;
    case DType::f32:
      return dnnl::memory::data_type::f32;
    default:
      throw InternalError("oneDNN's products are bf16 or f32, not " + std::string(name_of(type)));
  }
}

// Process-wide, as the instruction set and oneDNN's own primitive cache are: a kernel is a plain function.
struct State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::mutex mutex;
  std::map<std::tuple<DType, int64_t, int64_t, bool>, PackedFormat> formats;
  std::map<Product::Shape, std::shared_ptr<const Product>> products;
};

State& state() {
  static State instance;
  return instance;
}

dnnl::primitive_attr attributes(bool accumulate) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attr.set_post_ops(sum);
  }
  return attr;
}

Desc dense(DType type, int64_t rows, int64_t columns) {
  return {{rows, columns}, type_of(type), dnnl::memory::format_tag::ab};
}

bool is_fast(const dnnl::matmul::primitive_desc& made) {
  return std::string_view(made.impl_info_str()).find("ref") == std::string_view::npos;
}

Desc weights_desc(const PackedFormat& format) {
  using Tag = dnnl::memory::format_tag;
  if (!format.blocked)
    return {{format.k, format.n}, type_of(format.type), format.transposed ? Tag::ba : Tag::ab};
  Tag tag = Tag::undef;
  if (format.type == DType::bf16) {
    tag = format.n_block == 64 ? Tag::BA16a64b2a : format.n_block == 32 ? Tag::BA16a32b2a : Tag::BA16a16b2a;
  } else {
    tag = format.n_block == 64 ? Tag::BA16a64b : format.n_block == 32 ? Tag::BA16a32b : Tag::BA16a16b;
  }
  return {{format.k, format.n}, type_of(format.type), tag};
}

// The widest block of columns for which oneDNN has a fast product: one block for all sizes, so that a slice
// of columns of a packed matrix is itself a packed matrix.
PackedFormat choose_format(DType type, int64_t k, int64_t n, bool transposed) {
  const PackedFormat plain{.type = type, .k = k, .n = n, .transposed = transposed};
  if (instruction_set() <= Isa::avx2) return plain;
  for (const int64_t n_block : {64, 32, 16}) {
    PackedFormat format = plain;
    format.blocked = true;
    format.transposed = false;
    format.group = type == DType::bf16 ? 2 : 1;
    format.k_block = 16 * format.group;
    format.n_block = n_block;
    const dnnl::matmul::primitive_desc made(
        {dense(type, kCanonicalRows, k), weights_desc(format), dense(DType::f32, kCanonicalRows, n)},
        attributes(false), state().engine);
    if (is_fast(made)) return format;
  }
  return plain;
}

}  // namespace

PackedFormat packed_format(DType product_type, int64_t k, int64_t n, bool transposed) {
  const std::tuple key(product_type, k, n, transposed);
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    if (const auto at = s.formats.find(key); at != s.formats.end()) return at->second;
  }
  const ThreadScope one(1);
  const PackedFormat format = choose_format(product_type, k, n, transposed);
  const std::lock_guard lock(s.mutex);
  if (s.formats.size() > 4 * kCachedProducts) s.formats.clear();
  return s.formats.emplace(key, format).first->second;
}

PackedFormat widened_format(int64_t k, int64_t n) {
  return {.type = DType::bf16, .k = k, .n = n, .blocked = true, .k_block = 16, .n_block = 64};
}

struct Product::Parts {
  Desc a, b, c, scratch;
  dnnl::matmul primitive;
};

Product::Product() : parts_(std::make_unique<Parts>()) {}
Product::~Product() = default;

std::shared_ptr<const Product> Product::get(const Shape& shape) {
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    if (const auto at = s.products.find(shape); at != s.products.end()) return at->second;
  }
  auto product = std::make_shared<Product>();
  Parts& parts = *product->parts_;
  parts.a = dense(shape.type, shape.m, shape.k);
  parts.b = weights_desc(packed_format(shape.type, shape.k, shape.n, shape.transposed));
  parts.c = dense(shape.out, shape.m, shape.n);
  {
    const ThreadScope scope(shape.threads);
    const dnnl::matmul::primitive_desc made({parts.a, parts.b, parts.c}, attributes(shape.accumulate),
                                            s.engine);
    parts.primitive = dnnl::matmul(made);
    parts.scratch = made.scratchpad_desc();
  }
  product->scratch_bytes_ = static_cast<int64_t>(parts.scratch.get_size());
  const std::lock_guard lock(s.mutex);
  if (s.products.size() >= kCachedProducts) s.products.clear();  // whoever uses one still owns it
  return s.products.emplace(shape, std::move(product)).first->second;
}

struct ProductRun::Handles {
  dnnl::memory a, b, c, scratch;
};

ProductRun::ProductRun(std::shared_ptr<const Product> product)
    : product_(std::move(product)), handles_(std::make_unique<Handles>()) {
  const dnnl::engine& engine = state().engine;
  const Product::Parts& parts = *product_->parts_;
  handles_->a = dnnl::memory(parts.a, engine, nullptr);
  handles_->b = dnnl::memory(parts.b, engine, nullptr);
  handles_->c = dnnl::memory(parts.c, engine, nullptr);
  handles_->scratch = dnnl::memory(parts.scratch, engine, nullptr);
}

ProductRun::~ProductRun() = default;

void ProductRun::operator()(const void* a, const void* b, void* c, std::byte* scratch) {
  Handles& h = *handles_;
  h.a.set_data_handle(const_cast<void*>(a));  // read only: oneDNN's handles know no const
  h.b.set_data_handle(const_cast<void*>(b));
  h.c.set_data_handle(c);
  h.scratch.set_data_handle(scratch);
  const std::array<dnnl_exec_arg_t, 4> arguments{{{DNNL_ARG_SRC, h.a.get()},
                                                  {DNNL_ARG_WEIGHTS, h.b.get()},
                                                  {DNNL_ARG_DST, h.c.get()},
                                                  {DNNL_ARG_SCRATCHPAD, h.scratch.get()}}};
  const dnnl_status_t status = dnnl_primitive_execute(product_->parts_->primitive.get(), state().stream.get(),
                                                      static_cast<int>(arguments.size()), arguments.data());
  if (status != dnnl_success) throw InternalError("oneDNN failed to execute a matrix product");
}

ProductRun& ProductRuns::operator()(const Product::Shape& shape) {
  for (const Entry& entry : entries_) {
    if (entry.shape == shape) return *entry.run;
  }
  entries_.push_back({shape, std::make_unique<ProductRun>(Product::get(shape))});
  return *entries_.back().run;
}

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(threads);
}
ThreadScope::~ThreadScope() {
  omp_set_num_threads(before_);
}

}  // namespace toroid::cpu
