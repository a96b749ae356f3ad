// The R-Drop losses for any number of passes: cross-entropy (or squared error) averaged over the passes, plus
// the mean distance between every two of them. README.md: how they are computed. Source: Liang et al.,
// "R-Drop: Regularized Dropout for Neural Networks", arXiv 2106.14448, section 2, section 4.3 (m passes) and
// appendix A.4 (regression).
//
//   L = sum over counted units of [ mean_i CE(P_i, y) + alpha/2 mean_{i != j} KL(P_i || P_j) ] / divisor
//
// At m = 2 this is the paper's Eq. 4 divided by 2, so alpha is in the paper's units; at m = 1 it is plain CE.
// KL is summed over classes and the gradient flows through both of its sides. A unit is what has one label:
// an example, a token. CE and KL leave out the same units and have the same divisor.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// What the losses below weigh and count.
struct RDropOptions {
  double alpha = 1;             // weight of the distance, >= 0
  double label_smoothing = 0;   // in [0, 1): (1 - s) nll + s mean over classes of -log P; CE only
  int64_t ignore_index = -100;  // a label that does not count
  double divisor = 0;  // counted units of the whole optimizer step (all micro-batches); 0: of this call
  double weight_divisor = 0;  // of weighted classes: the counted units' weights; 0: of this call
  // On a device: nothing waits for it. ce and kl of LossParts are NaN, and read_loss_sums has the numbers.
  bool deferred = false;
};

// A loss, and what it is the sum of.
struct LossParts {
  Tensor loss;          // [], of one pass, f32 (f64 for f64): what backward() is called on
  double ce = 0;        // its first term (of regression: the squared error), divided as the loss is
  double kl = 0;        // its second term without alpha / 2
  int64_t valid = 0;    // counted units
  int64_t correct = 0;  // (pass, unit) pairs whose largest logit is the target's: at most passes * valid
  // On a device: where its kernels left the numbers above, and what they found wrong (f64). While a step is
  // being recorded nothing is computed yet and the numbers are 0: read_loss_sums reads them after a replay.
  Tensor device_sums = {};
};

// Losses of several heads: what is learned from, and its parts, add up; units and correct ones are the
// first's.
LossParts operator+(const LossParts& a, const LossParts& b);
LossParts operator*(double factor, const LossParts& parts);

// The ce, kl, valid and correct of LossParts.
struct LossSums {
  double ce = 0, kl = 0;
  int64_t valid = 0, correct = 0;
};
// The numbers of LossParts from device_sums. Waits for the device. ValueError as by the loss, for what the
// kernels found wrong; ShapeError for any other tensor.
LossSums read_loss_sums(const Tensor& device_sums);

// logits: m passes of [units..., classes], raw (softmax is inside, in f32 for bf16); target [units...], i64
// or i32; valid_mask [units...], bool or u8, true = the unit COUNTS, or undefined. A unit whose target is
// ignore_index does not count either. Where logits are the same in all passes (passes() == 1) the KL is 0 and
// CE counts once; `passes` (0: those of logits) is then the number of passes of the step, for `correct`.
// Classes at -inf in all passes are left out of KL and smoothing. One kernel gives the value and the
// gradient; first derivatives only.
// In a recorded step, an alpha and a divisor above 0 keep their proportion to those of its StepScalars.
// ConfigError: alpha < 0, divisor < 0, smoothing outside of [0, 1), any of them not finite. ShapeError,
// DTypeError and DeviceError for inputs that do not fit. ValueError: a label out of range, a target or a
// whole row at -inf, a class at -inf in only some passes, a NaN or +inf logit. Example:
//
//   const PassContext passes({.count = 3});
//   Tensor logits = dropout(ones({2, 4}).requires_grad_(), 0.5);  // of three passes
//   LossParts parts = rdrop_cross_entropy(logits, tensor({0, 3}, {DType::i64}), {.alpha = 1});
//   parts.loss.backward();
//   fmt::print("ce {:.4f}  kl {:.4f}\n", parts.ce, parts.kl);
LossParts rdrop_cross_entropy(const Tensor& logits, const Tensor& target, const RDropOptions& options = {},
                              const Tensor& valid_mask = {}, int passes = 0);

// The same for regression: mean_i (y_i - y)^2 + alpha/2 mean_{i != j} (y_i - y_j)^2 (the paper prints a norm,
// its code squares). prediction: m passes of [units...] or [units..., 1]; target [units...], which
// gets a gradient too. ValueError for values that are not finite.
LossParts rdrop_mse(const Tensor& prediction, const Tensor& target, const RDropOptions& options = {},
                    const Tensor& valid_mask = {});

// rdrop_cross_entropy(hidden weight^T + bias, ...) without ever holding all logits: some units at a time,
// whose gradients with respect to all three are made at once. hidden: m passes of [units..., D]; weight
// [classes, D]; bias [classes] or undefined. Errors as of rdrop_cross_entropy; ShapeError and DTypeError for
// a weight or bias that does not fit.
LossParts linear_rdrop_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                     const Tensor& target, const RDropOptions& options = {},
                                     const Tensor& valid_mask = {}, int passes = 0);

// The next two are terms of other ops, which take their shares of memory and time: derivatives of any order,
// but steps with them cannot be recorded (LossParts::device_sums is undefined).
//
// rdrop_cross_entropy with class_weights, f32 or f64 [classes], >= 0, of the cross-entropy alone, as
// torch.nn.CrossEntropyLoss(weight=...) has them:
//
//   L = sum_u w(y_u) mean_i CE(P_i, y_u) / sum_u w(y_u) + alpha/2 sum_u mean_{i != j} KL(P_i || P_j) / units
//
// Both divisors are the whole optimizer step's where options.weight_divisor and options.divisor say so. With
// smoothing s the cross-entropy is (1 - s) w(y) nll + s / classes sum_c w(c) (-log P_c). Logits are finite:
// others make the loss NaN. Errors as of rdrop_cross_entropy.
LossParts weighted_rdrop_cross_entropy(const Tensor& logits, const Tensor& target,
                                       const Tensor& class_weights, const RDropOptions& options = {},
                                       const Tensor& valid_mask = {}, int passes = 0);

// Each class is a label of its own, there or not, p = sigmoid(logit): logits m passes of [units..., classes],
// target floating [units..., classes] in [0, 1], valid_mask [units...].
//
//   L = sum over counted units and classes of
//         [ mean_i BCE(p_i, y) + alpha/2 mean_{i != j} KL(Bernoulli(p_i) || Bernoulli(p_j)) ] / divisor
//
// that is, of the joint distribution of independent labels: summed over classes, as the softmax's loss is,
// not averaged as torch.nn.BCEWithLogitsLoss does. Smoothing makes y to (1 - s) y + s / 2 in BCE. `correct`
// counts the (pass, unit) pairs all of whose classes are on the right side of 1/2. ShapeError, DTypeError,
// DeviceError for inputs that do not fit; ConfigError as of rdrop_cross_entropy.
LossParts rdrop_binary_cross_entropy(const Tensor& logits, const Tensor& target,
                                     const RDropOptions& options = {}, const Tensor& valid_mask = {},
                                     int passes = 0);

}  // namespace tandem
