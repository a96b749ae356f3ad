// Resizing of images and feature maps.
#pragma once

#include <vector>

#include "autograd/tensor.h"

namespace tandem {

// What a new pixel is made of: the nearest one, the 2 x 2 or the 4 x 4 around it.
enum class Interpolation { nearest, bilinear, bicubic };

// The options of interpolate(): one of size and scale_factor is given.
struct InterpolateOptions {
  Shape size = {};                              // {height, width}, or {both}
  std::vector<double> scale_factor = {};        // of height and width, or of both: floor(size * factor)
  Interpolation mode = Interpolation::nearest;  // how
  bool align_corners = false;  // whether corners stay in place, not the edges of the corner pixels
  bool antialias = false;      // shrinking averages over all pixels that a new one covers
};

// interpolate(x, {.size = {224, 224}, .mode = Interpolation::bilinear}): x [N, C, H, W] gives [N, C, H', W'],
// with the values of torch's function of this name: a given scale_factor, not H / H', is the distance of
// pixels; bicubic is Keys' kernel with a = -0.75, antialiased -0.5. Nearest takes any dtype. The others take
// floating ones, compute bf16 in f32, and are products with two matrices, so that a pixel that is not finite
// reaches all of its map.
// ConfigError: both or none of size and scale_factor, a factor not above 0, options that are not of the mode;
// ShapeError: x without four dimensions, or an image without pixels, before or after; DTypeError.
Tensor interpolate(const Tensor& x, const InterpolateOptions& options);

}  // namespace tandem
