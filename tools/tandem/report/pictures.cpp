#include "tools/tandem/report/pictures.h"

#include <algorithm>
#include <cmath>

#include "ops/ops.h"

namespace tandem::report {
namespace {

constexpr int64_t kLargest = 128, kSmallestMap = 112;  // pixels of a side

data::Image image_of(const Tensor& pixels) {  // f32 [C, H, W], 0 to 255
  data::Image image{pixels.size(0), pixels.size(1), pixels.size(2), {}};
  for (const float p : pixels.to_vector<float>())
    image.pixels.push_back(static_cast<uint8_t>(std::lround(std::clamp(p, 0.0f, 255.0f))));
  return image;
}

Tensor resized(const Tensor& x, int64_t height, int64_t width, InterpolateOptions options) {  // [C, H, W]
  options.size = {height, width};
  return interpolate(x.unsqueeze(0), options).squeeze(0);
}

// viridis' colours (Smith and van der Walt), which are as light as they are high to everyone: at 0, 1/4,
// ... 1.
constexpr double kColors[][3] = {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};

double color(double heat, int channel) {
  constexpr int kLast = std::size(kColors) - 1;
  const double at = std::clamp(heat, 0.0, 1.0) * kLast;
  const int low = std::min(static_cast<int>(at), kLast - 1);
  return kColors[low][channel] + (at - low) * (kColors[low + 1][channel] - kColors[low][channel]);
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t at) { return at < bytes.size() ? static_cast<uint8_t>(bytes[at]) : 0u; };
    const uint32_t three = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? digits[three >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

}  // namespace

data::Image picture(const Tensor& input, const data::Normalization& normalization) {
  const Tensor x = input.to(DType::f32).to(kCpu);
  Tensors planes;
  for (int64_t c = 0; c < (x.size(0) == 3 ? 3 : 1); ++c)
    planes.push_back(255 * (x.select(0, c) * normalization.stddev[c] + normalization.mean[c]));
  Tensor pixels = stack(planes, 0);
  const int64_t height = x.size(1), width = x.size(2), longer = std::max(height, width);
  if (longer > kLargest)
    pixels = resized(pixels, std::max<int64_t>(1, height * kLargest / longer),
                     std::max<int64_t>(1, width * kLargest / longer),
                     {.mode = Interpolation::bilinear, .antialias = true});
  return image_of(pixels);
}

data::Image heat_map(const data::Image& picture, const Tensor& heat) {
  const int64_t factor = std::max<int64_t>(1, (kSmallestMap + std::min(picture.height, picture.width) - 1) /
                                                  std::min(picture.height, picture.width));
  const int64_t height = factor * picture.height, width = factor * picture.width;
  const std::vector<float> all = heat.to_vector<float>();
  const auto [low, high] = std::minmax_element(all.begin(), all.end());
  const Tensor smooth =
      resized(heat.to(DType::f32).to(kCpu).unsqueeze(0), height, width, {.mode = Interpolation::bilinear});
  const std::vector<float> values = smooth.to_vector<float>();
  data::Image map{3, height, width, std::vector<uint8_t>(static_cast<size_t>(3 * height * width))};
  const int64_t area = picture.height * picture.width;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      double grey = 0;
      for (int64_t c = 0; c < picture.channels; ++c)
        grey += picture.pixels[c * area + y / factor * picture.width + x / factor];
      grey /= static_cast<double>(picture.channels);
      const double share = *high > *low ? (values[y * width + x] - *low) / (*high - *low) : 0;
      for (int c = 0; c < 3; ++c)
        map.pixels[(c * height + y) * width + x] =
            static_cast<uint8_t>(std::lround(0.4 * grey + 0.6 * color(share, c)));
    }
  }
  return map;
}

std::string data_uri(const data::Image& image) {
  return "data:image/png;base64," + base64(data::encode_png(image));
}

}  // namespace tandem::report
