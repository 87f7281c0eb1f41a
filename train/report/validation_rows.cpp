#include "train/report/validation_rows.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace toroid::train {

std::map<int64_t, double> validation_losses(const Path& metrics) {
  std::map<int64_t, double> losses;
  std::error_code error;
  if (!std::filesystem::is_regular_file(metrics, error)) return losses;
  constexpr size_t kMostBytes = size_t{1} << 16;  // of a row
  std::ifstream in(metrics);
  for (std::string line; std::getline(in, line);) {
    if (line.size() > kMostBytes || line.find("\"validation_loss\"") == std::string::npos) continue;
    const nlohmann::json row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) continue;
    const nlohmann::json& loss = row["validation_loss"];
    if (loss.is_number()) losses[row["step"].get<int64_t>()] = loss.get<double>();
  }
  return losses;
}

}  // namespace toroid::train
