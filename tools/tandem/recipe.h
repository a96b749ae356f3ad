// A recipe is what `tandem train TASK` consists of: the task's own options, its data, its model and how that
// is judged. The rest (run folder, trainer, comparison, report) is train_command's. A file of recipes/ with a
// class and a statement at its end is a new task; CONTRIBUTING.md has a whole one.
//
//   const RegisterTask lm({"lm", "language modelling: a decoder-only Transformer",
//                          make<LanguageModelRecipe>});
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/train/manifest.h"
#include "tools/tandem/checkpoint.h"
#include "tools/tandem/examples.h"
#include "tools/tandem/scores.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

struct TaskModel {
  std::unique_ptr<nn::Module> module;
  std::unique_ptr<nn::Objective> objective;  // of that module
};
// A model and an Objective(*model, options...).
template <class Objective, class Model, class... Options>
TaskModel with_objective(std::unique_ptr<Model> model, const Options&... options) {
  auto objective = std::make_unique<Objective>(*model, options...);
  return {std::move(model), std::move(objective)};
}

// A score of a mean loss and a share that is right, by batches of so many samples of the data.
Resampled resample_batches(nn::Objective& objective, const data::Dataset& dataset, int64_t batch_size,
                           const std::string& unit, std::function<double(double ce, double accuracy)> score);

// A size that a preset has too: 0 leaves the preset's.
inline void override_size(int64_t& size, int64_t wanted) { size = wanted != 0 ? wanted : size; }

class Recipe {
 public:
  virtual ~Recipe() = default;

  std::string task;  // its name
  TrainSettings settings;

  // What a recipe says.
  virtual std::string unit() const = 0;  // what a sample is: "images"
  virtual void declare_data(Command& to) = 0;
  virtual void declare_model(Command& to) = 0;
  virtual double largest_rate() const = 0;  // of the model's dropout, which --rate-scale multiplies
  // Reads the data into train_ and valid_, and says what it is, in a line or more. Whatever is wrong with the
  // data or the options shows here, or in make_model(), an option that is missing, too: where a run is
  // resumed, it has the options, so declared as required() they would be asked for again.
  virtual std::string load() = 0;
  virtual TaskModel make_model() const = 0;
  // On the test data; `run` is the folder for what was made of it, or "".
  virtual std::vector<Score> scores(TaskModel& model, const std::string& run) const = 0;

  // What it may say.
  virtual void find_options(const Command&) {}  // of those that load() may settle, declared by others
  virtual std::string batch_unit() const { return unit(); }  // what --batch-size counts
  virtual nn::ValidationMetric metric(TaskModel&) const { return {}; }
  virtual nn::Metadata metadata() const { return {}; }  // of the checkpoints, beside "task"
  virtual void save_parts(nn::Commit&) const {}         // what weights need beside them in a run folder
  // For rates and freezing by depth. ConfigError for a model that has none.
  virtual models::Depths depths(const nn::Module& model) const { return models::depths(model); }
  // In the report.
  virtual std::string training_name(int passes) const { return passes > 1 ? "R-Drop" : "plain"; }
  virtual std::string footnote() const { return {}; }  // under the report: what makes its scores comparable
  // A run's weights, in eval mode, with the data of its settings, or `data` where that is not "": what load()
  // and make_model() make of these. So what a model has learned of its training data (means, the order of
  // classes) belongs into its buffers, or into the metadata.
  virtual TaskModel open(const Run& run, const std::string& data);
  // The scores() of what open() makes.
  virtual std::vector<Score> evaluate(const Run& run, const std::string& data);
  // Whether a report can show test samples, and after open() which.
  virtual bool has_examples() const { return false; }
  virtual Examples examples(const Run&) const { return {}; }

  const data::Dataset& train() const { return made(train_.get(), "train_"); }
  const data::Dataset& valid() const { return made(valid_.get(), "valid_"); }

 protected:
  std::unique_ptr<data::Dataset> train_, valid_;
  // In the load() of open(): that run, whose names of classes have its model's numbers, whatever the data's
  // are. Null in training.
  const Run* opened_ = nullptr;

 private:
  // ConfigError where load() forgot it.
  const data::Dataset& made(const data::Dataset* dataset, const char* name) const;
};

// Adds all options of a recipe.
void declare(Command& command, Recipe& recipe);

struct Task {
  std::string name, description;
  std::function<std::unique_ptr<Recipe>()> make;
  std::string in_metadata = name;  // what checkpoints call it
};
template <class R> std::unique_ptr<Recipe> make() { return std::make_unique<R>(); }

// A recipe of a task, which runs in runs/TASK.
std::unique_ptr<Recipe> make_recipe(const Task& task);

// The tasks of `tandem train`, in the order of tools/meson.build.
const std::vector<Task>& tasks();
struct RegisterTask {
  explicit RegisterTask(Task task);
};

// Where the data of a run's settings are: as named, from this folder or from one that the run is in. So a run
// is evaluated from anywhere.
std::string find_data(const std::string& data, const std::string& run);

}  // namespace tandem::command
