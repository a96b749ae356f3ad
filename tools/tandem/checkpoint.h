// A trained run, opened: what every command that uses one begins with. A run is a folder with
// best.safetensors, whose metadata has the task and the model's configuration, and for a text task the
// vocabulary beside it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/cnn/cnn.h"
#include "models/transformer/language_model.h"
#include "models/transformer/text_encoder.h"
#include "models/transformer/transformer.h"
#include "models/vit/vit.h"
#include "nn/data/vocabulary.h"
#include "nn/io/safetensors.h"

namespace tandem::command {

struct Run {
  std::string folder;  // as on the command line; or a .safetensors file
  std::string file;    // of the weights
  std::string task;    // as the metadata has it
  nn::NamedTensors tensors;
  nn::Metadata metadata;
  std::optional<data::Vocabulary> tokens;  // of a text task

  // An entry of the metadata. IoError when it is missing or another thing than T: a list, or a number.
  const std::string& entry(const std::string& key) const;
  template <class T> T entry_as(const std::string& key) const;
  const data::Vocabulary& vocabulary() const;  // IoError when the task has none

  // The model in eval mode: models::Vit, Cnn, Transformer, LanguageModel or TextEncoder. IoError when weights
  // and configuration do not make one.
  template <class Model> std::unique_ptr<Model> model() const;
};

// A line on standard error when the files of a run cannot be checked: it was made before there were
// manifests.
void warn_unchecked(const std::string& folder);

// IoError when a file of the run is missing or damaged, when the run is of none of `tasks`, or when the
// vocabulary is another's.
Run open_run(const std::string& folder, const std::vector<std::string>& tasks);

// As JSON, for the metadata: a model's configuration, or a list of strings or numbers.
template <class T> std::string to_json(const T& value);

}  // namespace tandem::command
