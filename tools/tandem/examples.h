// The test samples of a task as a report shows them (report/report.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nn/data/dataset.h"
#include "nn/data/normalization.h"

namespace tandem::command {

// A text that a model made.
struct MadeText {
  std::string source, expected, made;
  double score = 0;  // of what was made; more is better
};

struct Examples {
  // Of a classifier, else null: targets are classes, and the objective's forward gives logits of them,
  // [B, classes], or [B, T, classes] of the tokens of texts.
  const data::Dataset* samples = nullptr;  // the recipe's
  std::vector<std::string> classes = {};
  std::string unit = {};  // what is classified: "images", "words"
  // Whether a forward in training mode is a pass of the sample: not so of a method that mixes samples.
  bool has_passes = true;
  // How a sample is shown: its first input [C, H, W] is a picture with this normalization, or as a text.
  std::optional<data::Normalization> pixels = {};
  std::function<std::string(int64_t sample, int64_t token)> text = {};

  // Of a model that makes texts, in any order, and what the score is.
  std::vector<MadeText> made = {};
  std::string score = {};
};

}  // namespace tandem::command
