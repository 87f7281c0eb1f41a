// Reductions, the verdict on a step, the update rules, wires and checksums: vectors of n elements.
#include "core/op/checksum.h"
#include "core/op/combine.h"
#include "core/op/momentum.h"
#include "core/op/outer.h"
#include "core/op/reduce.h"
#include "core/op/update.h"
#include "core/op/wire.h"
#include "tests/core/device/cuda/hash_cases.h"

namespace toroid::testing {
namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16;
constexpr int64_t kLengths[] = {4097, 3 * 4096 + 8};

Tensor control(FixedInputs& in) {
  return in.filled(f32, {op::kControlSize}, {1.0, 0.7, 3e-2, 1.0, 5.0, 100.0, 0.0});
}
Tensor updated(FixedInputs& in, double updates) {
  return in.filled(f32, {op::kStateSize}, {updates, 0, 0, 0, 0, 0, 0, 0});
}

void add_reductions(HashCases& cases) {
  for (const int64_t n : kLengths) {
    const std::string size = " n=" + std::to_string(n);
    const int64_t blocks = op::reduce_blocks(n);
    cases.push_back({&op::sum_kind, "f32" + size, [=](FixedInputs& in) {
                       return op::sum(in.numbers(1, f32, {n}), in.numbers(2, f32, {1}), {true});
                     }});
    cases.push_back({&op::sum_squares_kind, "f32" + size, [=](FixedInputs& in) {
                       return op::sum_squares(in.numbers(1, f32, {n}), in.output(f32, {blocks}));
                     }});
    for (const DType type : kHashedTypes) {
      cases.push_back({&op::unit_norm_kind, text_of(type) + size, [=](FixedInputs& in) {
                         return op::unit_norm(in.numbers(1, f32, {n}), in.positive(2, f32, {blocks}, 1024),
                                              in.output(type, {n}), {1e-3});
                       }});
    }
    cases.push_back({&op::checksum_kind, "f32 and bf16" + size, [=](FixedInputs& in) {
                       const Tensor arrays[] = {in.numbers(1, f32, {n}), in.numbers(2, bf16, {n})};
                       return op::checksum(arrays, in.output(DType::i64, {2 * op::checksum_blocks(n), 2}));
                     }});
  }
  cases.push_back(
      {&op::compare_checksums_kind, "i64", [](FixedInputs& in) {
         const Tensor expected = in.output(DType::i64, {300, 2}), found = in.output(DType::i64, {300, 2});
         FixedWords words(1);
         for (int64_t i = 0; i < 600; ++i)
           expected.as<uint64_t>()[i] = found.as<uint64_t>()[i] = words.next();
         for (const int64_t i : {151, 599}) found.as<uint64_t>()[i] -= 77;
         return op::compare_checksums(expected, found, in.output(DType::i64, {op::kDifferingSize}));
       }});
}

void add_update_rules(HashCases& cases) {
  for (const double clip : {0.0, 0.5}) {
    cases.push_back({&op::decide_kind, clip > 0 ? "f32 clipped" : "f32", [=](FixedInputs& in) {
                       // update_count, skipped, in a row, loss mean and square, norm mean and square, seen
                       return op::decide(
                           in.positive(1, f32, {4097}, 0.25), in.filled(f32, {1}, {50}),
                           in.filled(f32, {1}, {10}), in.filled(f32, {1}, {3e-4}), in.filled(f32, {1}, {1}),
                           in.filled(f32, {op::kStateSize}, {150, 3, 2, 5, 25.01, 36, 1300, 150}),
                           in.output(f32, {op::kControlSize}), {clip, 6.0, 0.98, 100});
                     }});
  }
  for (const int64_t n : kLengths) {
    const std::string size = " n=" + std::to_string(n);
    // Runs of a tensor that begin anywhere, and rows that the model axis cut.
    const op::RunIndex index = n % 8 == 0 ? op::RunIndex{.start = 4096}
                                          : op::RunIndex{.start = 5, .width = 3, .stride = 11, .column = 6};
    for (const DType type : kHashedTypes) {
      const std::string name = text_of(type) + size;
      cases.push_back({&op::adamw_kind, name, [=](FixedInputs& in) {
                         op::AdamWSpec spec;
                         spec.rounding = {random_key(3, Purpose::round, "w"), index};
                         return op::adamw(in.numbers(1, f32, {n}), updated(in, 7), control(in),
                                          in.numbers(2, f32, {n}), in.numbers(3, type, {n}, 0.125),
                                          in.positive(4, type, {n}, 0.125), spec, in.output(bf16, {n}));
                       }});
      cases.push_back({&op::ema_kind, name, [=](FixedInputs& in) {
                         return op::ema(in.numbers(1, f32, {n}), control(in), in.numbers(2, type, {n}),
                                        {0.99, {random_key(3, Purpose::round, "ema w"), index}},
                                        updated(in, 9));
                       }});
      cases.push_back(
          {&op::descend_kind, name, [=](FixedInputs& in) {
             return op::descend(in.numbers(1, type, {n}), control(in), in.numbers(2, f32, {n}), {0.2, 0.1});
           }});
    }
    cases.push_back({&op::momentum_kind, "f32" + size, [=](FixedInputs& in) {
                       return op::momentum(in.numbers(1, f32, {n}), control(in), in.numbers(2, f32, {n}),
                                           in.output(f32, {n}), {0.95, 0.05, true});
                     }});
    cases.push_back({&op::lion_kind, "f32" + size, [=](FixedInputs& in) {
                       return op::lion(in.numbers(1, f32, {n}), control(in), in.numbers(2, f32, {n}),
                                       in.numbers(3, f32, {n}), {0.9, 0.99, 0.3});
                     }});
    cases.push_back({&op::outer_gradient_kind, "f32" + size, [=](FixedInputs& in) {
                       return op::outer_gradient(in.numbers(1, f32, {n}), in.numbers(2, f32, {n}),
                                                 in.output(f32, {n}));
                     }});
    cases.push_back({&op::nesterov_kind, "f32" + size, [=](FixedInputs& in) {
                       return op::nesterov(in.numbers(1, f32, {n}), in.numbers(2, f32, {n}),
                                           in.numbers(3, f32, {n}), in.output(f32, {n}), {0.7, 0.9, 3});
                     }});
  }
}

void add_wires(HashCases& cases) {
  constexpr int64_t kBlocks = 18, n = kBlocks * op::kQuantBlock, kRanks = 5;
  for (const DType type : {bf16, DType::u8}) {
    cases.push_back({&op::compress_kind, text_of(type), [=](FixedInputs& in) {
                       const int64_t wire = type == bf16 ? n : op::quantised_bytes(n);
                       return op::compress(in.numbers(1, f32, {n}), in.numbers(2, f32, {n}, 0.125),
                                           in.output(type, {wire}));
                     }});
  }
  for (const DType type : kHashedTypes) {
    for (const op::RowOrder order : {op::RowOrder::in_turn, op::RowOrder::tree}) {
      cases.push_back({&op::sum_wires_kind,
                       text_of(type) + (order == op::RowOrder::tree ? " as a tree" : " in turn"),
                       [=](FixedInputs& in) {
                         return op::sum_wires(in.numbers(1, type, {kRanks, 1283}, 1, 1286),
                                              in.output(f32, {1283}), order);
                       }});
    }
  }
  cases.push_back({&op::sum_wires_kind, "u8", [](FixedInputs& in) {
                     const int64_t wire = op::quantised_bytes(n), stride = wire + 516;
                     const Tensor wires = in.output(DType::u8, {kRanks, wire}, stride);
                     FixedWords words(1);
                     for (int64_t block = 0; block < kRanks * kBlocks; ++block) {
                       uint8_t* const to = wires.as<uint8_t>() + block / kBlocks * stride +
                                           block % kBlocks * op::kQuantBlockBytes;
                       for (int64_t i = 0; i < op::kQuantBlock; ++i)
                         to[i] = static_cast<uint8_t>(static_cast<int64_t>(words.next() % 255) - 127);
                       const uint64_t scale = 0x3c00 + words.next() % 256;  // between 2^-7 and 2^-5
                       to[op::kQuantBlock] = static_cast<uint8_t>(scale & 0xff);
                       to[op::kQuantBlock + 1] = static_cast<uint8_t>(scale >> 8);
                     }
                     return op::sum_wires(wires, in.output(f32, {n}));
                   }});
}

}  // namespace

void add_update_hash_cases(HashCases& cases) {
  add_reductions(cases);
  add_update_rules(cases);
  add_wires(cases);
}

}  // namespace toroid::testing
