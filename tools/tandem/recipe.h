// A recipe is what `tandem train TASK` consists of: the task's own options, its data, its model and how that
// is judged. The rest (run folder, trainer, comparison, report) is train_command's.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/io/safetensors.h"
#include "tools/tandem/train_settings.h"

namespace tandem::command {

struct TaskModel {
  std::unique_ptr<nn::Module> module;
  std::unique_ptr<nn::Objective> objective;  // of that module
};

struct Score {
  std::string name, value;  // a column of the report: "test accuracy", "81.03%"
};

class Recipe {
 public:
  virtual ~Recipe() = default;

  TrainSettings settings;

  virtual std::string unit() const = 0;                      // what a sample is: "images"
  virtual std::string batch_unit() const { return unit(); }  // what --batch-size counts
  virtual void declare_data(OptionAdder& to) = 0;
  virtual void declare_model(OptionAdder& to) = 0;
  virtual double largest_rate() const = 0;  // of the model's dropout

  // Reads the data. Whatever is wrong with it or with the options shows here, or in make_model().
  virtual void load() = 0;
  virtual std::string summary() const = 0;  // of the data, a line or more
  virtual const data::Dataset& train() const = 0;
  virtual const data::Dataset& valid() const = 0;
  virtual std::unique_ptr<TaskModel> make_model() const = 0;
  virtual nn::Metadata metadata() const = 0;
  // What a run is called in the report.
  virtual std::string training_name(int passes) const { return passes > 1 ? "R-Drop" : "plain"; }
  virtual nn::ValidationMetric metric(TaskModel&) const { return {}; }
  // On the test data; `run` is the folder for what was made of it, or "".
  virtual std::vector<Score> scores(TaskModel& model, const std::string& run) const = 0;
  virtual std::string footnote() const { return {}; }   // under the report: what makes its scores comparable
  virtual void save_parts(const std::string&) const {}  // what weights need beside them in a run folder
};

// The tasks of `tandem train`.
struct Task {
  std::string name, description;
  std::unique_ptr<Recipe> (*make)();
};
const std::vector<Task>& tasks();

// Adds all options of a recipe.
void declare(CLI::App& command, Recipe& recipe);
// Of arguments that come from the settings of `run`: ConfigError names that file.
void parse_arguments(CLI::App& command, std::vector<std::string> arguments, const std::string& run);

// Rows of text in columns as wide as what stands in them, the first to the left.
void print_table(const std::vector<std::vector<std::string>>& rows);

std::unique_ptr<Recipe> make_vit_recipe();
std::unique_ptr<Recipe> make_translate_recipe();
std::unique_ptr<Recipe> make_summarize_recipe();
std::unique_ptr<Recipe> make_lm_recipe();
std::unique_ptr<Recipe> make_classify_recipe();
std::unique_ptr<Recipe> make_similarity_recipe();
std::unique_ptr<Recipe> make_mlm_recipe();

}  // namespace tandem::command
