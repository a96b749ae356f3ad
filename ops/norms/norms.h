// Normalisation: xhat = (x - mean) / sqrt(var + eps), y = xhat * weight + bias, where mean and the biased
// variance are of a part of ONE sample (layer, rms and group norm) or of a channel of ONE pass's batch (batch
// norm). Nothing is ever normalised across passes.
//
// x is bf16, f32 or f64; bf16 is computed in f32. weight and bias are optional (an undefined Tensor) and
// have x's dtype, or f32 beside a bf16 x. Layer and RMS norm give a result of x's dtype, or of another
// floating one, which is rounded once: bf16 of f32 is written as such. Errors: ShapeError for a weight or
// bias of another shape than stated, DTypeError for other dtypes. Gradients are fused kernels; under
// create_graph they are composed of recorded ops, so that second derivatives exist.
#pragma once

#include <optional>

#include "autograd/tensor.h"

namespace tandem {

// Over the trailing dimensions of x, whose sizes are normalized_shape; weight and bias have that shape.
// Ba, Kiros & Hinton 2016, arXiv 1607.06450.
Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = {},
                  const Tensor& bias = {}, double eps = 1e-5, std::optional<DType> dtype = {});

// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension; weight [x.size(-1)].
// Zhang & Sennrich 2019, arXiv 1910.07467.
Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, double eps = 1e-6,
                std::optional<DType> dtype = {});

// x [N, C, ...]: over C / groups channels and all positions of a sample; weight and bias [C]. ValueError when
// groups does not divide C. Wu & He 2018, arXiv 1803.08494.
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight = {}, const Tensor& bias = {},
                  double eps = 1e-5);

// Mean and variance of every channel: [C], f32 for an x of bf16, otherwise in x's dtype. Those of a batch
// have the passes of x, and their variance is the unbiased one (divisor n - 1); they carry no gradient.
struct BatchStatistics {
  Tensor mean, var;  // [C] each
};

// x [N, C] or [N, C, ...]: over the samples and positions of a channel; weight and bias [C].
// In training by the statistics of the batch, each pass by its own: ValueError when there is but one value
// per channel. In evaluation by `running`, value by value: ValueError when it is undefined. Ioffe & Szegedy
// 2015, arXiv 1502.03167.
// The batch is that of all ranks which compute it together (PassOptions::ranks).
// `relu`: of the result, in the same sweep on the CPU.
Tensor batch_norm(const Tensor& x, const BatchStatistics& running, const Tensor& weight, const Tensor& bias,
                  bool training, double eps = 1e-5, bool relu = false);

// Batch norm in training, and the statistics it normalised by.
struct NormalisedBatch {
  Tensor y;               // as batch_norm()
  BatchStatistics batch;  // of x
};
NormalisedBatch batch_norm_training(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {},
                                    double eps = 1e-5, bool relu = false);

// running = (1 - momentum) * running + momentum * batch, where the passes of a batch count as one: by their
// average. In place; not recorded.
void update_running(const BatchStatistics& running, const BatchStatistics& batch, double momentum = 0.1);

}  // namespace tandem
