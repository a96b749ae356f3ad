// The photos of an image classifier: their options, and the data sets that these make.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/vit/vit.h"
#include "nn/data/photos/photo_dataset.h"
#include "nn/train/manifest.h"
#include "tools/tandem/checkpoint.h"
#include "tools/tandem/command.h"

namespace tandem::command {

// How a trained model sees photos, and which of its data it was not trained on: in the metadata.
struct PhotoSpec {
  std::string interpolation = "bicubic";
  double crop_pct = 0.875;
  int64_t split_seed = 0, valid = 0;  // as of data::PhotoOptions
  bool label_sets = false;            // --multi-label

  data::PhotoView view(int64_t size) const;
  data::PhotoOptions split(bool skip_bad) const;
};
void add_metadata(nn::Metadata& metadata, const PhotoSpec& spec);
// Nothing where the run's images are not photos. IoError when they are damaged.
std::optional<PhotoSpec> photo_spec(const Run& run);

class PhotoChoice {
 public:
  void declare(Command& to);                  // the options
  void find_options(const Command& command);  // --batch-size

  // The photos of `data`; nothing where it is a set of images that are trained on as they are: IDX files, PNG
  // files of one size in train/ and test/, or what does not exist. IoError as of data::find_photos.
  std::optional<data::PhotoSplits> find(const std::string& data, int64_t valid, bool pretrained);

  // The size of images for a model of that preset, as asked for or fitting the photos, or the model's where
  // it is pretrained.
  int64_t choose_size(const data::PhotoSplits& photos, const models::VitConfig& preset, bool pretrained);
  // --image-size; 0: not given.
  int64_t image_size() const { return image_size_; }
  // Samples of a step, fewer than usual for few photos and for little memory, unless they were given.
  void choose_batch(int64_t photos, int64_t bytes_of_sample);

  // Training photos (or others) as the model's input.
  std::unique_ptr<data::PhotoDataset> dataset(data::PhotoList photos, int64_t size,
                                              const data::Normalization& normalization) const;
  PhotoSpec spec(int64_t valid) const;
  bool label_sets() const { return label_sets_; }  // --multi-label
  bool augments_passes() const { return augment_passes_; }
  // What was found and chosen, in lines.
  std::string describe(const data::PhotoSplits& photos, int64_t size) const;

 private:
  bool asked(bool pretrained) const;  // for what photos alone have

  int64_t image_size_ = 0, split_seed_ = 0, rand_augment_ = 0;
  std::string interpolation_ = "bicubic", on_bad_ = "stop";
  double crop_pct_ = 0.875;
  bool augment_passes_ = false, label_sets_ = false;
  data::PhotoAugmentation augmentation_;
  Option image_size_option_, batch_size_option_;
};

// Those that were left out, the first few by name: "" or lines, each begun by a line break.
std::string describe_bad(const std::vector<std::string>& bad);

// The side of patches that fits images of that size: the preset's, or else what gives about 8 x 8 of them.
int64_t fitting_patch(int64_t image_size, const models::VitConfig& preset);

// Bytes of the activations of a training step for a sample and a pass, about.
int64_t activation_bytes(const models::VitConfig& config);

}  // namespace tandem::command
