#include "tools/tandem/image_model.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "nn/data/image_folder.h"
#include "nn/io/safetensors.h"
#include "nn/train/run_folder.h"
#include "tools/corpora/fashion_mnist.h"

namespace tandem::models {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(VitConfig, image_size, channels, classes, patch_size, dim, depth, heads,
                                   mlp_dim, dropout, attention_dropout, drop_path, dropout_from, zero_head,
                                   head_dropout)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CnnConfig, image_size, channels, classes, width, dropout)

}  // namespace tandem::models

namespace tandem::command {

using Json = nlohmann::json;

int64_t ImageModelSpec::channels() const {
  return std::visit([](const auto& c) { return c.channels; }, config);
}
int64_t ImageModelSpec::image_size() const {
  return std::visit([](const auto& c) { return c.image_size; }, config);
}

std::map<std::string, std::string> to_metadata(const ImageModelSpec& spec) {
  const bool vit = spec.config.index() == 0;
  return {{"task", "image classification"},
          {"model", vit ? "vit" : "cnn"},
          {"config", vit ? Json(std::get<0>(spec.config)).dump() : Json(std::get<1>(spec.config)).dump()},
          {"classes", Json(spec.classes).dump()},
          {"mean", Json(spec.normalization.mean).dump()},
          {"stddev", Json(spec.normalization.stddev).dump()},
          {"data", spec.data}};
}

ImageModelSpec spec_from_metadata(const std::string& file,
                                  const std::map<std::string, std::string>& metadata) {
  auto text = [&](const char* key) {
    const auto found = metadata.find(key);
    check<IoError>(found != metadata.end(), "{}: not a checkpoint of an image classifier: it has no '{}'",
                   file, key);
    return found->second;
  };
  try {
    ImageModelSpec spec;
    const std::string model = text("model"), config = text("config");
    check<IoError>(model == "vit" || model == "cnn", "{}: model: expected vit or cnn, got '{}'", file, model);
    if (model == "vit") {
      spec.config = Json::parse(config).get<models::VitConfig>();
    } else {
      spec.config = Json::parse(config).get<models::CnnConfig>();
    }
    spec.classes = Json::parse(text("classes")).get<std::vector<std::string>>();
    spec.normalization.mean = Json::parse(text("mean")).get<std::vector<double>>();
    spec.normalization.stddev = Json::parse(text("stddev")).get<std::vector<double>>();
    spec.data = text("data");
    check<IoError>(
        spec.classes.size() == std::visit([](const auto& c) { return size_t(c.classes); }, spec.config),
        "{}: the names of {} classes do not fit the model's configuration", file, spec.classes.size());
    const auto channels = static_cast<size_t>(spec.channels());
    check<IoError>(spec.normalization.mean.size() == channels && spec.normalization.stddev.size() == channels,
                   "{}: mean and stddev: expected {} channels, got {} and {}", file, channels,
                   spec.normalization.mean.size(), spec.normalization.stddev.size());
    return spec;
  } catch (const Json::exception& error) {
    raise<IoError>("{}: its model configuration cannot be read: {}", file, error.what());
  }
}

ImageModel::ImageModel(const ImageModelSpec& spec) {
  if (const auto* config = std::get_if<models::VitConfig>(&spec.config)) {
    auto vit = std::make_unique<models::Vit>(*config);
    vit_ = vit.get();
    objective = std::make_unique<nn::Classification<models::Vit>>(*vit);
    module = std::move(vit);
  } else {
    auto cnn = std::make_unique<models::Cnn>(std::get<models::CnnConfig>(spec.config));
    cnn_ = cnn.get();
    objective = std::make_unique<nn::Classification<models::Cnn>>(*cnn);
    module = std::move(cnn);
  }
}

Tensor ImageModel::forward(const Tensor& images) {
  return vit_ ? vit_->forward(images) : cnn_->forward(images);
}

namespace {

// The tensors that give a model its sizes: a configuration that the file does not hold takes no memory.
void check_sizes(const ImageModelSpec& spec, const nn::NamedTensors& tensors) {
  auto expect = [&](const char* name, const Shape& shape) {
    const Tensor* found = nn::find(tensors, name);
    check<ShapeError>(found != nullptr && found->shape() == shape, "{}: expected {}, got {}", name, shape,
                      found != nullptr ? to_string(found->shape()) : "none");
  };
  if (const auto* vit = std::get_if<models::VitConfig>(&spec.config)) {
    check<ShapeError>(vit->depth <= static_cast<int64_t>(tensors.size()), "{} blocks, but only {} tensors",
                      vit->depth, tensors.size());
    expect("patch_embed.weight", {vit->dim, vit->channels, vit->patch_size, vit->patch_size});
    expect("head.weight", {vit->classes, vit->dim});
    if (vit->depth > 0) expect("blocks.0.mlp.fc1.weight", {vit->mlp_dim, vit->dim});
    const Tensor* positions = nn::find(tensors, "positions");
    check<ShapeError>(positions != nullptr && vit->patch_size > 0 &&
                          vit->image_size / vit->patch_size <= positions->numel(),
                      "positions: too few for images of {} pixels", vit->image_size);
  } else {
    const auto& cnn = std::get<models::CnnConfig>(spec.config);
    expect("conv1.weight", {cnn.width, cnn.channels, 3, 3});
    const Tensor* head = nn::find(tensors, "head.weight");
    check<ShapeError>(head != nullptr && cnn.image_size <= head->numel(),
                      "head.weight: too small for images of {} pixels", cnn.image_size);
  }
}

}  // namespace

LoadedModel load_image_model(const std::string& run) {
  namespace fs = std::filesystem;
  check<IoError>(fs::exists(run), "{}: there is no such run folder or checkpoint", run);
  const std::string file = fs::is_directory(run) ? run + "/" + nn::kBestFile : run;
  check<IoError>(fs::exists(file), "{}: not the folder of a run with weights: it has no {}", run,
                 nn::kBestFile);
  const auto [tensors, metadata] = nn::load_safetensors(file);
  check<IoError>(!metadata.contains("epochs_done"),
                 "{}: a checkpoint for --resume, expected one of weights such as {}", file, nn::kBestFile);
  LoadedModel loaded{spec_from_metadata(file, metadata), nullptr};
  try {
    check_sizes(loaded.spec, tensors);
    loaded.model = std::make_unique<ImageModel>(loaded.spec);
    loaded.model->module->load_state_dict(tensors);
  } catch (const Error& error) {
    raise<IoError>("{}: its weights do not make a model: {}", file, error.what());
  }
  loaded.model->module->eval();
  return loaded;
}

data::ImageSplits read_images(const std::string& data) {
  if (data == "fashion-mnist") return data::get_fashion_mnist("data/fashion-mnist");
  check<ConfigError>(std::filesystem::is_directory(data),
                     "--data: expected fashion-mnist or a folder, got '{}'", data);
  if (data::has_image_splits(data)) return data::read_image_splits(data);
  for (const auto& entry : std::filesystem::directory_iterator(data)) {
    if (entry.path().filename().string().find("-ubyte") == std::string::npos) continue;
    check<ConfigError>(data::has_fashion_mnist(data),
                       "--data: '{}' lacks some of the IDX files train- and t10k-images-idx3-ubyte, "
                       "-labels-idx1-ubyte (or .gz)",
                       data);
    return data::get_fashion_mnist(data);
  }
  raise<ConfigError>(
      "--data: expected train/ and test/ with one folder of PNG files per class, or IDX files, in '{}'",
      data);
}

}  // namespace tandem::command
