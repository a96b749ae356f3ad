// R-Drop losses in terms of other ops, which take their shares of memory and time: classes that weigh
// differently, and several labels of one unit. Derivatives of any order; steps with them are not recorded
// (LossParts::device_sums is undefined).
#pragma once

#include "ops/rdrop/rdrop.h"

namespace tandem {

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
