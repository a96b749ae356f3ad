#include "nn/data/photos/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/error.h"

namespace tandem::data {
namespace {

constexpr int kBits = 22;  // of a weight's fraction: 255 times a weight of 2 still fits
constexpr int32_t kHalf = 1 << (kBits - 1);

double triangle(double x) { return std::max(1 - std::abs(x), 0.0); }

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

// What each output pixel is made of, along one side.
struct Weights {
  struct Span {
    int64_t first, count;   // input pixels
    const int32_t* weight;  // of each
  };
  Span operator[](int64_t i) const { return {first[i], count[i], values.data() + i * most}; }

  int64_t most = 0;  // input pixels of an output pixel
  std::vector<int64_t> first, count;
  std::vector<int32_t> values;
};

Weights make_weights(int64_t from, int64_t to, Interpolation interpolation) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), wide = std::max(scale, 1.0),
               reach = wide * (interpolation == Interpolation::bicubic ? 2 : 1);
  Weights weights;
  weights.most = static_cast<int64_t>(std::ceil(reach)) * 2 + 1;
  weights.values.resize(static_cast<size_t>(weights.most * to));
  std::vector<double> exact(static_cast<size_t>(weights.most));
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(center - reach + 0.5), 0),
                  end = std::min(static_cast<int64_t>(center + reach + 0.5), from);
    double sum = 0;
    for (int64_t k = first; k < end; ++k) {
      const double at = (static_cast<double>(k) - center + 0.5) * (1 / wide);
      sum += exact[k - first] = interpolation == Interpolation::bicubic ? cubic(at) : triangle(at);
    }
    for (int64_t k = 0; k < end - first; ++k)
      weights.values[i * weights.most + k] =
          static_cast<int32_t>(std::lround(exact[k] / sum * (int64_t{1} << kBits)));
    weights.first.push_back(first), weights.count.push_back(end - first);
  }
  return weights;
}

// Two pixels at a time: most CPUs have such a vector, and every compiler that we build with.
using Pair = int32_t __attribute__((vector_size(32)));
constexpr int64_t kPair = 8;

// The weights of an output pixel, each four times, with a 0 behind an odd number of them.
std::vector<int32_t> in_pairs(const Weights& weights) {
  const int64_t each = (weights.most + 1) / 2 * kPair, outputs = std::ssize(weights.first);
  std::vector<int32_t> pairs(static_cast<size_t>(each * outputs));
  for (int64_t i = 0; i < outputs; ++i)
    for (int64_t k = 0; k < weights[i].count; ++k)
      std::fill_n(pairs.data() + i * each + 4 * k, 4, weights[i].weight[k]);
  return pairs;
}

// The rows [top, bottom) at another width.
Photo along_rows(const Photo& photo, int64_t top, int64_t bottom, int64_t width,
                 Interpolation interpolation) {
  const Weights weights = make_weights(photo.width, width, interpolation);
  const std::vector<int32_t> pairs = in_pairs(weights);
  const int64_t each = std::ssize(pairs) / width, bytes = photo.width * 4;
  Photo result{bottom - top, width, std::vector<uint8_t>(static_cast<size_t>((bottom - top) * width * 4))};
  std::vector<int32_t> row(static_cast<size_t>(bytes + 4));  // and a pixel for the 0 behind
  uint8_t* to = result.pixels.data();
  for (int64_t y = top; y < bottom; ++y) {
    const uint8_t* from = photo.pixels.data() + y * bytes;
    int32_t* wide = row.data();
#pragma omp simd
    for (int64_t i = 0; i < bytes; ++i) wide[i] = from[i];
    for (int64_t x = 0; x < width; ++x, to += 4) {
      const int32_t *pixels = wide + 4 * weights.first[x], *weight = pairs.data() + x * each;
      const int64_t end = weights.count[x] * 4;
      Pair sum = {}, pixel, by;
      for (int64_t k = 0; k < end; k += kPair) {
        std::memcpy(&pixel, pixels + k, sizeof pixel);
        std::memcpy(&by, weight + k, sizeof by);
        sum += pixel * by;
      }
      int32_t both[kPair];
      std::memcpy(both, &sum, sizeof both);
#pragma omp simd
      for (int c = 0; c < 4; ++c) to[c] = to_byte(both[c] + both[c + 4] + kHalf);
    }
  }
  return result;
}

// One output row of `bytes` bytes from rows that are `bytes` apart.
void along_column(const uint8_t* from, const Weights::Span& span, int64_t bytes, uint8_t* to) {
  constexpr int64_t kTile = 64;
  int32_t sum[kTile];
  for (int64_t begin = 0; begin < bytes; begin += kTile) {
    const int64_t n = std::min(kTile, bytes - begin);
    std::fill(sum, sum + kTile, kHalf);
    for (int64_t k = 0; k < span.count; ++k) {
      const uint8_t* row = from + k * bytes + begin;
      const int32_t weight = span.weight[k];
      if (n == kTile) {
#pragma omp simd
        for (int64_t i = 0; i < kTile; ++i) sum[i] += weight * row[i];
      } else {
        for (int64_t i = 0; i < n; ++i) sum[i] += weight * row[i];
      }
    }
    uint8_t* out = to + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = to_byte(sum[i]);
  }
}

// The photo at another height, `weights` of its rows, of which the photo begins with `top`.
Photo along_columns(const Photo& photo, int64_t top, const Weights& weights, int64_t height) {
  const int64_t bytes = photo.width * 4;
  Photo result{height, photo.width, std::vector<uint8_t>(static_cast<size_t>(height * bytes))};
  for (int64_t y = 0; y < height; ++y) {
    const Weights::Span span = weights[y];
    along_column(photo.pixels.data() + (span.first - top) * bytes, span, bytes,
                 result.pixels.data() + y * bytes);
  }
  return result;
}

}  // namespace

Interpolation parse_interpolation(std::string_view name) {
  for (const Interpolation one : {Interpolation::bilinear, Interpolation::bicubic})
    if (name == name_of(one)) return one;
  raise<ConfigError>("interpolation: expected bilinear or bicubic, got '{}'", name);
}

std::string_view name_of(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? "bilinear" : "bicubic";
}

Photo resize(const Photo& photo, int64_t height, int64_t width, Interpolation interpolation) {
  check<ValueError>(height >= 1 && width >= 1 && height * width <= kMaxPhotoPixels,
                    "resize: expected a size of 1 to {} pixels, got {}x{}", kMaxPhotoPixels, width, height);
  check<ValueError>(
      photo.height >= 1 && photo.width >= 1 && std::ssize(photo.pixels) == photo.height * photo.width * 4,
      "resize: {} bytes are no photo of {}x{} pixels", photo.pixels.size(), photo.width, photo.height);
  if (height == photo.height && width == photo.width) return photo;
  if (height == photo.height) return along_rows(photo, 0, photo.height, width, interpolation);
  const Weights weights = make_weights(photo.height, height, interpolation);
  if (width == photo.width) return along_columns(photo, 0, weights, height);
  // The side that shrinks more comes first, where that is the height by far.
  if (photo.height > height && photo.height - height > 2 * (photo.width - width)) {
    const Photo low = along_columns(photo, 0, weights, height);
    return along_rows(low, 0, height, width, interpolation);
  }
  // Only those rows that the second half reads.
  const int64_t top = weights.first.front(), bottom = weights.first.back() + weights.count.back();
  return along_columns(along_rows(photo, top, bottom, width, interpolation), top, weights, height);
}

}  // namespace tandem::data
