#include "parallel/mesh/placement.h"

#include <string>

#include "core/base/error.h"
#include "parallel/mesh/mesh.pb.h"

namespace toroid::mesh {
namespace {

// Empty where the axis does not fit.
std::vector<int64_t> fit_model(int64_t model, const std::vector<int64_t>& torus) {
  std::vector<int64_t> parts(torus.size(), 1);
  int64_t rest = model;
  for (size_t i = torus.size(); i-- > 0 && rest > 1;) {
    if (rest % torus[i] == 0) {
      parts[i] = torus[i];
      rest /= torus[i];
    } else if (torus[i] % rest == 0) {
      parts[i] = rest;
      rest = 1;
    } else {
      return {};
    }
  }
  if (rest > 1) return {};
  return parts;
}

std::string text_of(const std::vector<int64_t>& torus) {
  std::string text;
  for (const int64_t size : torus) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

}  // namespace

std::vector<int64_t> torus_of(const config::MeshConfig& config) {
  if (config.torus_size() > 0) return {config.torus().begin(), config.torus().end()};
  const int64_t data = config.data();
  const int64_t model = config.model();
  const int64_t chips = data * model;
  if (config.placement_size() > 0) {
    std::vector<int64_t> torus;
    for (const int axis : config.placement())
      torus.push_back(axis == config::MeshConfig::MODEL ? model : data);
    return torus;
  }
  constexpr int64_t kSide = 16;
  if (data > 1 && model > 1 && data <= kSide && model <= kSide) return {data, model};
  int64_t rows = 1;  // the largest divisor up to the root
  for (int64_t divisor = 1; divisor * divisor <= chips; ++divisor) {
    if (chips % divisor == 0) rows = divisor;
  }
  for (; rows > 1; --rows) {
    if (chips % rows != 0) continue;
    for (const std::vector<int64_t>& torus :
         {std::vector<int64_t>{rows, chips / rows}, {chips / rows, rows}}) {
      if (!fit_model(model, torus).empty()) return torus;
    }
  }
  return {1, chips};
}

std::vector<int64_t> model_parts_of(const config::MeshConfig& config, const std::vector<int64_t>& torus) {
  if (config.placement_size() == 0) {
    std::vector<int64_t> parts = fit_model(config.model(), torus);
    if (parts.empty()) {
      throw UserError(
          "mesh.model (" + std::to_string(config.model()) + ") is neither whole dimensions of mesh.torus (" +
          text_of(torus) +
          ") from the last one on, nor a divisor of the next; choose another mesh.torus or say in "
          "mesh.placement which dimensions are DATA and which MODEL");
    }
    return parts;
  }
  if (config.placement_size() != static_cast<int>(torus.size())) {
    throw UserError("mesh.placement has " + std::to_string(config.placement_size()) +
                    " entries, but mesh.torus (" + text_of(torus) + ") has " + std::to_string(torus.size()) +
                    " dimensions");
  }
  std::vector<int64_t> parts(torus.size(), 1);
  int64_t model = 1;
  std::string dimensions;
  for (size_t i = 0; i < torus.size(); ++i) {
    if (config.placement(static_cast<int>(i)) != config::MeshConfig::MODEL) continue;
    parts[i] = torus[i];
    model *= torus[i];
    dimensions += (dimensions.empty() ? "" : " x ") + std::to_string(torus[i]);
  }
  if (model != config.model()) {
    throw UserError("mesh.placement gives the model axis " + (dimensions.empty() ? "no" : dimensions) +
                    " chips of mesh.torus (" + text_of(torus) + "), but mesh.model is " +
                    std::to_string(config.model()));
  }
  return parts;
}

}  // namespace toroid::mesh
