// A corpus of made-up documents, prepared once for all tests of a suite, and a small config that trains on
// it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "data/prepare/prepare.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/load.h"
#include "train/loop/run.h"

namespace toroid::train {

class RunsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = std::filesystem::temp_directory_path() / ("toroid_runs." + std::to_string(::getpid()));
    std::filesystem::create_directories(root_ / "corpus" / "text");
    for (int i = 0; i < 120; ++i) {
      std::ofstream out(root_ / "corpus" / "text" / ("doc" + std::to_string(i) + ".txt"));
      for (int j = 0; j < 30; ++j) {
        out << "Document " << i << " counts " << i * j << " and says word" << (i * 7 + j * 3) % 50
            << ", then word" << (i + j * j) % 41 << ".\n";
      }
    }
    (void)prepare(resolved({}).run.data(), builtin_sources(), builtin_filters());
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(root_); }

  static config::Resolved resolved(std::vector<std::string> overrides) {
    const std::string text = R"(
      model { d_model: 32 layers: 2 heads: 4 kv_heads: 2 head_dim: 8 ffn: 48 vocab: 640 }
      batch { tokens_per_sequence: 32 global_sequences: 4 sequences_per_replica: 2 }
      optim { adamw { weight_decay: 0.1 } schedule { cosine { peak: 1e-2 warmup: 2 } } ema { decay: 0.9 } }
      train { steps: 8 seed: 3 precision: BF16 threads: 2 validate { every: 4 sequences: 4 }
              checkpoint { every: 2 keep: 8 } }
      data { directory: ")" + (root_ / "data").string() +
                             R"(" corpus: ")" + (root_ / "corpus").string() + R"("
             tokenizer { train { vocab: 640 } } validation_fraction: 0.1
             source { name: "text" path: "text" format: TEXT } })";
    return config::load_text(text, "small_run", overrides);
  }

  static TrainOptions options(const std::string& out, const std::vector<std::string>& overrides = {}) {
    TrainOptions options;
    const config::Resolved config = resolved(overrides);
    options.config = config.run;
    options.config_text = config::to_text(config);
    options.out = root_ / out;
    return options;
  }

  static std::string metrics(const std::string& out) {
    // Without the timings, which differ from run to run.
    std::ifstream in(root_ / out / "metrics.jsonl");
    std::string all;
    for (std::string line; std::getline(in, line);) {
      const size_t from = line.find("\"tokens_per_s\""), to = line.find("\"skipped\"");
      if (from != std::string::npos) line.erase(from, to - from);
      all += line + "\n";
    }
    return all;
  }

  static std::map<std::string, uint64_t> hashes(const std::string& out) {
    std::map<std::string, uint64_t> all;
    const CheckpointReader reader(root_ / out);
    for (const CheckpointTensor& tensor : reader.tensors()) {
      all[tensor.part + " " + tensor.name] = tensor.hash;
    }
    return all;
  }

  static inline Path root_;
};

}  // namespace toroid::train
