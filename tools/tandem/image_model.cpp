#include "tools/tandem/image_model.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "autograd/parallel.h"
#include "nn/data/image_folder.h"
#include "nn/data/photos/transform.h"
#include "tools/corpora/fashion_mnist.h"

namespace tandem::command {
namespace {

using models::Vit, models::Cnn, models::VitConfig, models::CnnConfig;

TaskModel classifier(std::unique_ptr<Vit> model) {
  return with_objective<nn::Classification<Vit>>(std::move(model));
}
TaskModel classifier(std::unique_ptr<Cnn> model) {
  return with_objective<nn::Classification<Cnn>>(std::move(model));
}

}  // namespace

int64_t ImageModelSpec::channels() const {
  return std::visit([](const auto& c) { return c.channels; }, config);
}
int64_t ImageModelSpec::image_size() const {
  return std::visit([](const auto& c) { return c.image_size; }, config);
}

nn::Metadata to_metadata(const ImageModelSpec& spec) {
  nn::Metadata metadata{{"task", kImageTask},
                        {"model", std::holds_alternative<VitConfig>(spec.config) ? "vit" : "cnn"},
                        {"config", std::visit([](const auto& c) { return to_json(c); }, spec.config)},
                        {"classes", to_json(spec.classes)},
                        {"mean", to_json(spec.normalization.mean)},
                        {"stddev", to_json(spec.normalization.stddev)},
                        {"data", spec.data}};
  if (spec.photos) add_metadata(metadata, *spec.photos);
  if (spec.resized) metadata["resized"] = "1";
  return metadata;
}

ImageModelSpec image_spec(const Run& run) {
  ImageModelSpec spec;
  const std::string& model = run.entry("model");
  check<IoError>(model == "vit" || model == "cnn", "{}: model: expected vit or cnn, got '{}'", run.file,
                 model);
  if (model == "vit") {
    spec.config = run.entry_as<VitConfig>("config");
  } else {
    spec.config = run.entry_as<CnnConfig>("config");
  }
  spec.classes = run.entry_as<std::vector<std::string>>("classes");
  spec.normalization = {run.entry_as<std::vector<double>>("mean"),
                        run.entry_as<std::vector<double>>("stddev")};
  spec.data = run.entry("data");
  spec.photos = photo_spec(run);
  spec.resized = run.metadata.contains("resized");
  const auto classes = std::visit([](const auto& c) { return c.classes; }, spec.config);
  check<IoError>(std::ssize(spec.classes) == classes,
                 "{}: the names of {} classes do not fit the model's configuration", run.file,
                 spec.classes.size());
  const int64_t means = std::ssize(spec.normalization.mean),
                deviations = std::ssize(spec.normalization.stddev);
  check<IoError>(means == spec.channels() && deviations == spec.channels(),
                 "{}: mean and stddev: expected {} channels, got {} and {}", run.file, spec.channels(), means,
                 deviations);
  return spec;
}

TaskModel make_image_model(const ImageModelSpec& spec) {
  if (const auto* config = std::get_if<VitConfig>(&spec.config))
    return classifier(std::make_unique<Vit>(*config));
  return classifier(std::make_unique<Cnn>(std::get<CnnConfig>(spec.config)));
}

TaskModel load_image_model(const Run& run, const ImageModelSpec& spec) {
  return std::holds_alternative<VitConfig>(spec.config) ? classifier(run.model<Vit>())
                                                        : classifier(run.model<Cnn>());
}

data::ImageSet resized(data::ImageSet images, int64_t size, int64_t channels) {
  if (images.height == size && images.width == size && images.channels == channels) return images;
  check<ConfigError>(channels == 3 || channels == images.channels,
                     "--data: images of {} channels, a model of {}", images.channels, channels);
  data::ImageSet result = std::move(images);
  const std::vector<uint8_t> old = std::exchange(result.pixels, {});
  const int64_t area = result.height * result.width, from = std::exchange(result.channels, channels);
  result.pixels.resize(result.count * channels * size * size);
  parallel_for(result.count, 1, [&](int64_t begin, int64_t end) {
    data::Photo photo{result.height, result.width, std::vector<uint8_t>(4 * area)};
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t i = 0; i < area; ++i)
        for (int64_t c = 0; c < 3; ++c)
          photo.pixels[4 * i + c] = old[(n * from + std::min(c, from - 1)) * area + i];
      const data::Image image = data::planes(data::resize(photo, size, size, data::Interpolation::bicubic));
      std::copy_n(image.pixels.begin(), channels * size * size,
                  result.pixels.begin() + n * channels * size * size);
    }
  });
  result.height = result.width = size;
  return result;
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
      "--data: expected photos, train/ and test/ with one folder of PNG files per class, or IDX files, in "
      "'{}'",
      data);
}

}  // namespace tandem::command
