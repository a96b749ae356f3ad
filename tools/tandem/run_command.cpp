#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "autograd/grad_mode.h"
#include "nn/data/png.h"
#include "nn/io/safetensors.h"
#include "nn/io/text.h"
#include "nn/train/run_folder.h"
#include "nn/train/trainer.h"
#include "ops/ops.h"
#include "tools/tandem/command.h"
#include "tools/tandem/image_model.h"
#include "tools/tandem/options.h"
#include "tools/tandem/recipe.h"
#include "tools/tandem/text_model.h"

namespace tandem::command {
namespace {

// The task that weights were trained for; "vit" for images.
std::string task_of(const std::string& run) {
  namespace fs = std::filesystem;
  const std::string file = fs::is_directory(run) ? run + "/" + nn::kBestFile : run;
  if (!fs::is_regular_file(file)) return "vit";  // whose loader says what is wrong
  const nn::Metadata metadata = nn::load_safetensors(file).metadata;
  for (const Task& task : tasks()) {
    const auto found = metadata.find("task");
    if (found != metadata.end() && found->second == task.name) return task.name;
  }
  return "vit";
}

// The scores of a text run's best weights on the test data of its settings, or of the folder `data`.
void evaluate_text(const std::string& run, const std::string& data, const std::string& name) {
  namespace fs = std::filesystem;
  check<ConfigError>(fs::is_directory(run), "eval: expected a run folder for the task {}, got '{}'", name,
                     run);
  // One half of a comparison has its settings in the folder above.
  const std::string folder =
      fs::exists(run + "/" + kSettingsFile) ? run : fs::path(run + "/").parent_path().parent_path().string();
  const TextRun weights = load_text_run(run, {name});
  const Task& task =
      *std::find_if(tasks().begin(), tasks().end(), [&](const Task& t) { return t.name == name; });
  const std::unique_ptr<Recipe> given = task.make(), recipe = task.make();
  CLI::App command, merged;
  declare(command, *given);
  declare(merged, *recipe);
  given->settings.run = folder.empty() ? "." : folder;
  std::vector<std::string> arguments = resumed_arguments(given->settings, command);
  if (!data.empty()) arguments.insert(arguments.begin(), "--data=" + data);
  parse_arguments(merged, arguments, given->settings.run);
  recipe->settings.run = run, recipe->settings.resume = true;  // the run's own vocabulary
  recipe->settings.quiet = true;
  recipe->load();
  const std::unique_ptr<TaskModel> model = recipe->make_model();
  model->module->load_state_dict(weights.tensors);
  model->module->eval();
  const NoGradGuard guard;
  std::vector<std::vector<std::string>> rows(2);
  for (const Score& score : recipe->scores(*model, "")) {
    rows[0].push_back(score.name);
    rows[1].push_back(score.value);
  }
  print_table(rows);
  if (!recipe->footnote().empty()) fmt::print("{}\n", recipe->footnote());
}

// The metrics of a run's best weights on the test images.
void evaluate(const std::string& run, std::string data) {
  LoadedModel loaded = load_image_model(run);
  if (data.empty()) data = loaded.spec.data;
  data::ImageSet test = read_images(data).test;
  check<ConfigError>(test.classes == loaded.spec.classes,
                     "--data: the classes of '{}' ({}) are not those of the run ({})", data,
                     data::join(test.classes, ", "), data::join(loaded.spec.classes, ", "));
  check<ConfigError>(test.height == loaded.spec.image_size() && test.width == loaded.spec.image_size() &&
                         test.channels == loaded.spec.channels(),
                     "--data: the images of '{}' are {}x{}x{}, the run's {}x{}x{}", data, test.channels,
                     test.height, test.width, loaded.spec.channels(), loaded.spec.image_size(),
                     loaded.spec.image_size());
  const data::ImageDataset dataset(std::move(test), loaded.spec.normalization);
  const nn::Metrics metrics = nn::evaluate(*loaded.model->objective, dataset);
  fmt::print("{:<10} {:>10} {:>10} {:>10}\n", "images", "accuracy", "CE", "images/s");
  fmt::print("{:<10} {:>9.2f}% {:>10.4f} {:>10.0f}\n", dataset.size(), 100 * metrics.accuracy, metrics.ce,
             metrics.samples_per_second);
}

void predict(const std::string& run, const std::vector<std::string>& files, int64_t top) {
  LoadedModel loaded = load_image_model(run);
  const ImageModelSpec& spec = loaded.spec;
  const auto color = spec.channels() == 1 ? data::PngColor::kGray : data::PngColor::kRgb;
  NoGradGuard guard;
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
    const data::Batch batch = one.batch(std::span(&index, 1), {}).to(loaded.model->module->device());
    const Tensor logits = loaded.model->forward(batch.inputs[0]);
    const auto [probability, label] =
        topk(softmax(logits, -1), std::min<int64_t>(top, spec.classes.size()), -1);
    const auto p = probability.to_vector<double>();
    const auto c = label.to_vector<int64_t>();
    for (size_t i = 0; i < p.size(); ++i) {
      fmt::print("{:<{}}  {:>10.2f}%  {}\n", i == 0 ? files[at] : "", width, 100 * p[i], spec.classes[c[i]]);
    }
  }
}

void add_device(CLI::App& command, std::string& device) {
  command.add_option("--device", device, kDeviceHelp)->check(device_name())->capture_default_str();
}

}  // namespace

void add_run(CLI::App& app) {
  auto run = std::make_shared<std::string>();
  auto device = std::make_shared<std::string>("auto");
  CLI::App* eval = app.add_subcommand("eval", "test scores of a run's best weights");
  auto data = std::make_shared<std::string>();
  eval->add_option("run", *run, "run folder, or a .safetensors file")->required();
  eval->add_option("--data", *data, "data set or folder (default: the run's)");
  add_device(*eval, *device);
  eval->callback([=] {
    const nn::InitScope scope({.device = load_device(*device)});
    const std::string task = task_of(*run);
    task == "vit" ? evaluate(*run, *data) : evaluate_text(*run, *data, task);
  });

  CLI::App* predict_command = app.add_subcommand("predict", "classes of PNG files, with their probabilities");
  auto files = std::make_shared<std::vector<std::string>>();
  auto top = std::make_shared<int64_t>(1);
  predict_command->add_option("run", *run, "run folder, or a .safetensors file")->required();
  predict_command->add_option("files", *files, "PNG files of the size the model was trained on")->required();
  predict_command->add_option("--top", *top, "classes to show for each")
      ->check(integer(1))
      ->capture_default_str();
  add_device(*predict_command, *device);
  predict_command->callback([=] {
    const nn::InitScope scope({.device = load_device(*device)});
    predict(*run, *files, *top);
  });
}

}  // namespace tandem::command
