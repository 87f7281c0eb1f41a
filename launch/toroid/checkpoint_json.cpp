#include "launch/toroid/checkpoint_json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

namespace toroid::launch {

using Json = nlohmann::ordered_json;

Json fault_json(const Fault& fault) {
  Json json{{"what", fault.what}};
  if (!fault.file.empty()) json["file"] = fault.file;
  if (fault.rank >= 0) json["rank"] = fault.rank;
  if (fault.last > 0) json["bytes"] = {fault.first, fault.last};
  if (!fault.tensors.empty()) json["tensors"] = Json::array();
  for (const TensorRange& tensor : fault.tensors) {
    json["tensors"].push_back(
        {{"name", tensor.name}, {"part", tensor.part}, {"elements", {tensor.first, tensor.last}}});
  }
  return json;
}

Json faults_json(const std::vector<Fault>& faults) {
  Json json = Json::array();
  for (const Fault& fault : faults) json.push_back(fault_json(fault));
  return json;
}

Json number_json(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

std::string time_text(int64_t seconds_since_1970) {
  if (seconds_since_1970 == 0) return "";
  const auto time = static_cast<std::time_t>(seconds_since_1970);
  std::tm parts{};
  if (::localtime_r(&time, &parts) == nullptr) return "";
  std::array<char, 32> text{};
  const size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return {text.data(), size};
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) text += (text.empty() ? "" : ", ") + std::to_string(dim);
  return "[" + text + "]";
}

int reading_threads() {
  // More than the cores where these are few: some wait for the disk.
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 4u, 16u));
}

void print_line(const std::string& text) {
  std::cout << text << '\n';
}

}  // namespace toroid::launch
