#include "nn/data/photos/color.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>

namespace tandem::data {
namespace {

constexpr int kLevels = 256;
using Table = std::array<uint8_t, kLevels>;

uint8_t to_byte(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

// ITU-R 601: as Pillow weighs red, green and blue, in 16 bits.
int gray(const uint8_t* pixel) {
  return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}

// Each channel becomes other + factor (itself - other).
template <class Other> void blend(Photo& photo, double factor, Other other) {
  for (size_t i = 0; i < photo.pixels.size(); i += 4) {
    uint8_t* pixel = photo.pixels.data() + i;
    const double base = other(pixel);
    for (int c = 0; c < 3; ++c) pixel[c] = to_byte(base + factor * (pixel[c] - base));
  }
}

void look_up(Photo& photo, int channel, const Table& table) {
  for (size_t i = static_cast<size_t>(channel); i < photo.pixels.size(); i += 4)
    photo.pixels[i] = table[photo.pixels[i]];
}

template <class Value> Table table_of(Value value) {
  Table table;
  for (int i = 0; i < kLevels; ++i) table[i] = value(i);
  return table;
}

std::array<int64_t, kLevels> histogram(const Photo& photo, int channel) {
  std::array<int64_t, kLevels> counts = {};
  for (size_t i = static_cast<size_t>(channel); i < photo.pixels.size(); i += 4) ++counts[photo.pixels[i]];
  return counts;
}

}  // namespace

void change_brightness(Photo& photo, double factor) {
  blend(photo, factor, [](const uint8_t*) { return 0; });
}

void change_saturation(Photo& photo, double factor) { blend(photo, factor, gray); }

void change_contrast(Photo& photo, double factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < photo.pixels.size(); i += 4) sum += gray(photo.pixels.data() + i);
  const auto mean =
      static_cast<int>(static_cast<double>(sum) / (static_cast<double>(photo.pixels.size()) / 4) + 0.5);
  blend(photo, factor, [mean](const uint8_t*) { return mean; });
}

void change_sharpness(Photo& photo, double factor) {
  const Photo old = photo;
  const int64_t row = photo.width * 4;
  for (int64_t y = 1; y + 1 < photo.height; ++y) {
    for (int64_t x = 1; x + 1 < photo.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const uint8_t* at = old.pixels.data() + y * row + x * 4 + c;
        int sum = 4 * at[0];  // the middle counts five times
        for (int64_t dy = -row; dy <= row; dy += row) sum += at[dy - 4] + at[dy] + at[dy + 4];
        const double blurred = (sum + 6) / 13;
        photo.pixels[y * row + x * 4 + c] = to_byte(blurred + factor * (at[0] - blurred));
      }
    }
  }
}

void posterize(Photo& photo, int bits) {
  const Table table = table_of([&](int i) { return static_cast<uint8_t>(i & (0xff << (8 - bits))); });
  for (int c = 0; c < 3; ++c) look_up(photo, c, table);
}

void solarize(Photo& photo, int threshold) {
  const Table table = table_of([&](int i) { return static_cast<uint8_t>(i < threshold ? i : 255 - i); });
  for (int c = 0; c < 3; ++c) look_up(photo, c, table);
}

void autocontrast(Photo& photo) {
  for (int c = 0; c < 3; ++c) {
    const auto counts = histogram(photo, c);
    int low = 0, high = kLevels - 1;
    while (low < high && counts[low] == 0) ++low;
    while (low < high && counts[high] == 0) --high;
    if (low >= high) continue;
    const double scale = 255.0 / (high - low);
    look_up(photo, c, table_of([&](int i) { return to_byte(i * scale - low * scale); }));
  }
}

void equalize(Photo& photo) {
  for (int c = 0; c < 3; ++c) {
    const auto counts = histogram(photo, c);
    int last = kLevels - 1;
    while (counts[last] == 0) --last;
    const int64_t step = (photo.height * photo.width - counts[last]) / 255;
    if (step == 0) continue;
    int64_t sum = step / 2;
    look_up(photo, c, table_of([&](int i) {
              const int64_t level = sum / step;
              sum += counts[i];
              return static_cast<uint8_t>(std::min<int64_t>(level, 255));
            }));
  }
}

void transform(Photo& photo, const Affine& m, const uint8_t (&fill)[3]) {
  const Photo old = photo;
  const double cx = static_cast<double>(photo.width) / 2, cy = static_cast<double>(photo.height) / 2;
  uint8_t* to = photo.pixels.data();
  for (int64_t y = 0; y < photo.height; ++y) {
    for (int64_t x = 0; x < photo.width; ++x, to += 4) {
      const double dx = static_cast<double>(x) + 0.5 - cx, dy = static_cast<double>(y) + 0.5 - cy;
      const double sx = std::floor(m.a * dx + m.b * dy + m.c + cx),
                   sy = std::floor(m.d * dx + m.e * dy + m.f + cy);
      const bool inside = sx >= 0 && sy >= 0 && sx < static_cast<double>(photo.width) &&
                          sy < static_cast<double>(photo.height);
      const uint8_t* from =
          inside ? old.pixels.data() + (static_cast<int64_t>(sy) * photo.width + static_cast<int64_t>(sx)) * 4
                 : fill;
      std::copy_n(from, 3, to);
    }
  }
}

void rand_augment(Photo& photo, int operations, double magnitude, const uint8_t (&fill)[3], Draws& draws) {
  const double level = magnitude / 30;
  for (int i = 0; i < operations; ++i) {
    const int64_t operation = draws.integer(14);
    const double sign = draws.chance(0.5) ? -1 : 1, factor = 1 + sign * 0.9 * level,
                 shift = sign * level * 150.0 / 331 * static_cast<double>(photo.width),
                 angle = sign * level * 30 * std::numbers::pi / 180;
    switch (operation) {
      case 0:
        transform(photo, {.b = sign * 0.3 * level}, fill);
        break;
      case 1:
        transform(photo, {.d = sign * 0.3 * level}, fill);
        break;
      case 2:
        transform(photo, {.c = shift}, fill);
        break;
      case 3:
        transform(photo, {.f = shift}, fill);
        break;
      case 4:
        transform(photo,
                  {.a = std::cos(angle), .b = std::sin(angle), .d = -std::sin(angle), .e = std::cos(angle)},
                  fill);
        break;
      case 5:
        change_brightness(photo, factor);
        break;
      case 6:
        change_saturation(photo, factor);
        break;
      case 7:
        change_contrast(photo, factor);
        break;
      case 8:
        change_sharpness(photo, factor);
        break;
      case 9:
        posterize(photo, 8 - static_cast<int>(std::lround(4 * level)));
        break;
      case 10:
        solarize(photo, static_cast<int>(std::lround(255 * (1 - level))));
        break;
      case 11:
        autocontrast(photo);
        break;
      case 12:
        equalize(photo);
        break;
      default:  // the identity
        break;
    }
  }
}

void color_jitter(Photo& photo, double strength, Draws& draws) {
  using Change = void (*)(Photo&, double);
  std::array<Change, 3> changes{change_brightness, change_contrast, change_saturation};
  for (size_t i = changes.size() - 1; i > 0; --i)
    std::swap(changes[i], changes[static_cast<size_t>(draws.integer(static_cast<int64_t>(i) + 1))]);
  for (const Change change : changes) change(photo, draws.uniform(1 - strength, 1 + strength));
}

void erase(Photo& photo, const uint8_t (&fill)[3], Draws& draws) {
  const double area = static_cast<double>(photo.height) * static_cast<double>(photo.width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double part = area * draws.uniform(0.02, 0.33),
                 ratio = std::exp(draws.uniform(std::log(0.3), std::log(3.3)));
    const auto h = static_cast<int64_t>(std::lround(std::sqrt(part * ratio))),
               w = static_cast<int64_t>(std::lround(std::sqrt(part / ratio)));
    if (h < 1 || w < 1 || h >= photo.height || w >= photo.width) continue;
    const int64_t top = draws.integer(photo.height - h + 1), left = draws.integer(photo.width - w + 1);
    for (int64_t y = top; y < top + h; ++y)
      for (int64_t x = left; x < left + w; ++x)
        std::copy_n(fill, 3, photo.pixels.data() + (y * photo.width + x) * 4);
    return;
  }
}

}  // namespace tandem::data
