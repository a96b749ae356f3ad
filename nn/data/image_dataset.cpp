#include "nn/data/image_dataset.h"

#include <algorithm>
#include <cmath>

#include "autograd/noise.h"
#include "autograd/parallel.h"
#include "nn/data/fashion_mnist.h"

namespace tandem::data {

Normalization measure_normalization(const ImageSet& images) {
  const int64_t plane = images.height * images.width;
  check<ConfigError>(images.count > 0 && plane > 0, "normalization: there is no pixel to measure");
  Normalization result{std::vector<double>(images.channels), std::vector<double>(images.channels, 1)};
  for (int64_t c = 0; c < images.channels; ++c) {
    uint64_t sum = 0, squares = 0;  // exact: pixels are bytes
    for (int64_t i = 0; i < images.count; ++i) {
      const uint8_t* pixels = images.pixels.data() + (i * images.channels + c) * plane;
      for (int64_t k = 0; k < plane; ++k) {
        sum += pixels[k];
        squares += uint64_t{pixels[k]} * pixels[k];
      }
    }
    const double n = static_cast<double>(images.count * plane), mean = sum / n;
    result.mean[c] = mean / 255;
    const double variance = squares / n - mean * mean;
    if (variance > 0) result.stddev[c] = std::sqrt(variance) / 255;
  }
  return result;
}

ImageDataset::ImageDataset(ImageSet images, Normalization normalization, Augmentation augmentation)
    : images_(std::move(images)), normalization_(std::move(normalization)), augmentation_(augmentation) {
  check_normalization(normalization_, static_cast<size_t>(images_.channels));
  const int64_t side = std::min(images_.height, images_.width);
  check<ConfigError>(augmentation.crop_padding >= 0 && augmentation.crop_padding < std::max<int64_t>(side, 1),
                     "crop: expected a padding from 0 to below the shorter side {}, got {}", side,
                     augmentation.crop_padding);
}

ImageDataset::ImageDataset(ImageSet images) : ImageDataset(images, measure_normalization(images)) {}

Batch ImageDataset::batch(std::span<const int64_t> indices, const BatchContext& context) const {
  const int64_t n = static_cast<int64_t>(indices.size()), C = images_.channels, H = images_.height,
                W = images_.width;
  for (int64_t i : indices)
    check<ValueError>(i >= 0 && i < images_.count, "batch: index {} of {} images", i, images_.count);
  Batch batch;
  batch.size = n;
  const Tensor x = empty({n, C, H, W}, {context.for_device ? DType::u8 : DType::f32});
  batch.target = empty({n}, {DType::i64});
  const PixelScale pixels = pixel_scale(normalization_);
  int64_t* labels = batch.target.data<int64_t>();
  const NoiseKey key =
      noise_key(context.seed, context.step, site_hash("augmentation"), 0, Purpose::augmentation);
  parallel_for(n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      labels[i] = images_.labels[indices[i]];
      int64_t dy = 0, dx = 0;
      bool flip = false;
      if (context.training) {
        const uint64_t sample = context.sample_offset + i, range = 2 * augmentation_.crop_padding + 1;
        dy = static_cast<int64_t>(bounded(key, sample, 0, range)) - augmentation_.crop_padding;
        dx = static_cast<int64_t>(bounded(key, sample, 1, range)) - augmentation_.crop_padding;
        flip = augmentation_.flip && bounded(key, sample, 2, 2) == 1;
      }
      for (int64_t c = 0; c < C; ++c) {
        const uint8_t* source = images_.pixels.data() + (indices[i] * C + c) * H * W;
        const auto copy = [&]<class T>(T* target, auto value) {
          for (int64_t y = 0; y < H; ++y) {
            for (int64_t k = 0; k < W; ++k) {
              const int64_t sy = y + dy, sx = (flip ? W - 1 - k : k) + dx;
              const bool inside = sy >= 0 && sy < H && sx >= 0 && sx < W;
              target[y * W + k] = value(inside ? source[sy * W + sx] : uint8_t{0});
            }
          }
        };
        const int64_t begin_of_plane = (i * C + c) * H * W;
        if (context.for_device) {
          copy(x.data<uint8_t>() + begin_of_plane, [](uint8_t pixel) { return pixel; });
        } else {
          copy(x.data<float>() + begin_of_plane, [scale = pixels.scale[c], shift = pixels.shift[c]](
                                                     uint8_t pixel) { return shift + scale * pixel; });
        }
      }
    }
  });
  batch.inputs = {x};
  if (context.for_device) batch.finish = [pixels](Tensors& inputs) { normalise(pixels, inputs[0]); };
  return batch;
}

ImageSet subset(const ImageSet& images, std::span<const int64_t> indices) {
  ImageSet part{static_cast<int64_t>(indices.size()),
                images.channels,
                images.height,
                images.width,
                {},
                {},
                images.classes};
  const int64_t size = images.channels * images.height * images.width;
  part.pixels.reserve(indices.size() * size);
  for (int64_t i : indices) {
    check<ValueError>(i >= 0 && i < images.count, "subset: index {} of {} images", i, images.count);
    part.labels.push_back(images.labels[i]);
    part.pixels.insert(part.pixels.end(), images.pixels.begin() + i * size,
                       images.pixels.begin() + (i + 1) * size);
  }
  return part;
}

ImageDataset ImageDataset::subset(std::span<const int64_t> indices) const {
  return {data::subset(images_, indices), normalization_, augmentation_};
}

std::pair<ImageDataset, ImageDataset> fashion_mnist(const std::string& dir, Augmentation augmentation) {
  ImageSplits splits = fashion_mnist_sources(dir);
  const Normalization normalization = measure_normalization(splits.train);
  return {ImageDataset(std::move(splits.train), normalization, augmentation),
          ImageDataset(std::move(splits.test), normalization)};
}

}  // namespace tandem::data
