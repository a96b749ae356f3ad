// Losses with torch's meaning, each pass on its own: m passes of predictions give m losses. What trains with
// R-Drop calls the losses of ops/rdrop/rdrop.h instead. bf16 is computed in f32, and the result rounded once.
// Units that are ignored are not looked at: NaN in their logits stays out of values and gradients.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// What a loss returns: one for each unit, their sum, or their mean.
enum class Reduction { none, sum, mean };

// The options of cross_entropy().
struct CrossEntropyOptions {
  int64_t ignore_index = -100;            // a label that does not count
  double label_smoothing = 0;             // in [0, 1): (1 - s) nll + s mean over classes of -log P
  Reduction reduction = Reduction::mean;  // over the units that count
  double divisor = 0;                     // of the mean; 0: the number of targets that are not ignored
};

// -log softmax(logits)[target] along the last dimension: logits [..., classes], target [...] (i64 or i32).
// The mean over nothing is 0. bf16 is computed in f32; the result is [] (none: [...]), f32 (none: the logits'
// dtype). For sum and mean one kernel gives value and gradient. ShapeError, DTypeError, DeviceError,
// ConfigError for inputs and options that do not fit; ValueError: a label out of range, or (sum and mean)
// logits as in rdrop_cross_entropy.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});

// -log_probabilities[target]; log_probabilities [..., classes], target [...] (i64 or i32). Where the target
// is ignore_index it is 0, and the mean leaves it out. Errors as of cross_entropy.
Tensor nll_loss(const Tensor& log_probabilities, const Tensor& target, Reduction reduction = Reduction::mean,
                int64_t ignore_index = -100);

// (a - b)^2; equal shapes (ShapeError), no broadcasting.
Tensor mse_loss(const Tensor& a, const Tensor& b, Reduction reduction = Reduction::mean);

// -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), from logits x, of either sign and any size to a
// relative error of a few roundings; 0 for a certain, right prediction. t in [0, 1], equal shapes.
Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& target,
                                        Reduction reduction = Reduction::mean);

// t (log t - log_probabilities), 0 with gradient 0 where t = 0 (whatever log_probabilities is there, also
// -inf); with log_target, `target` is log t. The mean is over all
// elements, as in torch: divide a sum by the batch for the divergence per sample. Equal shapes.
Tensor kl_div(const Tensor& log_probabilities, const Tensor& target, Reduction reduction = Reduction::mean,
              bool log_target = false);

}  // namespace tandem
