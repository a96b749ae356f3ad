// An image classifier as a run keeps it: which model, of what configuration, for which classes and pixels.
// It is stored in the checkpoint's metadata, so that a checkpoint is enough to evaluate and to predict.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <variant>

#include "models/cnn/cnn.h"
#include "models/vit/vit.h"
#include "nn/data/image_dataset.h"
#include "nn/train/objective.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {

struct ImageModelSpec {
  std::variant<models::VitConfig, models::CnnConfig> config;
  std::vector<std::string> classes;
  data::Normalization normalization;
  std::string data;  // where it was trained: a folder, or "fashion-mnist"

  int64_t channels() const;
  int64_t image_size() const;
};

std::map<std::string, std::string> to_metadata(const ImageModelSpec& spec);
// IoError naming `file` when the metadata is not that of an image classifier.
ImageModelSpec spec_from_metadata(const std::string& file,
                                  const std::map<std::string, std::string>& metadata);

// A model of either kind, and its objective.
struct ImageModel {
  explicit ImageModel(const ImageModelSpec& spec);
  Tensor forward(const Tensor& images);

  // What training needs; this object is then empty.
  TaskModel release() { return {std::move(module), std::move(objective)}; }

  std::unique_ptr<nn::Module> module;
  std::unique_ptr<nn::Objective> objective;

 private:
  models::Vit* vit_ = nullptr;
  models::Cnn* cnn_ = nullptr;
};

// The best weights of a run folder (or of a .safetensors file), in eval mode.
struct LoadedModel {
  ImageModelSpec spec;
  std::unique_ptr<ImageModel> model;
};
LoadedModel load_image_model(const std::string& run);

// Train and test images of a folder, or of "fashion-mnist" (data/fashion-mnist): `data` as on the command
// line.
data::ImageSplits read_images(const std::string& data);

}  // namespace tandem::command
