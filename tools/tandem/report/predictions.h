// What a run's best weights say of test samples.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "nn/metrics/classes.h"
#include "nn/train/objective.h"
#include "tools/tandem/examples.h"

namespace tandem::report {

// Of one sample, or of one token of a sample.
struct Prediction {
  int64_t sample = 0, token = 0;      // token: 0 where the sample is what is classified
  int64_t target = 0, predicted = 0;  // classes
  double confidence = 0;              // probability of the predicted class
  double of_target = 0;               // of the right one
  double disagreement = NAN;          // the KL of two noisy passes as the loss has it; NaN: there is no noise
  int64_t passes[2] = {0, 0};         // the class that each of these predicts
};

struct Predictions {
  std::vector<Prediction> all;
  int64_t samples = 0;  // how many of the data set's were looked at

  metrics::Confusion confusion(int64_t classes) const;
  std::vector<metrics::ReliabilityBin> reliability() const;
  // The mistakes whose right class was least likely, and the largest disagreements: at most so many.
  std::vector<Prediction> worst(size_t most) const;
  std::vector<Prediction> disagreeing(size_t most) const;
};

// The noise of a run's passes.
struct NoiseOptions {
  std::vector<double> rates = {};  // of the two, or none
  double rate_scale = 1;
};

// Of `most` samples, drawn at random, always the same; or of all where there are no more. Probabilities are
// those of eval mode; disagreements are of two passes in training mode. The module's modes stay as they were.
// ShapeError where the logits are not those of `classes`.
Predictions predict(nn::Objective& objective, const command::Examples& examples, int64_t most,
                    const NoiseOptions& noise);

}  // namespace tandem::report
