#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "autograd/grad_mode.h"
#include "autograd/tell.h"
#include "nn/data/png.h"
#include "nn/train/run_folder.h"
#include "ops/ops.h"
#include "tools/tandem/commands.h"
#include "tools/tandem/image_model.h"
#include "tools/tandem/recipe.h"

namespace tandem::command {
namespace {

struct EvalOptions {
  std::string run, data, device = "auto";
  bool json = false;
};

// The runs of a folder: itself, or both halves of a comparison.
std::vector<std::string> runs_of(const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path path = folder;
  if (!fs::is_directory(path) || fs::exists(path / nn::kBestFile)) return {folder};
  std::vector<std::string> halves;
  for (const char* half : {"plain", "rdrop"})
    if (fs::exists(path / half / nn::kBestFile)) halves.push_back((path / half).string());
  return halves.empty() ? std::vector{folder} : halves;
}

void evaluate(const EvalOptions& o) {
  std::vector<std::string> known;
  for (const Task& task : tasks()) known.push_back(task.in_metadata);
  const std::vector<std::string> runs = runs_of(o.run);
  std::vector<std::vector<std::string>> rows;
  std::vector<Score> first;
  std::string footnote, gap;
  for (const std::string& run : runs) {
    const Run opened = open_run(run, known);
    const auto task = std::find_if(tasks().begin(), tasks().end(),
                                   [&](const Task& t) { return t.in_metadata == opened.task; });
    const std::unique_ptr<Recipe> recipe = make_recipe(*task);
    const std::vector<Score> scores = recipe->evaluate(opened, o.data);
    footnote = recipe->footnote();
    const auto interval = first.empty() ? std::nullopt : difference(first, scores);
    if (interval) gap = describe(*interval);
    if (o.json) fmt::print("{}\n", scores_to_json({{"run", run}, {"task", opened.task}}, scores, interval));
    std::vector<std::string> names{"run"}, row{run};
    for (const Score& score : scores) names.push_back(score.name), row.push_back(score.value);
    if (rows.empty()) rows.push_back(names), first = scores;
    rows.push_back(row);
  }
  if (o.json) return;
  if (runs.size() == 1)
    for (auto& row : rows) row.erase(row.begin());
  print_table(rows);
  for (const std::string& line : {gap, footnote})
    if (!line.empty()) fmt::print("{}\n", line);
}

// The image of a file, as the model takes it.
data::Image read_image(const std::string& file, const ImageModelSpec& spec) {
  if (spec.photos)
    return data::planes(data::evaluation_view(data::PhotoFile(file), spec.photos->view(spec.image_size())));
  data::Image image =
      data::read_png(file, spec.channels() == 1 ? data::PngColor::kGray : data::PngColor::kRgb);
  if (spec.resized) {
    data::ImageSet one =
        resized({1, image.channels, image.height, image.width, std::move(image.pixels), {0}, {}},
                spec.image_size(), spec.channels());
    return {one.channels, one.height, one.width, std::move(one.pixels)};
  }
  check<IoError>(image.height == spec.image_size() && image.width == spec.image_size(),
                 "{}: the image is {}x{} pixels; the model was trained on {}x{}", file, image.width,
                 image.height, spec.image_size(), spec.image_size());
  return image;
}

void predict(const std::string& run, const std::vector<std::string>& files, int64_t top) {
  const Run opened = open_run(run, {kImageTask});
  const ImageModelSpec spec = image_spec(opened);
  const TaskModel model = load_image_model(opened, spec);
  const NoGradGuard no_grad;
  size_t width = 4, bad = 0, shown = 0;
  for (const std::string& file : files) width = std::max(width, file.size());
  for (const std::string& file : files) {
    data::Image image;
    try {
      image = read_image(file, spec);
    } catch (const IoError& error) {
      if (files.size() == 1) throw;
      tell("tandem: {}", error.what());  // the others have their classes all the same
      ++bad;
      continue;
    }
    const data::ImageDataset one(
        data::ImageSet{
            1, image.channels, image.height, image.width, std::move(image.pixels), {0}, spec.classes},
        spec.normalization);
    const int64_t index = 0;
    const data::Batch batch = one.batch(std::span(&index, 1), {}).to(model.module->device());
    const Tensor logits = model.objective->forward(batch);
    const bool sets = spec.photos && spec.photos->label_sets;  // each label has a probability of its own
    const auto [probability, label] =
        topk(sets ? sigmoid(logits) : softmax(logits, -1), std::min<int64_t>(top, spec.classes.size()), -1);
    const auto p = probability.to_vector<double>();
    const auto c = label.to_vector<int64_t>();
    if (shown++ == 0) fmt::print("{:<{}}  {:>11}  {}\n", "file", width, "probability", "class");
    for (size_t i = 0; i < p.size(); ++i) {
      fmt::print("{:<{}}  {:>10.2f}%  {}\n", i == 0 ? file : "", width, 100 * p[i], spec.classes[c[i]]);
    }
  }
  check<IoError>(bad == 0, "predict: {} of {} files have no class", bad, files.size());
}

}  // namespace

void add_run(Command& root) {
  auto o = std::make_shared<EvalOptions>();
  Command eval = root.add("eval", "test scores of a run's best weights");
  eval.argument("run", o->run, "run folder, also of a --compare, or a .safetensors file").required();
  eval.option("--data", o->data, anything(), "data set or folder (default: the run's)");
  eval.flag("--json", o->json, "a line of JSON for each run instead of the table");
  eval.device(o->device);
  eval.examples({"tandem eval runs/vit", "tandem eval runs/translate        # both halves of a --compare",
                 "tandem eval runs/vit --data other-images --json"});
  eval.run([=] {
    const nn::InitScope scope({.device = load_device(o->device)});
    evaluate(*o);
  });

  Command predict_command = root.add("predict", "classes of images, with their probabilities");
  auto run = std::make_shared<std::string>(), device = std::make_shared<std::string>("auto");
  auto files = std::make_shared<std::vector<std::string>>();
  auto top = std::make_shared<int64_t>(1);
  predict_command.argument("run", *run, "run folder, or a .safetensors file").required();
  predict_command.argument("files", *files, "photos, or PNG files of the size the model was trained on")
      .required();
  predict_command.option("--top", *top, integer(1), "classes to show for each");
  predict_command.device(*device);
  predict_command.examples({"tandem predict runs/vit shirt.png shoe.jpg --top 3"});
  predict_command.run([=] {
    const nn::InitScope scope({.device = load_device(*device)});
    predict(*run, *files, *top);
  });
}

}  // namespace tandem::command
