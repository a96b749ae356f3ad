// Labelled images as a data set: normalised f32 tensors [B, C, H, W], with the usual augmentation.
#pragma once

#include <utility>

#include "nn/data/dataset.h"
#include "nn/data/images.h"
#include "nn/data/normalization.h"

namespace tandem::data {

// For training batches only; evaluation sees the images as they are.
struct Augmentation {
  int64_t crop_padding = 0;  // pad by this many zero pixels on every side, then crop the old size at random
  bool flip = false;         // left-right, with probability 1/2
};

// Of those images. A channel that is the same everywhere is only centred (deviation 1). ConfigError when
// there are no pixels.
Normalization measure_normalization(const ImageSet& images);

// Those images, in that order. ValueError for an index that is not there.
ImageSet subset(const ImageSet& images, std::span<const int64_t> indices);

class ImageDataset final : public Dataset {
 public:
  // ConfigError when the normalization or the padding does not fit the images.
  ImageDataset(ImageSet images, Normalization normalization, Augmentation augmentation = {});
  explicit ImageDataset(ImageSet images);  // normalised by its own mean and deviation

  int64_t size() const override { return images_.count; }
  // inputs {f32 [B, C, H, W]}, target i64 [B]; for a device {u8 [B, C, H, W]}, normalised by Batch::to.
  // ValueError for an index outside of [0, size()).
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;

  const ImageSet& images() const { return images_; }                     // as they are
  const Normalization& normalization() const { return normalization_; }  // of every batch
  // How many there are.
  int64_t classes() const { return static_cast<int64_t>(images_.classes.size()); }

  // Those images, in that order. ValueError as of batch().
  ImageDataset subset(std::span<const int64_t> indices) const;

 private:
  ImageSet images_;
  Normalization normalization_;
  Augmentation augmentation_;
};

// Fashion-MNIST from `dir`, normalised by the training images: {train, test}. IoError as of
// fashion_mnist_sources.
std::pair<ImageDataset, ImageDataset> fashion_mnist(const std::string& dir, Augmentation augmentation = {});

}  // namespace tandem::data
