#include "nn/data/normalization.h"

#include <cmath>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "ops/arithmetic.h"

namespace tandem::data {

void check_normalization(const Normalization& normalization, size_t channels) {
  check<ConfigError>(normalization.mean.size() == channels && normalization.stddev.size() == channels,
                     "normalization: expected {} channels, got {} means and {} deviations", channels,
                     normalization.mean.size(), normalization.stddev.size());
  for (size_t c = 0; c < channels; ++c) {
    const double mean = normalization.mean[c], stddev = normalization.stddev[c];
    check<ConfigError>(std::isfinite(mean) && std::isfinite(stddev) && stddev > 0,
                       "normalization: expected a finite mean and a deviation above 0, got {} and {}", mean,
                       stddev);
  }
}

PixelScale pixel_scale(const Normalization& normalization) {
  PixelScale result;
  for (size_t c = 0; c < normalization.mean.size(); ++c) {
    result.scale.push_back(static_cast<float>(1 / (255 * normalization.stddev[c])));
    result.shift.push_back(static_cast<float>(-normalization.mean[c] / normalization.stddev[c]));
  }
  return result;
}

void normalise(const PixelScale& pixels, Tensor& x) {
  const NoGradGuard no_grad;
  const auto channels = [&](const std::vector<float>& values) {
    return from_values(values, {x.size(1), 1, 1}).to(x.device());
  };
  x = x.to(DType::f32) * channels(pixels.scale) + channels(pixels.shift);
}

}  // namespace tandem::data
