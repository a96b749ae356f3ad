// Resizing with antialiasing: the pixels that Pillow's and torchvision's resize give.
#pragma once

#include <string_view>

#include "nn/data/photos/photo.h"

namespace tandem::data {

// How a photo is resized.
enum class Interpolation { bilinear, bicubic };
Interpolation parse_interpolation(std::string_view name);  // ConfigError for an unknown one
std::string_view name_of(Interpolation interpolation);     // "bilinear"

// The photo at another size: each side is convolved with a triangle (bilinear) or Keys's cubic of a = -1/2
// (bicubic) that is as wide as a pixel of the result, or of the photo where that is larger. Rows and
// columns come one after the other, rows first unless the height shrinks by more than twice what the width
// does; each in 22-bit fixed point and rounded to 8 bits. ValueError for a size below 1.
Photo resize(const Photo& photo, int64_t height, int64_t width, Interpolation interpolation);

}  // namespace tandem::data
