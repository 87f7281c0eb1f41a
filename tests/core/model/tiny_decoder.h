// A decoder small enough for finite differences, on the reference device: units with weights that can be
// moved, and a microbatch of two documents. B sequences of T tokens, M = B T.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/device/reference_device.h"
#include "core/model/ends.h"
#include "core/model/layer.h"
#include "core/op/matmul.h"
#include "core/op/reference.h"

namespace toroid::testing {

// Grouped queries, the second of two layers with a window. Tests change what they are about.
inline DecoderConfig tiny_config() {
  DecoderConfig config;
  config.d_model = 6;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 4;
  config.ffn = 8;
  config.vocab = 11;
  config.attention_scale = 0.5;
  config.window = 3;
  config.local = {false, true};
  return config;
}

// One rank with the reference device's memory, which tests read and write as it is.
struct TinyDecoder {
  static constexpr int64_t B = 2, T = 5, M = B * T;

  explicit TinyDecoder(const DecoderConfig& of, DType compute = DType::f64)
      : config(of), context{device, *one, compute, {}, Phase::forward} {
    batch.sequences = B;
    batch.tokens = T;
    // The second sequence holds two documents, of two and of three tokens.
    batch.ids = integers({1, 4, 2, 8, 5, 7, 10, 0, 3, 6});
    batch.targets = integers({4, 2, 8, 5, -1, 10, -1, 3, 6, -1});
    batch.positions = integers({0, 1, 2, 3, 4, 0, 1, 0, 1, 2});
    batch.starts = integers({0, 0, 0, 0, 0, 0, 0, 2, 2, 2});
    batch.scale = filled({1}, 0);
    op::store(batch.scale, std::vector<double>{0.125});
    tables = make_rope_tables(context, config, batch);
  }

  Tensor keep(Array array) {
    arrays.push_back(std::move(array));
    return arrays.back().tensor;
  }
  Tensor integers(const std::vector<int32_t>& values) {
    const Tensor tensor = keep(device.array(DType::i32, {static_cast<int64_t>(values.size())}, "batch"));
    device.write(tensor, std::as_bytes(std::span(values)));
    return tensor;
  }
  // Of the compute type, normal with that deviation.
  Tensor filled(Shape shape, double stddev) {
    const Tensor tensor = keep(device.array(context.compute, shape, "tiny"));
    const RandomKey key = random_key(3, Purpose::synthetic, "tiny " + std::to_string(arrays.size()));
    std::vector<double> values(static_cast<size_t>(shape.elements()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = stddev * normal(key, i);
    op::store(tensor, values);
    return tensor;
  }

  struct Unit {
    Weights weights;  // every tensor is there plain, so that a test can move it
    std::vector<Gradient> gradients;
  };
  Unit unit(const UnitSpec& spec) {
    Unit out;
    for (const TensorSpec& tensor : spec.tensors) {
      out.weights.tensors.push_back(filled(tensor.shape, 0.5));
      const DType exact = context.compute == DType::f64 ? DType::f64 : DType::f32;
      out.gradients.push_back({keep(device.array(exact, tensor.shape, "tiny")), true});
    }
    for (const PackSpec& pack : spec.packs) {
      int64_t rows = 0, columns = 0;
      for (const int i : pack.tensors) {
        const Shape& shape = spec.tensors[static_cast<size_t>(i)].shape;
        rows += shape[0];
        columns = shape[1];
      }
      const auto packed = [&](Layout layout) {
        return keep(device.array(context.compute, {rows, columns}, "tiny", layout));
      };
      out.weights.packs.push_back({packed(Layout::packed_forward), packed(Layout::packed_backward), {}});
    }
    pack(spec, out.weights);
    return out;
  }
  // To be called again when a tensor has changed.
  void pack(const UnitSpec& spec, const Weights& weights) {
    for (size_t i = 0; i < spec.packs.size(); ++i) {
      std::vector<Tensor> parts;
      for (const int part : spec.packs[i].tensors)
        parts.push_back(weights.tensors[static_cast<size_t>(part)]);
      device.launch(op::pack(parts, weights.packs[i].forward));
      device.launch(op::pack(parts, weights.packs[i].backward));
    }
  }
  // A copy that a stage may use up.
  Array copy(const Tensor& of) {
    Array out = device.array(of.type, of.shape, "copy");
    device.copy(out.tensor, of);
    return out;
  }

  DecoderConfig config;
  ReferenceDevice device;
  std::unique_ptr<Communicator> one = make_group_of_one();
  std::vector<Array> arrays;
  Context context;
  Microbatch batch;
  RopeTables tables;
};

}  // namespace toroid::testing
