// Lengths of vectors, which lie along dimensions of a tensor, and what is scaled by them. Powers and sums are
// computed in f64 and rounded once: of bf16 and f32 none over- or underflows for p up to 6 (of larger p, and
// of f64, as in torch: where the p-th power of an element does). Differentiable twice; at a vector of
// zeros, as at every kink, the derivative is 0. DTypeError for integers, ShapeError for a dim that x does not
// have or that is named twice.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// (sum of |x|^p)^(1/p) over `dims`, or all where it is empty; keepdim leaves size 1 in their place. p above
// 0; infinity: the largest |x|; -infinity: the smallest. torch.linalg.vector_norm, and torch.norm with dims.
// The norm of no elements is 0. ValueError for another p; ShapeError for an infinite p of no elements.
Tensor norm(const Tensor& x, double p = 2, const Shape& dims = {}, bool keepdim = false);

// x / max(norm(x, p) along dim, eps).
Tensor normalize(const Tensor& x, double p = 2, int64_t dim = 1, double eps = 1e-12);

// The cosine of the angle between a and b along dim: the sum of a / max(|a|, eps) * b / max(|b|, eps). Both
// are broadcast, and dim is one of the broadcast shape: [N, 1, D] and [M, D] along 2 (or -1) give [N, M], as
// one matrix product.
Tensor cosine_similarity(const Tensor& a, const Tensor& b, int64_t dim = 1, double eps = 1e-8);

}  // namespace tandem
