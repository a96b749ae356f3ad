#include <fmt/format.h>

#include <algorithm>

#include "autograd/grad_mode.h"
#include "nn/data/png.h"
#include "ops/ops.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/image_model.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {
namespace {

void evaluate(const std::string& run, const std::string& data) {
  std::vector<std::string> known;
  for (const Task& task : tasks()) known.push_back(task.in_metadata);
  const Run opened = open_run(run, known);
  for (const Task& task : tasks())
    if (task.in_metadata == opened.task) make_recipe(task)->evaluate(opened, data);
}

void predict(const std::string& run, const std::vector<std::string>& files, int64_t top) {
  const Run opened = open_run(run, {kImageTask});
  const ImageModelSpec spec = image_spec(opened);
  const TaskModel model = load_image_model(opened, spec);
  const auto color = spec.channels() == 1 ? data::PngColor::kGray : data::PngColor::kRgb;
  const NoGradGuard no_grad;
  size_t width = 4;
  std::vector<data::Image> images;  // all are read before the first line is printed
  for (const std::string& file : files) {
    width = std::max(width, file.size());
    images.push_back(data::read_png(file, color));
    check<IoError>(images.back().height == spec.image_size() && images.back().width == spec.image_size(),
                   "{}: the image is {}x{} pixels; the model was trained on {}x{}", file, images.back().width,
                   images.back().height, spec.image_size(), spec.image_size());
  }
  fmt::print("{:<{}}  {:>11}  {}\n", "file", width, "probability", "class");
  for (size_t at = 0; at < files.size(); ++at) {
    data::Image& image = images[at];
    const data::ImageDataset one(
        data::ImageSet{
            1, image.channels, image.height, image.width, std::move(image.pixels), {0}, spec.classes},
        spec.normalization);
    const int64_t index = 0;
    const data::Batch batch = one.batch(std::span(&index, 1), {}).to(model.module->device());
    const Tensor logits = model.objective->forward(batch);
    const auto [probability, label] =
        topk(softmax(logits, -1), std::min<int64_t>(top, spec.classes.size()), -1);
    const auto p = probability.to_vector<double>();
    const auto c = label.to_vector<int64_t>();
    for (size_t i = 0; i < p.size(); ++i) {
      fmt::print("{:<{}}  {:>10.2f}%  {}\n", i == 0 ? files[at] : "", width, 100 * p[i], spec.classes[c[i]]);
    }
  }
}

}  // namespace

void add_run(Command& root) {
  auto run = std::make_shared<std::string>(), data = std::make_shared<std::string>();
  auto device = std::make_shared<std::string>("auto");
  Command eval = root.add("eval", "test scores of a run's best weights");
  eval.argument("run", *run, "run folder, or a .safetensors file").required();
  eval.option("--data", *data, anything(), "data set or folder (default: the run's)");
  eval.device(*device);
  eval.run([=] {
    const nn::InitScope scope({.device = load_device(*device)});
    evaluate(*run, *data);
  });

  Command predict_command = root.add("predict", "classes of PNG files, with their probabilities");
  auto files = std::make_shared<std::vector<std::string>>();
  auto top = std::make_shared<int64_t>(1);
  predict_command.argument("run", *run, "run folder, or a .safetensors file").required();
  predict_command.argument("files", *files, "PNG files of the size the model was trained on").required();
  predict_command.option("--top", *top, integer(1), "classes to show for each");
  predict_command.device(*device);
  predict_command.run([=] {
    const nn::InitScope scope({.device = load_device(*device)});
    predict(*run, *files, *top);
  });
}

}  // namespace tandem::command
