// From bytes of pixels to numbers around 0.
#pragma once

#include <vector>

#include "autograd/tensor.h"

namespace tandem::data {

// Mean and standard deviation per channel, of pixels in [0, 1].
struct Normalization {
  std::vector<double> mean, stddev;  // one of each per channel
};

// ConfigError unless there is a finite mean and a deviation above 0 for each of the channels.
void check_normalization(const Normalization& normalization, size_t channels);

// A pixel p (0 to 255) of a channel becomes shift + scale p.
struct PixelScale {
  std::vector<float> scale, shift;  // one of each per channel
};
PixelScale pixel_scale(const Normalization& normalization);

// u8 [B, C, H, W], in one pass or several, becomes f32 where it is.
void normalise(const PixelScale& pixels, Tensor& x);

}  // namespace tandem::data
