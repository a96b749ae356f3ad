#include "tools/tandem/recipe.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/error.h"

namespace tandem::command {

const std::vector<Task>& tasks() {
  static const std::vector<Task> all{
      {"vit", "image classification: a ViT (or a small CNN), plain or with R-Drop", make_vit_recipe},
      {"translate", "translation: an encoder-decoder Transformer", make_translate_recipe},
      {"summarize", "summarization: an encoder-decoder Transformer", make_summarize_recipe},
      {"lm", "language modelling: a decoder-only Transformer", make_lm_recipe},
      {"classify", "classification of texts, or of pairs of them: an encoder", make_classify_recipe},
      {"similarity", "how alike two texts are, a number: an encoder", make_similarity_recipe},
      {"mlm", "pre-training of an encoder: masked language modelling", make_mlm_recipe},
  };
  return all;
}

void declare(CLI::App& command, Recipe& recipe) {
  OptionAdder to(command);
  recipe.declare_data(to);
  declare_passes(to, recipe.settings);
  recipe.declare_model(to);
  declare_training(to, recipe.settings, recipe.batch_unit());
  declare_run(to, recipe.settings);
}

void parse_arguments(CLI::App& command, std::vector<std::string> arguments, const std::string& run) {
  try {
    command.parse(arguments);
  } catch (const CLI::ParseError& error) {
    raise<ConfigError>("{}/{}: {}", run, kSettingsFile, error.what());
  }
}

// Columns as wide as what stands in them.
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
