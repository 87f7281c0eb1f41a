// What a calibration leaves of the published runs, as a picture.
#pragma once

#include <string>

#include "simulate/fit/fit.h"

namespace toroid::train {

// MFU by the number of pods of every model that was fitted on, published, simulated and by the null model;
// beside it the same with constants fitted without the model, which wants residuals.left_out.
std::string validation_svg(const config::Calibration& calibration, const Residuals& residuals);

}  // namespace toroid::train
