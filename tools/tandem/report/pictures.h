// Pictures of test samples inside of a page.
#pragma once

#include <string>

#include "nn/data/normalization.h"
#include "nn/data/png.h"

namespace tandem::report {

// The pixels of a model's input f32 [C, H, W]; large ones smaller, so that a page stays small.
data::Image picture(const Tensor& input, const data::Normalization& normalization);
// The same in grey, with a heat f32 [rows, columns] over it: interpolated, from its least (blue) to its most
// (yellow).
data::Image heat_map(const data::Image& picture, const Tensor& heat);
// "data:image/png;base64,...", for the src of an <img>.
std::string data_uri(const data::Image& image);

}  // namespace tandem::report
