// What is done to a photo on its way to a model: crops, flips and colours of training, the crop of
// evaluation. All chance is a pure function of a sample's draws, so that a picture is the same in every run,
// on every number of threads, and after a resume.
#pragma once

#include <cstdint>

#include "autograd/noise.h"
#include "nn/data/photos/resample.h"
#include "nn/data/png.h"

namespace tandem::data {

// Random numbers of one sample in one pass, one after the other.
class Draws {
 public:
  Draws(NoiseKey key, uint64_t sample, uint32_t pass) : key_(key), sample_(sample), pass_(pass) {}

  double uniform();                                                    // in [0, 1)
  double uniform(double low, double high);                             // in [low, high)
  int64_t integer(int64_t end);                                        // in [0, end); 0 where end is below 1
  bool chance(double probability) { return uniform() < probability; }  // true with it

 private:
  NoiseKey key_;
  uint64_t sample_, position_ = 0;
  uint32_t pass_;
};

// Of training pictures.
struct PhotoAugmentation {
  double crop_scale = 0.25;  // least part of the area that a crop has, of 3/4 to 4/3 as wide as high; 1: the
                             // crop of evaluation
  double flip = 0.5;         // probability of left for right
  int rand_augment = 0;      // operations of RandAugment (Cubuk et al. 2020, arXiv 1909.13719); 0: none
  double magnitude = 9;      // of these: 0 to 30
  double color_jitter = 0;   // brightness, contrast and saturation are multiplied by 1 - this to 1 + this
  double erasing = 0;        // probability that a rectangle is erased (Zhong et al. 2020, arXiv 1708.04896)
};

// ConfigError naming the option that is out of its range.
void check_augmentation(const PhotoAugmentation& augmentation);

// The pixels that a model sees of a picture.
struct PhotoView {
  int64_t size = 224;                                    // pixels on a side
  Interpolation interpolation = Interpolation::bicubic;  // when resizing
  double crop_pct = 0.875;  // part of the shorter side that evaluation sees, of the middle
};

// Evaluation: the shorter side is resized to size / crop_pct, and the middle is cut out.
Photo evaluation_view(const PhotoFile& file, const PhotoView& view);
// Training: a random crop, resized, and the rest of the augmentation. What is erased has the colour `fill`.
Photo training_view(const PhotoFile& file, const PhotoView& view, const PhotoAugmentation& augmentation,
                    const uint8_t (&fill)[3], Draws& draws);

// Its three planes.
Image planes(const Photo& photo);

// A crop as random resized crops have it: of at least `least` of the area, 3/4 to 4/3 as wide as high.
Region random_crop(int64_t height, int64_t width, double least, Draws& draws);

}  // namespace tandem::data
