// A chip with round figures: 1e9 B/s one way a link, 1 us a hop, memory of 1e9 B/s.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "core/device/sim/chip.h"
#include "core/device/sim/chip.pb.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/mesh.pb.h"

namespace toroid::sim {

inline constexpr double kHop = 1e-6, kRate = 1e9;
inline const std::string kTorus =
    "torus { pod: 16 pod: 16 pod: 16 wrap: MULTIPLES wrap_size: 4 link_bytes_per_s: 1e9 hop_latency_s: 1e-6 "
    "}";
inline const std::string kHost = "host { chips: 8 cards: 2 card_bytes_per_s: 1e9 pcie_bytes_per_s: 4e9 }";

inline Chip chip_of(const std::string& topology = kTorus, const std::string& host = kHost) {
  config::ChipConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "name: 'round' peak { type: 'bf16' flops_per_s: 1e12 } memory { bytes: 1000000 bytes_per_s: 1e9 } " +
          topology + " " + host,
      &config));
  return make_chip(config);
}

inline mesh::Mesh mesh_of(const std::string& text) {
  config::MeshConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return mesh::Mesh(config);
}

}  // namespace toroid::sim
