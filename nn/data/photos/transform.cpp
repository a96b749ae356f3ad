#include "nn/data/photos/transform.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "autograd/error.h"
#include "nn/data/photos/color.h"

namespace tandem::data {
namespace {

// A picture longer than this is cut before it is resized: nothing else of it would be seen.
constexpr int64_t kLongest = 4;  // shorter sides

Region middle(int64_t height, int64_t width, int64_t part_height, int64_t part_width) {
  const auto start = [](int64_t whole, int64_t part) {
    return static_cast<int64_t>(std::nearbyint(static_cast<double>(whole - part) / 2));
  };
  return {start(height, part_height), start(width, part_width), part_height, part_width};
}

Photo cut(const Photo& photo, const Region& region) {
  Photo part{region.height, region.width, {}};
  part.pixels.reserve(static_cast<size_t>(region.height * region.width * 4));
  for (int64_t y = 0; y < region.height; ++y) {
    const auto row = photo.pixels.begin() + ((region.top + y) * photo.width + region.left) * 4;
    part.pixels.insert(part.pixels.end(), row, row + region.width * 4);
  }
  return part;
}

// At how much less than its size a crop may be decoded: at least twice what is wanted remains.
int64_t reduction(const Region& crop, int64_t size) {
  int64_t reduce = 1;
  while (reduce < 8 && std::min(crop.height, crop.width) / (4 * reduce) >= size) reduce *= 2;
  return reduce;
}

void flip(Photo& photo) {
  for (int64_t y = 0; y < photo.height; ++y) {
    uint8_t* row = photo.pixels.data() + y * photo.width * 4;
    for (int64_t left = 0, right = photo.width - 1; left < right; ++left, --right)
      std::swap_ranges(row + left * 4, row + left * 4 + 4, row + right * 4);
  }
}

}  // namespace

double Draws::uniform() {
  const uint64_t high = single_draw(key_, pass_, sample_, position_),
                 low = single_draw(key_, pass_, sample_, position_ + 1);
  position_ += 2;
  return static_cast<double>((high << 32 | low) >> 11) * 0x1p-53;
}

double Draws::uniform(double low, double high) { return low + (high - low) * uniform(); }

int64_t Draws::integer(int64_t end) {
  return std::min(static_cast<int64_t>(uniform() * static_cast<double>(std::max<int64_t>(end, 0))),
                  std::max<int64_t>(end - 1, 0));
}

void check_augmentation(const PhotoAugmentation& a) {
  check<ConfigError>(a.crop_scale > 0 && a.crop_scale <= 1,
                     "crop_scale: expected a number above 0 and at most 1, got {}", a.crop_scale);
  const auto probability = [](const char* name, double p) {
    check<ConfigError>(p >= 0 && p <= 1, "{}: expected a number from 0 to 1, got {}", name, p);
  };
  probability("flip", a.flip), probability("color_jitter", a.color_jitter), probability("erasing", a.erasing);
  check<ConfigError>(a.rand_augment >= 0 && a.rand_augment <= 16,
                     "rand_augment: expected 0 to 16 operations, got {}", a.rand_augment);
  check<ConfigError>(a.magnitude >= 0 && a.magnitude <= 30,
                     "magnitude: expected a number from 0 to 30, got {}", a.magnitude);
}

Region random_crop(int64_t height, int64_t width, double least, Draws& draws) {
  constexpr double kNarrow = 3.0 / 4, kWide = 4.0 / 3;
  const double area = static_cast<double>(height) * static_cast<double>(width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double part = area * draws.uniform(least, 1),
                 ratio = std::exp(draws.uniform(std::log(kNarrow), std::log(kWide)));
    const auto w = static_cast<int64_t>(std::lround(std::sqrt(part * ratio))),
               h = static_cast<int64_t>(std::lround(std::sqrt(part / ratio)));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const int64_t top = draws.integer(height - h + 1), left = draws.integer(width - w + 1);
    return {top, left, h, w};
  }
  // Of a shape that none fits into: the middle.
  const double shape = static_cast<double>(width) / static_cast<double>(height);
  const auto scaled = [](int64_t side, double by) {
    return std::max<int64_t>(std::lround(static_cast<double>(side) * by), 1);
  };
  if (shape < kNarrow) return middle(height, width, std::min(scaled(width, 1 / kNarrow), height), width);
  if (shape > kWide) return middle(height, width, height, std::min(scaled(height, kWide), width));
  return {0, 0, height, width};
}

Photo evaluation_view(const PhotoFile& file, const PhotoView& view) {
  int64_t height = file.info().height, width = file.info().width;
  const int64_t shorter = std::min(height, width);
  const Region seen =
      middle(height, width, std::min(height, kLongest * shorter), std::min(width, kLongest * shorter));
  const int64_t side =
      std::max(view.size, static_cast<int64_t>(std::floor(static_cast<double>(view.size) / view.crop_pct)));
  const auto other = [&](int64_t longer) {
    return std::max(view.size, static_cast<int64_t>(static_cast<double>(side) * static_cast<double>(longer) /
                                                    static_cast<double>(shorter)));
  };
  height = seen.height <= seen.width ? side : other(seen.height);
  width = seen.width <= seen.height ? side : other(seen.width);
  return cut(resize(file.read(seen), height, width, view.interpolation),
             middle(height, width, view.size, view.size));
}

Image planes(const Photo& photo) {
  const int64_t area = photo.height * photo.width;
  Image image{3, photo.height, photo.width, std::vector<uint8_t>(static_cast<size_t>(3 * area))};
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t i = 0; i < area; ++i) image.pixels[c * area + i] = photo.pixels[4 * i + c];
  return image;
}

Photo training_view(const PhotoFile& file, const PhotoView& view, const PhotoAugmentation& augmentation,
                    const uint8_t (&fill)[3], Draws& draws) {
  Photo photo;
  if (augmentation.crop_scale == 1) {
    photo = evaluation_view(file, view);
  } else {
    const Region crop = random_crop(file.info().height, file.info().width, augmentation.crop_scale, draws);
    photo = resize(file.read(crop, reduction(crop, view.size)), view.size, view.size, view.interpolation);
  }
  if (draws.chance(augmentation.flip)) flip(photo);
  if (augmentation.rand_augment > 0)
    rand_augment(photo, augmentation.rand_augment, augmentation.magnitude, fill, draws);
  if (augmentation.color_jitter > 0) color_jitter(photo, augmentation.color_jitter, draws);
  if (draws.chance(augmentation.erasing)) erase(photo, fill, draws);
  return photo;
}

}  // namespace tandem::data
