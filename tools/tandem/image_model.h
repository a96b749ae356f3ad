// An image classifier as a run keeps it: which model, of what configuration, for which classes and pixels.
// All of it is in the checkpoint's metadata: a checkpoint is enough to evaluate and to predict.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "nn/data/image_dataset.h"
#include "tools/tandem/checkpoint.h"
#include "tools/tandem/photo_data.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {

inline constexpr const char* kImageTask = "image classification";  // in the metadata

struct ImageModelSpec {
  std::variant<models::VitConfig, models::CnnConfig> config;
  std::vector<std::string> classes;
  data::Normalization normalization;
  std::string data;                 // where it was trained: a folder, or "fashion-mnist"
  std::optional<PhotoSpec> photos;  // of images that are made of photos of any size
  bool resized = false;             // other images were brought to the model's size and channels

  int64_t channels() const;
  int64_t image_size() const;
};

nn::Metadata to_metadata(const ImageModelSpec& spec);
// IoError when the metadata is not that of an image classifier.
ImageModelSpec image_spec(const Run& run);

TaskModel make_image_model(const ImageModelSpec& spec);
// The run's weights, in eval mode. IoError when they do not make a model of the spec.
TaskModel load_image_model(const Run& run, const ImageModelSpec& spec);

// Train and test images of a folder, or of "fashion-mnist" (data/fashion-mnist): `data` as on the command
// line.
data::ImageSplits read_images(const std::string& data);

// Images of that size and those channels: resized as Pillow does it (bicubic), grey repeated. ConfigError for
// colours that a grey model would lose.
data::ImageSet resized(data::ImageSet images, int64_t size, int64_t channels);

}  // namespace tandem::command
