#include "tools/tandem/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "autograd/error.h"
#include "autograd/grad_mode.h"

namespace tandem::command {
namespace {

std::vector<Task>& registered() {
  static std::vector<Task> tasks;
  return tasks;
}

}  // namespace

const std::vector<Task>& tasks() { return registered(); }

RegisterTask::RegisterTask(Task task) { registered().push_back(std::move(task)); }

std::unique_ptr<Recipe> make_recipe(const Task& task) {
  std::unique_ptr<Recipe> recipe = task.make();
  recipe->task = task.name;
  recipe->settings.run = "runs/" + task.name;
  return recipe;
}

void declare(Command& command, Recipe& recipe) {
  recipe.declare_data(command);
  declare_passes(command, recipe.settings);
  recipe.declare_model(command);
  declare_training(command, recipe.settings, recipe.batch_unit());
  declare_run(command, recipe.settings);
}

void Recipe::evaluate(const Run& run, const std::string& data) {
  namespace fs = std::filesystem;
  check<ConfigError>(fs::is_directory(run.folder), "eval: expected a run folder for the task {}, got '{}'",
                     task, run.folder);
  // One half of a comparison has its settings in the folder above.
  const std::string above = (fs::path(run.folder) / "..").string(),
                    folder = nn::Manifest(run.folder).lists(nn::kSettingsFile) ? run.folder : above;
  Command options;
  declare(options, *this);
  if (!data.empty()) options.set("--data", {data});
  nn::read_run(folder, [&](const nn::Manifest& manifest) {
    check<ConfigError>(manifest.lists(nn::kSettingsFile), "eval: '{}' holds no run: it has no {}", run.folder,
                       nn::kSettingsFile);
    options.read(manifest.checked(nn::kSettingsFile));
  });
  settings.run = run.folder, settings.resume = true;  // the run's own vocabulary
  settings.quiet = true;
  load();
  TaskModel model = make_model();
  model.module->load_state_dict(run.tensors);
  model.module->eval();
  const NoGradGuard no_grad;
  std::vector<std::vector<std::string>> rows(2);
  for (const Score& score : scores(model, "")) {
    rows[0].push_back(score.name);
    rows[1].push_back(score.value);
  }
  print_table(rows);
  if (!footnote().empty()) fmt::print("{}\n", footnote());
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[i].size());
      i == 0 ? fmt::print("{:<{}}", row[i], width) : fmt::print("  {:>{}}", row[i], width);
    }
    fmt::print("\n");
  }
}

}  // namespace tandem::command
